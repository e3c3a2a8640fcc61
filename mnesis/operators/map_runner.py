"""Everything a map does besides the work on one item: claims, concurrency, order, storing, output, events, ending.

A pump claims items, starts their work, stores what came of it in groups, and hands it on. A result is stored before
anybody sees it. Whatever ends the run early (a break, a cancellation, an error) stops outstanding work and gives its
items back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, MnesisStoreError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import MapCompletedPayload, MapItemCompletedPayload, MapStartedPayload
from mnesis.ids import new_id, now_ms
from mnesis.models.run import RunItem, RunSpec
from mnesis.operators.inputs import Inputs, Source
from mnesis.operators.item_queue import Finished, Ledger, Outcome, PassingLedger, StoredLedger
from mnesis.operators.map_progress import Progress, shown
from mnesis.operators.output_file import ResultsFile

logger = logging.getLogger(__name__)

Order = Literal["completion", "input"]
MAX_CONCURRENCY = 128
LEASE_SECONDS = 30.0
MAX_CLAIMS = 3
POLL_SECONDS = (0.05, 1.0)
"""First and longest wait before looking again at what other workers do."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item for the work: its index, its input as a JSON value, and how often it was claimed, this time included."""

    index: int
    input: Any
    claims: int = 1


class Slots:
    """The concurrency of a run. Work holds a slot while it uses the model, and none while it waits to try again."""

    def __init__(self, concurrency: int, news: Callable[[], None]) -> None:
        self._semaphore = asyncio.Semaphore(concurrency)
        self._news = news
        self.resting = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold a slot."""
        async with self._semaphore:
            yield

    async def rest(self, seconds: float) -> None:
        """Wait without a slot; other items are taken up meanwhile."""
        self.resting += 1
        self._news()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.resting -= 1


Work = Callable[[Item, Slots], Awaitable[Outcome]]
"""The work on one item. What it raises ends the whole run and leaves the item pending; a failed item is an `Outcome`."""


@dataclass(frozen=True, slots=True)
class MapSettings:
    """How a run goes. Making it checks it: `ConfigurationError` for what cannot work.

    `kind` is "llm" or "agentic"; `fingerprint` stands for everything besides the inputs that decides the results.
    `ahead` is how many items are claimed before there is a slot for them (None: as many as there are slots).
    """

    kind: str
    fingerprint: str
    model: str
    concurrency: int
    run_id: str | None = None
    order: Order = "completion"
    progress: Progress = False
    output_path: str | os.PathLike[str] | None = None
    retry_failed: bool = False
    lease_seconds: float = LEASE_SECONDS
    max_claims: int = MAX_CLAIMS
    ahead: int | None = None

    def __post_init__(self) -> None:
        check_whole("concurrency", self.concurrency, 1, MAX_CONCURRENCY)
        check_whole("max_claims", self.max_claims, 1, 1_000)
        check_seconds("lease_seconds", self.lease_seconds)
        if self.order not in ("completion", "input"):
            raise ConfigurationError(f"order is 'completion' or 'input', not {self.order!r}")
        if self.run_id is not None and not (isinstance(self.run_id, str) and self.run_id.strip()):
            raise ConfigurationError(f"run_id is a name, not {self.run_id!r}; leave it out to have one made")
        if not (isinstance(self.progress, bool) or callable(self.progress)):
            raise ConfigurationError(f"progress is True, False or a function (completed, total), not {self.progress!r}")


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raises `ConfigurationError` unless `value` is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{name} is a whole number from {least} to {most}, not {value!r}")


def check_seconds(name: str, value: object, *, least: float = 0.001) -> None:
    """Raises `ConfigurationError` unless `value` is a usable number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 1e7:
        raise ConfigurationError(f"{name} is a number of seconds of at least {least:g}, not {value!r}")


