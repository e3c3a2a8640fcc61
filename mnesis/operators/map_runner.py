"""The runner of a map: connects inputs, scheduler, output file, progress and events.

A result is stored before the caller sees it. If the run ends early (a break, a cancellation, an error), work in
progress stops and its items become pending again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import MapCompletedPayload, MapItemCompletedPayload, MapStartedPayload
from mnesis.ids import new_id, now_ms
from mnesis.models.run import MapRun, RunSpec
from mnesis.operators.inputs import Inputs, InputSource
from mnesis.operators.item_queue import FinishedItem, InMemoryItemQueue, ItemQueue, Outcome, StoredItemQueue
from mnesis.operators.map_progress import progress_reporter
from mnesis.operators.map_settings import MapSettings
from mnesis.operators.output_file import OutputFile
from mnesis.operators.scheduler import Item, ItemHandler, Scheduler, Slots
from mnesis.telemetry.hooks import observe


class MapRunner:
    """One run. With an engine its items are stored in that engine's database.

    `kind` is "llm", "agentic" or "delegation". `fingerprint` identifies everything except the inputs that determines
    the results. `plan` is the plan for workers on other machines. Events go to `bus`, or else to the engine's bus.
    Raises `ConfigurationError` and `FileError` when created, before anything runs.
    """

    def __init__(
        self,
        inputs: Inputs,
        handle_item: ItemHandler,
        settings: MapSettings,
        *,
        kind: str,
        fingerprint: str,
        model: str,
        plan: str,
        engine: Engine | None = None,
        bus: EventBus | None = None,
    ) -> None:
        if engine is None and (settings.run_id is not None or settings.retry_failed):
            raise ConfigurationError(
                "run_id and retry_failed need a database that stores the run; pass engine=Engine('work.db')"
            )
        if not isinstance(bus, EventBus | None):
            raise ConfigurationError(f"event_bus must be an EventBus, not {bus!r:.100}")
        self.run_id = settings.run_id or new_id("run")
        self._spec = RunSpec(self.run_id, kind, fingerprint, model, now_ms(), plan)
        self._settings, self._handle_item, self._engine = settings, handle_item, engine
        self._source = InputSource(inputs)
        self._file = OutputFile(settings.output_path, self._source.path) if settings.output_path is not None else None
        self._bus = bus or (engine.events if engine is not None else EventBus())
        self._completed_count = 0

    async def results(self) -> AsyncGenerator[FinishedItem, None]:
        """Yield the result of every item once. Close the generator (`aclosing`) to stop early.

        Raises `RunMismatchError` if the run id belongs to a different run, and the exceptions of the item handler.
        """
        try:
            if self._file is not None:
                self._file.open()
            item_queue = await self._open_queue()
            scheduler = Scheduler(item_queue, self._observe_item, self._settings, self._publish_results)
            started = MapStartedPayload(item_queue.total, self._spec.model, self._spec.kind, self.run_id)
            self._bus.publish(MnesisEvent.MAP_STARTED, started)
            with progress_reporter(self._settings.progress) as self._report_progress:
                async with aclosing(scheduler.batches()) as batches:
                    async for batch in batches:
                        for result in batch:
                            yield result
            if self._file is not None:
                await asyncio.to_thread(self._file.commit)
        finally:
            if self._file is not None:
                self._file.discard()
        completed = MapCompletedPayload(item_queue.total, self._completed_count, self.run_id)
        self._bus.publish(MnesisEvent.MAP_COMPLETED, completed)

    async def enqueue(self) -> MapRun:
        """Store the run and its inputs for workers, process nothing, and return the run. Repeating it is safe.

        Raises `ConfigurationError` without an engine, and `RunMismatchError` as `results()` does.
        """
        if self._engine is None:
            raise ConfigurationError("workers need a database that stores the run; pass engine=Engine('work.db')")
        item_queue = await self._open_stored_queue(self._engine, ordered=False)
        try:
            await item_queue.store_inputs()
        finally:
            item_queue.close()
        return await self._engine.store.run(self.run_id)

    async def _observe_item(self, item: Item, slots: Slots) -> Outcome:
        with observe("map item", run_id=self.run_id, index=item.index, kind=self._spec.kind) as observation:
            outcome = await self._handle_item(item, slots)
            observation.set(success=outcome.success, attempts=outcome.attempts, cost=outcome.cost)
            return outcome

    async def _open_queue(self) -> ItemQueue:
        ordered = self._settings.order == "input"
        if self._engine is None:
            return InMemoryItemQueue(self._source, ordered=ordered)
        return await self._open_stored_queue(self._engine, ordered=ordered)

    async def _open_stored_queue(self, engine: Engine, *, ordered: bool) -> StoredItemQueue:
        settings = self._settings
        await engine.open()
        item_queue = StoredItemQueue(
            engine.store,
            self.run_id,
            self._source,
            ordered=ordered,
            lease_seconds=settings.lease_seconds,
            max_claims=settings.max_claims,
        )
        await item_queue.begin(self._spec, retry_failed=settings.retry_failed)
        return item_queue

    def _publish_results(self, results: list[FinishedItem], total: int | None) -> None:
        """Write stored results to the output file, and publish their events and the progress."""
        for result in results:
            self._completed_count += 1
            if self._file is not None:
                self._file.write(result)
            if self._bus.has_handlers(MnesisEvent.MAP_ITEM_COMPLETED):
                payload = MapItemCompletedPayload(self._completed_count, total, result.outcome.success, self.run_id)
                self._bus.publish(MnesisEvent.MAP_ITEM_COMPLETED, payload)
            self._report_progress(self._completed_count, total)
