"""Workers: processes that join a stored run, on any machine.

A worker claims items in the same way as the process that started the run, and stores their outcomes for it to read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, RunMismatchError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import MapItemCompletedPayload
from mnesis.models.run import MapRun, RunItem
from mnesis.operators.inputs import InputSource
from mnesis.operators.item_queue import FinishedItem, Outcome, StoredItemQueue
from mnesis.operators.map_progress import progress_reporter
from mnesis.operators.map_settings import MAX_CONCURRENCY, MapSettings
from mnesis.operators.options import WorkOptions
from mnesis.operators.scheduler import Item, ItemHandler, Scheduler, Slots
from mnesis.store.run_store import RunStore
from mnesis.telemetry.hooks import observe
from mnesis.validation import check_seconds

STALL_SECONDS = 60.0
"""How long a worker waits for inputs that are missing because the process that started the run has stopped."""
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.05, 1.0
PROGRESS_SECONDS = 0.5
"""How often a busy worker reads the progress of the whole run."""


class WorkerItemQueue(StoredItemQueue):
    """The items of a run that another process started: claimed and completed, not read back."""

    def __init__(self, store: RunStore, run_id: str, settings: MapSettings, stall_seconds: float) -> None:
        super().__init__(
            store,
            run_id,
            InputSource(()),
            ordered=False,
            lease_seconds=settings.lease_seconds,
            max_claims=settings.max_claims,
        )
        self._inputs_verified = True
        self._may_have_results = False
        self._stall_seconds = stall_seconds
        self._run: MapRun | None = None
        self._read_at = 0.0
        self._is_stalled = False

    @property
    def total(self) -> int | None:
        """See `ItemQueue.total`."""
        return self._run.total if self._run is not None else None

    @property
    def finished_count(self) -> int:
        """The number of items that all workers have finished, as far as this worker knows."""
        return self._finished_count

    @property
    def is_finished(self) -> bool:
        """See `ItemQueue.is_finished`."""
        return self._run is not None and (self._run.is_finished or self._is_stalled)

    async def enqueue_inputs(self, wake: Callable[[], None]) -> None:
        """Wait until all inputs are known, or until nothing has happened for so long that none will be added."""
        changed_at, counts, pause = time.monotonic(), (-1, -1), MIN_POLL_SECONDS
        while (run := await self._read_run()).total is None:
            if counts != (run.item_count, run.done + run.failed) or run.running:
                changed_at, counts, pause = time.monotonic(), (run.item_count, run.done + run.failed), MIN_POLL_SECONDS
                wake()
            elif not run.pending and time.monotonic() - changed_at >= self._stall_seconds:
                self._is_stalled = True
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_POLL_SECONDS)
        wake()

    async def complete(self, outcomes: Sequence[tuple[RunItem, Outcome]]) -> list[FinishedItem]:
        """See `ItemQueue.complete`."""
        results = await super().complete(outcomes)
        if time.monotonic() - self._read_at >= PROGRESS_SECONDS:
            await self._read_run()
        return results

    async def collect_results(self) -> list[FinishedItem]:
        """Return nothing, because a worker does not read results."""
        return []

    async def reclaim_expired_items(self) -> None:
        """See `ItemQueue.reclaim_expired_items`."""
        await super().reclaim_expired_items()
        await self._read_run()

    async def _read_run(self) -> MapRun:
        self._run, self._read_at = await self._store.run(self._run_id), time.monotonic()
        self._finished_count = max(self._finished_count, self._run.done + self._run.failed)
        return self._run


async def work_on_run(
    engine: Engine,
    run: MapRun,
    handle_item: ItemHandler,
    fingerprint: str,
    settings: MapSettings,
    *,
    stall_seconds: float = STALL_SECONDS,
    bus: EventBus | None = None,
) -> MapRun:
    """Process items of a run until every item is finished, and return the run.

    Returns earlier, with an unfinished run, if its inputs stay incomplete for `stall_seconds`. Raises
    `RunMismatchError` if this worker would produce different results.
    """
    if fingerprint != run.fingerprint:
        raise RunMismatchError(
            f"this worker would not give the results of run {run.id!r}: its schema, tools, options or release differ from those"
            " of the process that started it",
            run_id=run.id,
        )
    bus = bus or engine.events
    queue = WorkerItemQueue(engine.store, run.id, settings, stall_seconds)

    async def observe_item(item: Item, slots: Slots) -> Outcome:
        with observe("map item", run_id=run.id, index=item.index, kind=run.kind) as observation:
            outcome = await handle_item(item, slots)
            observation.set(success=outcome.success, attempts=outcome.attempts, cost=outcome.cost)
            return outcome

    with progress_reporter(settings.progress) as report_progress:

        def publish(results: list[FinishedItem], total: int | None) -> None:
            for result in results:
                if bus.has_handlers(MnesisEvent.MAP_ITEM_COMPLETED):
                    payload = MapItemCompletedPayload(queue.finished_count, total, result.outcome.success, run.id)
                    bus.publish(MnesisEvent.MAP_ITEM_COMPLETED, payload)
            report_progress(queue.finished_count, total)

        scheduler = Scheduler(queue, observe_item, settings, publish)
        async with aclosing(scheduler.batches()) as batches:
            async for _ in batches:
                pass
        run = await engine.store.run(run.id)
        report_progress(run.done + run.failed, run.total)
    return run


async def find_run(engine: Engine | None, run_id: str) -> tuple[Engine, MapRun, str]:
    """Open the engine and return it with a run and the plan of the run.

    Raises `RunNotFoundError`, and `ConfigurationError` without an engine.
    """
    if engine is None:
        raise ConfigurationError("work() needs the database of the run; pass engine=Engine('postgresql://…')")
    if not isinstance(run_id, str) or not run_id.strip():
        raise ConfigurationError(f"run_id must be a non-empty string, not {run_id!r}")
    await engine.open()
    return engine, await engine.store.run(run_id), await engine.store.run_plan(run_id)


def worker_settings(
    plan: dict[str, Any],
    options: WorkOptions,
    *,
    max_concurrency: int = MAX_CONCURRENCY,
    prefetch_items: int | None = None,
) -> MapSettings:
    """Build the settings of a worker: its own concurrency and progress, the leases of the run."""
    limits = plan["limits"]
    concurrency = options.get("concurrency")
    check_seconds("stall_seconds", options.get("stall_seconds", STALL_SECONDS))
    return MapSettings(
        concurrency=limits["concurrency"] if concurrency is None else concurrency,
        progress=options.get("progress", False),
        lease_seconds=limits["lease_seconds"],
        max_claims=limits["max_claims"],
        prefetch_items=prefetch_items,
        max_concurrency=max_concurrency,
    )