def check_text(name: str, value: object) -> None:
    """Raises `ConfigurationError` unless `value` is a text."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a text, not {value!r:.100}")


def checked_options(llm_options: object) -> dict[str, Any]:
    """Options of model calls as a dict of their own. Raises `ConfigurationError` for what is no mapping."""
    if not isinstance(llm_options, Mapping | None):
        raise ConfigurationError(f"llm_options are a dict of arguments of the model call, not {llm_options!r:.100}")
    return dict(llm_options or {})


class MapRunner:
    """One run. With an engine its items live in that engine's database, else nowhere.

    `bus` gets the events; None means the engine's, if there is one. Raises `ConfigurationError`, and `FileError`s for
    inputs, before anything runs. `run_id` is the run's name, made up where none was given.
    """

    def __init__(
        self,
        inputs: Inputs,
        work: Work,
        settings: MapSettings,
        *,
        engine: Engine | None = None,
        bus: EventBus | None = None,
    ) -> None:
        if engine is None and (settings.run_id is not None or settings.retry_failed):
            raise ConfigurationError(
                "run_id and retry_failed need a database to keep the run in: give engine=Engine('work.db')"
            )
        if not isinstance(bus, EventBus | None):
            raise ConfigurationError(f"event_bus is an EventBus, not {bus!r:.100}")
        self.run_id = settings.run_id or new_id("run")
        self._settings, self._work, self._engine = settings, work, engine
        self._source = Source(inputs)
        self._file = ResultsFile(settings.output_path, self._source.path) if settings.output_path is not None else None
        self._bus = bus or (engine.events if engine is not None else EventBus())
        self._completed = 0

    async def results(self) -> AsyncGenerator[Finished, None]:
        """Every item's outcome, once. Close it (`aclosing`) to stop early.

        Raises `RunMismatchError` if the run id is taken by another run, and whatever the work raised.
        """
        try:
            if self._file is not None:
                self._file.begin()
            pump = _Pump(await self._ledger(), self._work, self._settings, self._kept)
            self._publish(MnesisEvent.MAP_STARTED, total=pump.ledger.total)
            with shown(self._settings.progress) as self._shown:
                async with aclosing(pump.batches()) as batches:
                    async for batch in batches:
                        for finished in batch:
                            yield finished
            if self._file is not None:
                await asyncio.to_thread(self._file.commit)
        finally:
            if self._file is not None:
                self._file.discard()
        self._publish(MnesisEvent.MAP_COMPLETED, total=pump.ledger.total)

    async def _ledger(self) -> Ledger:
        settings, ordered = self._settings, self._settings.order == "input"
        if self._engine is None:
            return PassingLedger(self._source, ordered=ordered)
        await self._engine.open()
        ledger = StoredLedger(
            self._engine.store,
            self.run_id,
            self._source,
            ordered=ordered,
            lease_seconds=settings.lease_seconds,
            max_claims=settings.max_claims,
        )
        spec = RunSpec(self.run_id, settings.kind, settings.fingerprint, settings.model, now_ms())
        await ledger.begin(spec, retry_failed=settings.retry_failed)
        return ledger

    def _kept(self, batch: list[Finished], total: int | None) -> None:
        """Tell of results that are stored."""
        for finished in batch:
            self._completed += 1
            if self._file is not None:
                self._file.write(finished)
            if self._bus.wants(MnesisEvent.MAP_ITEM_COMPLETED):
                payload = MapItemCompletedPayload(self._completed, total, finished.outcome.success, self.run_id)
                self._bus.publish(MnesisEvent.MAP_ITEM_COMPLETED, payload)
            self._shown(self._completed, total)

    def _publish(self, event: MnesisEvent, *, total: int | None) -> None:
        if event == MnesisEvent.MAP_STARTED:
            started = MapStartedPayload(total, self._settings.model, self._settings.kind, self.run_id)
            self._bus.publish(event, started)
        else:
            self._bus.publish(event, MapCompletedPayload(total, self._completed, self.run_id))


class _Pump:
    """Claims, works, stores and hands on, in the background of whoever reads `batches()`."""

    def __init__(
        self, ledger: Ledger, work: Work, settings: MapSettings, kept: Callable[[list[Finished], int | None], None]
    ) -> None:
        self.ledger = ledger
        self._work, self._settings, self._kept = work, settings, kept
        self._news = asyncio.Event()
        self._slots = Slots(settings.concurrency, self._news.set)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._landed: list[tuple[RunItem, Outcome]] = []
        self._fatal: BaseException | None = None
        self._queue: asyncio.Queue[list[Finished]] = asyncio.Queue(maxsize=2)
        self._claim: asyncio.Task[list[RunItem]] | None = None
        self._alone = False
        self._poll_seconds = POLL_SECONDS[0]

    async def batches(self) -> AsyncGenerator[list[Finished], None]:
        feeder = asyncio.create_task(self.ledger.feed(self._news.set))
        feeder.add_done_callback(lambda _: self._news.set())
        heart = asyncio.create_task(self._heartbeat())
        pump = asyncio.create_task(self._pumped(feeder))
        try:
            while (batch := await self._next(pump)) is not None:
                yield batch
            await pump
        finally:
            await _carried_through(self._stop(pump, feeder, heart))

    async def _next(self, pump: asyncio.Task[None]) -> list[Finished] | None:
        if not self._queue.empty():
            return self._queue.get_nowait()
        getter = asyncio.create_task(self._queue.get())
        try:
            await asyncio.wait({getter, pump}, return_when=asyncio.FIRST_COMPLETED)
            return getter.result() if getter.done() else None
        finally:
            getter.cancel()

    async def _pumped(self, feeder: asyncio.Task[None]) -> None:
        await self.ledger.look()
        while True:
            self._news.clear()
            if feeder.done():
                feeder.result()
            started = self._fatal is None and await self._start_more()
            finished = await self._settled() or await self.ledger.gather()
            if finished:
                self._poll_seconds = POLL_SECONDS[0]
                self._kept(finished, self.ledger.total)
                await self._queue.put(finished)
            elif self._fatal is not None:
                raise self._fatal
            elif self.ledger.is_over:
                return
            elif not started and not self._landed:
                await self._wait()

    async def _start_more(self) -> bool:
        """Claim and start as many items as there is room for; whether any was started."""
        concurrency = self._settings.concurrency
        ahead = concurrency if self._settings.ahead is None else self._settings.ahead
        room = concurrency + ahead + min(self._slots.resting, 3 * concurrency) - len(self._tasks)
        if (self._alone and self._tasks) or (self._tasks and room <= ahead // 2):
            return False
        if room <= 0:
            return False
        # Cancelling does not stop a claim that reached the database; `_stop` gives back what came of it.
        self._claim = asyncio.create_task(self.ledger.claim(1 if self._alone else room))
        self._alone, claimed = await self._last_chance(await asyncio.shield(self._claim))
        for item in claimed:
            self._tasks[item.index] = asyncio.create_task(self._worked(item))
        self._claim = None
        return bool(claimed)

    async def _last_chance(self, claimed: list[RunItem]) -> tuple[bool, list[RunItem]]:
        """An item that may have killed its workers is worked on alone, so that it takes no other item with it."""
        suspects = [item for item in claimed if item.claims >= max(2, self._settings.max_claims)]
        if not suspects:
            return False, claimed
        chosen = [] if self._tasks else suspects[:1]
        others = [item.index for item in claimed if item not in chosen]
        if others:
            await self.ledger.release(others)
        return True, chosen

    async def _worked(self, item: RunItem) -> None:
        try:
            outcome = await self._work(Item(item.index, json.loads(item.input), item.claims), self._slots)
            self._landed.append((item, outcome))
        except Exception as error:  # whatever it is, it ends the run and reaches its caller
            self._fatal = self._fatal or error
            await self.ledger.release([item.index])
        finally:
            self._news.set()

    async def _settled(self) -> list[Finished]:
        landed, self._landed = self._landed, []
        if not landed:
            return []
        try:
            finished = await self.ledger.settle(landed)
        except BaseException:
            self._landed = landed + self._landed
            raise
        for item, _ in landed:
            self._tasks.pop(item.index, None)
        return finished

    async def _wait(self) -> None:
        """Until something happens here; without work of its own also for what other workers do."""
        busy = len(self._tasks) > self._slots.resting
        try:
            async with asyncio.timeout(None if busy else self._poll_seconds):
                await self._news.wait()
        except TimeoutError:
            self._poll_seconds = min(self._poll_seconds * 2, POLL_SECONDS[1])
            await self.ledger.look()

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            held = list(self._tasks)
            try:
                kept = set(await self.ledger.renew(held)) if held else set()
            except MnesisStoreError as error:
                logger.warning("the leases of %d items could not be renewed: %s", len(held), error)
                continue
            for index in set(held) - kept:
                if task := self._tasks.pop(index, None):
                    task.cancel()
            self._news.set()

    async def _stop(self, *tasks: asyncio.Task[None]) -> None:
        """End what runs, keep what is finished, give back the rest."""
        outstanding = [*tasks, *self._tasks.values()]
        for task in outstanding:
            task.cancel()
        await asyncio.gather(*outstanding, return_exceptions=True)
        try:
            claimed = await self._claim if self._claim is not None else []
            await self._settled()
            if held := {*self._tasks, *(item.index for item in claimed)}:
                await self.ledger.release(list(held))
        except MnesisStoreError as error:
            logger.warning("items of a map stay claimed until somebody takes them over: %s", error)
        finally:
            self.ledger.close()


_ending: set[asyncio.Task[None]] = set()


async def _carried_through(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end what must not be cut short by a second cancellation."""
    task = asyncio.create_task(work)
    _ending.add(task)
    task.add_done_callback(_ending.discard)
    with suppress(asyncio.CancelledError):
        await asyncio.shield(task)
