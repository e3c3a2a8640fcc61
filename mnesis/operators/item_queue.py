"""Item queues for maps: one in memory, one in the database, behind one interface.

The states of an item:

                 claim                        complete
    pending ───────────────► running ─────────────────────────► done | failed
       ▲                      │    │                                    │
       │  release             │    │ the lease ends                     │
       ├──────────────────────┘    │                                    │
       │                           ├──► claimed again by any worker     │
       │                           │                                    │
       │                           └──► failed (`worker_died`), if      │
       │                                claimed `max_claims` times      │
       │  begin(retry_failed=True), failed items only                   │
       └────────────────────────────────────────────────────────────────┘

A worker holds an item while it is `running` and renews the lease until it completes or releases the item. The lease of
a worker that is known to be dead ends at once (`reclaim_expired_items`). In memory there is one worker and no lease.
"""

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
from mnesis.operators.inputs import InputSource, to_json
from mnesis.store.run_store import RunStore
from mnesis.system.worker_ids import is_dead, register_worker, unregister_worker

READ_AHEAD_ITEMS = 2_048
"""The number of inputs that are read before the items ahead of them are finished."""

PAGE_ITEMS = 200
"""The number of stored items that are read at once."""

MAX_REORDERED_ITEMS = 1_024
"""The number of results that may wait in memory for an earlier one, if results are yielded in the order of the
inputs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one item. `record` is JSON and is stored; `value` stays in this process."""

    success: bool
    record: dict[str, Any]
    attempts: int = 1
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: float = 0.0
    value: Any = None


@dataclass(frozen=True, slots=True)
class FinishedItem:
    """An item with its outcome.

    `resumed` means that an earlier run or another worker processed it.
    """

    index: int
    input: Any
    outcome: Outcome
    resumed: bool = False


class ItemQueue(Protocol):
    """The items of one run."""

    @property
    def is_finished(self) -> bool:
        """Whether every item's result has been returned."""
        ...

    @property
    def total(self) -> int | None:
        """The number of items. None while the number is not known."""
        ...

    async def enqueue_inputs(self, wake: Callable[[], None]) -> None:
        """Read the inputs and add them.

        Runs in the background and returns when all inputs have been added.
        Calls `wake` whenever items were added. Pauses while enough items are waiting.
        """
        ...

    async def claim(self, limit: int) -> list[RunItem]:
        """Claim up to `limit` items. Returns an empty list if no item is available at present."""
        ...

    async def complete(self, outcomes: Sequence[tuple[RunItem, Outcome]]) -> list[FinishedItem]:
        """Store the outcomes of claimed items. Returns the results that can be yielded now."""
        ...

    async def collect_results(self) -> list[FinishedItem]:
        """Return stored results that were not returned before.

        Returns an empty list if there are none at present.
        """
        ...

    async def reclaim_expired_items(self) -> None:
        """End the leases of dead workers, and fail items whose workers keep dying."""
        ...

    async def renew(self, indexes: Sequence[int]) -> list[int]:
        """Renew the leases of items. Returns the indexes that this worker still holds."""
        ...

    async def release(self, indexes: Sequence[int]) -> None:
        """Return claimed items unprocessed, so that any worker can claim them."""
        ...

    def close(self) -> None:
        """End this worker."""
        ...


class InMemoryItemQueue:
    """A queue that stores nothing."""

    def __init__(self, source: InputSource, *, ordered: bool) -> None:
        self._source, self._ordered = source, ordered
        self._pending: deque[RunItem] = deque()
        self._early_results: dict[int, FinishedItem] = {}
        self._has_capacity = asyncio.Event()
        self._read_count = self._returned_count = 0
        self._all_read = False

    @property
    def total(self) -> int | None:
        """See `ItemQueue.total`."""
        return self._read_count if self._all_read else self._source.total

    @property
    def is_finished(self) -> bool:
        """See `ItemQueue.is_finished`."""
        return self._all_read and self._returned_count == self._read_count

    async def enqueue_inputs(self, wake: Callable[[], None]) -> None:
        """See `ItemQueue.enqueue_inputs`."""
        async with aclosing(self._source.batches()) as batches:
            async for batch in batches:
                self._pending.extend(RunItem(self._read_count + offset, text) for offset, text in enumerate(batch))
                self._read_count += len(batch)
                wake()
                while len(self._pending) >= READ_AHEAD_ITEMS:
                    self._has_capacity.clear()
                    await self._has_capacity.wait()
        self._all_read = True
        wake()

    async def claim(self, limit: int) -> list[RunItem]:
        """See `ItemQueue.claim`."""
        if len(self._early_results) > MAX_REORDERED_ITEMS:
            return []
        items = [self._pending.popleft() for _ in range(min(limit, len(self._pending)))]
        self._has_capacity.set()
        return items

    async def complete(self, outcomes: Sequence[tuple[RunItem, Outcome]]) -> list[FinishedItem]:
        """See `ItemQueue.complete`."""
        results = [FinishedItem(item.index, json.loads(item.input), outcome) for item, outcome in outcomes]
        if self._ordered:
            self._early_results |= {result.index: result for result in results}
            results = []
            while self._returned_count + len(results) in self._early_results:
                results.append(self._early_results.pop(self._returned_count + len(results)))
        self._returned_count += len(results)
        return results

    async def collect_results(self) -> list[FinishedItem]:
        """See `ItemQueue.collect_results`."""
        return []

    async def reclaim_expired_items(self) -> None:
        """See `ItemQueue.reclaim_expired_items`."""

    async def renew(self, indexes: Sequence[int]) -> list[int]:
        """See `ItemQueue.renew`."""
        return list(indexes)

    async def release(self, indexes: Sequence[int]) -> None:
        """See `ItemQueue.release`."""

    def close(self) -> None:
        """See `ItemQueue.close`."""


