"""Everything a map does besides the work on one item: claims, concurrency, order, storing, output, events, ending.

A pump claims items, starts their work, stores what came of it in groups, and hands it on. A result is stored before
anybody sees it. Whatever ends the run early (a break, a cancellation, an error) stops outstanding work and gives its
items back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import MapCompletedPayload, MapItemCompletedPayload, MapStartedPayload
from mnesis.ids import new_id, now_ms
from mnesis.models.run import RunSpec
from mnesis.operators.inputs import Inputs, Source
from mnesis.operators.item_queue import Finished, Ledger, PassingLedger, StoredLedger
from mnesis.operators.map_progress import shown
from mnesis.operators.map_settings import MapSettings
from mnesis.operators.output_file import ResultsFile
from mnesis.operators.scheduler import Work, _Pump


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
