"""Who keeps the items of a map: nobody, or the database. The runner asks both the same way."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from mnesis.ids import now_ms
from mnesis.models.run import ItemOutcome, RunItem, RunSpec
from mnesis.models.usage import TokenUsage
from mnesis.operators.inputs import Source, json_text
from mnesis.operators.worker_ids import is_dead, new_worker, retire
from mnesis.store.run_store import RunStore

AHEAD_ITEMS = 2_048
"""Inputs that are read before they are worked on."""
PAGE_ITEMS = 200
WINDOW_ITEMS = 1_024
"""Results that wait for an earlier one when the order is that of the inputs and nothing is stored."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the work on one item. `record` is JSON: all that is stored and written out. `value` stays here."""

    success: bool
    record: dict[str, Any]
    attempts: int = 1
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: float = 0.0
    value: Any = None


@dataclass(frozen=True, slots=True)
class Finished:
    """An item and what came of it. `resumed`: somebody else, or an earlier run of the same id, did the work."""

    index: int
    input: Any
    outcome: Outcome
    resumed: bool = False


class Ledger(Protocol):
    """The items of one run. `feed` runs beside everything else and returns when all inputs are there."""

    @property
    def is_over(self) -> bool: ...
    @property
    def total(self) -> int | None: ...
    async def feed(self, news: Callable[[], None]) -> None: ...
    async def claim(self, limit: int) -> list[RunItem]: ...
    async def settle(self, landed: Sequence[tuple[RunItem, Outcome]]) -> list[Finished]: ...
    async def gather(self) -> list[Finished]: ...
    async def look(self) -> None: ...
    async def renew(self, indexes: Sequence[int]) -> list[int]: ...
    async def release(self, indexes: Sequence[int]) -> None: ...
    def close(self) -> None: ...


class PassingLedger:
    """Items pass through; nothing is kept."""

    def __init__(self, source: Source, *, ordered: bool) -> None:
        self._source, self._ordered = source, ordered
        self._waiting: deque[RunItem] = deque()
        self._held: dict[int, Finished] = {}
        self._room = asyncio.Event()
        self._read = self._given = 0
        self._all_read = False

    @property
    def total(self) -> int | None:
        return self._read if self._all_read else self._source.total

    @property
    def is_over(self) -> bool:
        return self._all_read and self._given == self._read

    async def feed(self, news: Callable[[], None]) -> None:
        async with aclosing(self._source.batches()) as batches:
            async for batch in batches:
                self._waiting.extend(RunItem(self._read + place, text) for place, text in enumerate(batch))
                self._read += len(batch)
                news()
                while len(self._waiting) >= AHEAD_ITEMS:
                    self._room.clear()
                    await self._room.wait()
        self._all_read = True
        news()

    async def claim(self, limit: int) -> list[RunItem]:
        if len(self._held) > WINDOW_ITEMS:
            return []
        taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        self._room.set()
        return taken

    async def settle(self, landed: Sequence[tuple[RunItem, Outcome]]) -> list[Finished]:
        finished = [Finished(item.index, json.loads(item.input), outcome) for item, outcome in landed]
        if self._ordered:
            self._held |= {one.index: one for one in finished}
            finished = []
            while self._given + len(finished) in self._held:
                finished.append(self._held.pop(self._given + len(finished)))
        self._given += len(finished)
        return finished

    async def gather(self) -> list[Finished]:
        return []

    async def look(self) -> None: ...

    async def renew(self, indexes: Sequence[int]) -> list[int]:
        return list(indexes)

    async def release(self, indexes: Sequence[int]) -> None: ...

    def close(self) -> None: ...


