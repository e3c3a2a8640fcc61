"""The scheduler of a map: claims items, runs them within the concurrency limit, keeps their leases, yields outcomes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mnesis.concurrency import run_to_completion
from mnesis.errors import MnesisStoreError
from mnesis.models.run import RunItem
from mnesis.operators.item_queue import Finished, Ledger, Outcome
from mnesis.operators.map_settings import MapSettings

logger = logging.getLogger(__name__)

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
            await run_to_completion(self._stop(pump, feeder, heart))

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