class StoredItemQueue:
    """A queue in the database, shared by all workers of a run.

    It claims no item before it has found all stored inputs equal to the inputs of this call. The results of an earlier
    run and of other workers are read back page by page.
    """

    def __init__(
        self, store: RunStore, run_id: str, source: InputSource, *, ordered: bool, lease_seconds: float, max_claims: int
    ) -> None:
        self._store, self._run_id, self._source, self._ordered = store, run_id, source, ordered
        self._lease_ms, self._max_claims = int(lease_seconds * 1_000), max_claims
        self._worker = register_worker()
        self._known_indexes = IndexSet()
        """Items that this worker finished and, without an order, items of other workers that were returned."""
        self._returned_count = self._next_index = self._added_count = self._stored_count = self._finished_count = 0
        self._inputs_verified = self._all_read = False
        self._may_have_results = True
        self._total: int | None = None
        self._has_capacity = asyncio.Event()

    async def begin(self, spec: RunSpec, *, retry_failed: bool) -> None:
        """Create the run or continue it.

        Raises `RunMismatchError` if the id belongs to a different run.
        """
        run, created = await self._store.begin_run(spec)
        if retry_failed and not created:
            await self._store.retry_failures(self._run_id)
            run = await self._store.run(self._run_id)
        self._stored_count, self._total, self._finished_count = run.item_count, run.total, run.done + run.failed

    @property
    def total(self) -> int | None:
        """See `ItemQueue.total`."""
        return self._source.total if self._total is None else self._total

    @property
    def is_finished(self) -> bool:
        """See `ItemQueue.is_finished`."""
        return self._all_read and self._returned_count == self._total

    async def enqueue_inputs(self, wake: Callable[[], None]) -> None:
        """See `ItemQueue.enqueue_inputs`."""
        async with aclosing(self._source.batches()) as batches:
            async for batch in batches:
                await self._store.add_items(self._run_id, self._added_count, batch)
                self._added_count += len(batch)
                self._inputs_verified = self._added_count >= self._stored_count and self._total is None
                wake()
                while self._added_count - self._finished_count >= READ_AHEAD_ITEMS and self._inputs_verified:
                    self._has_capacity.clear()
                    await self._has_capacity.wait()
        await self._store.seal_run(self._run_id, self._added_count)
        self._total, self._all_read, self._inputs_verified = self._added_count, True, True
        wake()

    async def store_inputs(self) -> None:
        """Store all inputs and declare them complete, without waiting for the items ahead of them."""
        async with aclosing(self._source.batches()) as batches:
            async for batch in batches:
                await self._store.add_items(self._run_id, self._added_count, batch)
                self._added_count += len(batch)
        await self._store.seal_run(self._run_id, self._added_count)

    async def claim(self, limit: int) -> list[RunItem]:
        """See `ItemQueue.claim`."""
        if not self._inputs_verified:
            return []
        return await self._store.claim_items(
            self._run_id,
            self._worker,
            limit=limit,
            now_ms=now_ms(),
            lease_ms=self._lease_ms,
            max_claims=self._max_claims,
        )

    async def complete(self, outcomes: Sequence[tuple[RunItem, Outcome]]) -> list[FinishedItem]:
        """See `ItemQueue.complete`."""
        records = [_to_record(item, outcome) for item, outcome in outcomes]
        accepted_indexes = set(await self._store.finish_items(self._run_id, self._worker, records))
        self._finished_count += len(accepted_indexes)
        self._has_capacity.set()
        accepted = [(item, outcome) for item, outcome in outcomes if item.index in accepted_indexes]
        for item, _ in accepted:
            self._known_indexes.add(item.index)
        if self._ordered:
            self._may_have_results = True
            return []
        self._returned_count += len(accepted)
        return [FinishedItem(item.index, json.loads(item.input), outcome) for item, outcome in accepted]

    async def collect_results(self) -> list[FinishedItem]:
        """See `ItemQueue.collect_results`."""
        while self._may_have_results and self._inputs_verified:
            page = await self._store.run_items(self._run_id, after_index=self._next_index - 1, limit=PAGE_ITEMS)
            if self._ordered:
                items = _finished_prefix(page)
                self._may_have_results = len(items) == PAGE_ITEMS
                self._next_index += len(items)
            else:
                items = [item for item in page if item.outcome is not None and item.index not in self._known_indexes]
                self._may_have_results = len(page) == PAGE_ITEMS
                self._next_index = page[-1].index + 1 if self._may_have_results else 0
            results = [_from_record(item, resumed=item.index not in self._known_indexes) for item in items]
            if not self._ordered:
                for item in items:
                    self._known_indexes.add(item.index)
            self._returned_count += len(items)
            if results:
                return results
        return []

    async def reclaim_expired_items(self) -> None:
        """See `ItemQueue.reclaim_expired_items`."""
        if not self._inputs_verified:
            return
        now = now_ms()
        running = await self._store.run_items(self._run_id, limit=PAGE_ITEMS, state="running")
        for worker in {item.worker for item in running if is_dead(item.worker)}:
            indexes = [item.index for item in running if item.worker == worker]
            await self._store.renew_items(self._run_id, worker or "", indexes, now_ms=now - 1, lease_ms=0)
        await self._store.give_up_items(
            self._run_id, now_ms=now, max_claims=self._max_claims, outcome=_worker_died_record(self._max_claims)
        )
        run = await self._store.run(self._run_id)
        self._finished_count = run.done + run.failed
        self._may_have_results = self._may_have_results or self._finished_count > self._returned_count
        self._has_capacity.set()

    async def renew(self, indexes: Sequence[int]) -> list[int]:
        """See `ItemQueue.renew`."""
        return await self._store.renew_items(
            self._run_id, self._worker, indexes, now_ms=now_ms(), lease_ms=self._lease_ms
        )

    async def release(self, indexes: Sequence[int]) -> None:
        """See `ItemQueue.release`."""
        await self._store.release_items(self._run_id, self._worker, indexes)

    def close(self) -> None:
        """See `ItemQueue.close`."""
        unregister_worker(self._worker)