class StoredLedger:
    """Items live in the database, where other workers see them too.

    No call is made before all inputs that are stored were found equal to those given. Results of others, and of an
    earlier run, are read back: in the order of inputs page by page, else as they are found.
    """

    def __init__(
        self, store: RunStore, run_id: str, source: Source, *, ordered: bool, lease_seconds: float, max_claims: int
    ) -> None:
        self._store, self._id, self._source, self._ordered = store, run_id, source, ordered
        self._lease_ms, self._max_claims = int(lease_seconds * 1_000), max_claims
        self.worker = new_worker()
        self._done_here = Indexes()
        self._given = self._cursor = self._added = self._stored = self._settled = 0
        self._verified = self._all_read = False
        self._behind = True
        self._total: int | None = None
        self._room = asyncio.Event()

    async def begin(self, spec: RunSpec, *, retry_failed: bool) -> None:
        """Raises `RunMismatchError` if the run of this id is another one."""
        run, created = await self._store.begin_run(spec)
        if retry_failed and not created:
            await self._store.retry_failed(self._id)
            run = await self._store.run(self._id)
        self._stored, self._total, self._settled = run.stored, run.total, run.done + run.failed

    @property
    def total(self) -> int | None:
        return self._source.total if self._total is None else self._total

    @property
    def is_over(self) -> bool:
        return self._all_read and self._given == self._total

    async def feed(self, news: Callable[[], None]) -> None:
        async with aclosing(self._source.batches()) as batches:
            async for batch in batches:
                await self._store.add_items(self._id, self._added, batch)
                self._added += len(batch)
                self._verified = self._added >= self._stored and self._total is None
                news()
                while self._added - self._settled >= AHEAD_ITEMS and self._verified:
                    self._room.clear()
                    await self._room.wait()
        await self._store.seal_run(self._id, self._added)
        self._total, self._all_read, self._verified = self._added, True, True
        news()

    async def claim(self, limit: int) -> list[RunItem]:
        if not self._verified:
            return []
        return await self._store.claim_items(
            self._id, self.worker, limit=limit, now=now_ms(), lease_ms=self._lease_ms, max_claims=self._max_claims
        )

    async def settle(self, landed: Sequence[tuple[RunItem, Outcome]]) -> list[Finished]:
        outcomes = [_stored_form(item, outcome) for item, outcome in landed]
        accepted = set(await self._store.finish_items(self._id, self.worker, outcomes))
        self._settled += len(accepted)
        self._room.set()
        mine = [(item, outcome) for item, outcome in landed if item.index in accepted]
        for item, _ in mine:
            self._done_here.add(item.index)
        if self._ordered:
            self._behind = True
            return []
        self._given += len(mine)
        return [Finished(item.index, json.loads(item.input), outcome) for item, outcome in mine]

    async def gather(self) -> list[Finished]:
        """A page of results that are stored and were not given yet; empty if there is none for now."""
        while self._behind and self._verified:
            page = await self._store.run_items(self._id, after_index=self._cursor - 1, limit=PAGE_ITEMS)
            final = _final_prefix(page) if self._ordered else [item for item in page if item.outcome is not None]
            if self._ordered:
                self._behind = len(final) == PAGE_ITEMS
                self._cursor += len(final)
                new = final
            else:
                self._behind = len(page) == PAGE_ITEMS
                self._cursor = page[-1].index + 1 if self._behind else 0
                new = [item for item in final if item.index not in self._done_here]
            finished = [_restored(item, resumed=item.index not in self._done_here) for item in new]
            if not self._ordered:
                for item in new:
                    self._done_here.add(item.index)
            self._given += len(new)
            if finished:
                return finished
        return []

    async def look(self) -> None:
        """See what others did: take over from workers that died, give up on items that keep killing theirs."""
        if not self._verified:
            return
        now = now_ms()
        held = await self._store.run_items(self._id, limit=PAGE_ITEMS, state="running")
        for worker in {item.worker for item in held if is_dead(item.worker)}:
            indexes = [item.index for item in held if item.worker == worker]
            await self._store.renew_items(self._id, worker or "", indexes, now=now - 1, lease_ms=0)
        await self._store.give_up_items(
            self._id, now=now, max_claims=self._max_claims, outcome=_given_up(self._max_claims)
        )
        run = await self._store.run(self._id)
        self._settled = run.done + run.failed
        self._behind = self._behind or self._settled > self._given
        self._room.set()

    async def renew(self, indexes: Sequence[int]) -> list[int]:
        return await self._store.renew_items(self._id, self.worker, indexes, now=now_ms(), lease_ms=self._lease_ms)

    async def release(self, indexes: Sequence[int]) -> None:
        await self._store.release_items(self._id, self.worker, indexes)

    def close(self) -> None:
        retire(self.worker)


class Indexes:
    """A set of item indexes: a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, index: int) -> None:
        missing = index // 8 + 1 - len(self._bits)
        if missing > 0:
            self._bits.extend(bytes(missing))
        self._bits[index // 8] |= 1 << index % 8

    def __contains__(self, index: int) -> bool:
        return index // 8 < len(self._bits) and bool(self._bits[index // 8] >> index % 8 & 1)


def _stored_form(item: RunItem, outcome: Outcome) -> ItemOutcome:
    usage = outcome.usage.model_dump(exclude_defaults=True)
    text = json_text({"record": outcome.record, "usage": usage, "cost": outcome.cost})
    state = "done" if outcome.success else "failed"
    return ItemOutcome(item.index, state, text, outcome.attempts, outcome.usage, outcome.cost)  # type: ignore[arg-type]  # one of the two


def _restored(item: RunItem, *, resumed: bool) -> Finished:
    stored = json.loads(item.outcome or "{}")
    usage = TokenUsage(**stored["usage"])
    outcome = Outcome(item.state == "done", stored["record"], item.attempts, usage, stored["cost"])
    return Finished(item.index, json.loads(item.input), outcome, resumed)


def _final_prefix(page: Sequence[RunItem]) -> list[RunItem]:
    unfinished = (place for place, item in enumerate(page) if item.outcome is None)
    return list(page[: next(unfinished, len(page))])


def _given_up(max_claims: int) -> str:
    error = f"{max_claims} workers died while they worked on this item; it is given up"
    return json_text({"record": {"error": error, "error_kind": "worker_died"}, "usage": {}, "cost": 0.0})