class IndexSet:
    """A set of item indexes, one bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, index: int) -> None:
        """Add an index."""
        missing_bytes = index // 8 + 1 - len(self._bits)
        if missing_bytes > 0:
            self._bits.extend(bytes(missing_bytes))
        self._bits[index // 8] |= 1 << index % 8

    def __contains__(self, index: int) -> bool:
        return index // 8 < len(self._bits) and bool(self._bits[index // 8] >> index % 8 & 1)


def _to_record(item: RunItem, outcome: Outcome) -> ItemOutcome:
    usage = outcome.usage.model_dump(exclude_defaults=True)
    text = to_json({"record": outcome.record, "usage": usage, "cost": outcome.cost})
    state = "done" if outcome.success else "failed"
    return ItemOutcome(item.index, state, text, outcome.attempts, outcome.usage, outcome.cost)  # type: ignore[arg-type]  # one of the two


def _from_record(item: RunItem, *, resumed: bool) -> FinishedItem:
    stored = json.loads(item.outcome or "{}")
    usage = TokenUsage(**stored["usage"])
    outcome = Outcome(item.state == "done", stored["record"], item.attempts, usage, stored["cost"])
    return FinishedItem(item.index, json.loads(item.input), outcome, resumed)


def _finished_prefix(page: Sequence[RunItem]) -> list[RunItem]:
    """Return the items before the first one that is not finished."""
    unfinished = (position for position, item in enumerate(page) if item.outcome is None)
    return list(page[: next(unfinished, len(page))])


def _worker_died_record(max_claims: int) -> str:
    error = f"{max_claims} workers died while they processed this item"
    return to_json({"record": {"error": error, "error_kind": "worker_died"}, "usage": {}, "cost": 0.0})
