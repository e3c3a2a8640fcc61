"""The scheduler of a map: claims items, runs them, renews their leases and yields results.

`item_queue.py` draws the states of an item.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mnesis.concurrency import run_to_completion
from mnesis.errors import MnesisStoreError
from mnesis.models.run import RunItem
from mnesis.operators.item_queue import FinishedItem, ItemQueue, Outcome
from mnesis.operators.map_settings import MapSettings
from mnesis.redaction import get_logger

logger = get_logger(__name__)

MIN_POLL_SECONDS = 0.05
MAX_POLL_SECONDS = 1.0
"""The first and the longest wait before the scheduler checks what other workers have done."""

MAX_SLEEPING_PER_SLOT = 3
"""The number of items per slot that may wait for a retry while further items are claimed in their place."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its index, its input as a JSON value, and the number of claims so far."""

    index: int
    input: Any
    claims: int = 1


class Slots:
    """The concurrency limit of a run.

    A handler holds a slot during model calls, but not while it waits to retry.
    """

    def __init__(self, concurrency: int, wake: Callable[[], None]) -> None:
        self._semaphore = asyncio.Semaphore(concurrency)
        self._wake = wake
        self.sleeping = 0

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[None]:
        """Hold a slot within the block."""
        async with self._semaphore:
            yield

    async def sleep_without_slot(self, seconds: float) -> None:
        """Sleep before a retry.

        Further items start in the meantime. The caller must not hold a slot.
        """
        self.sleeping += 1
        self._wake()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.sleeping -= 1


ItemHandler = Callable[[Item, Slots], Awaitable[Outcome]]
"""Processes one item. A failed item is an `Outcome`. An exception ends the whole run and leaves the item pending."""


class Scheduler:
    """Claims, runs and stores items in the background, while the caller reads `batches()`.

    `on_stored` is called with each batch of results and the total, after they were stored and before they are yielded.
    """

    def __init__(
        self,
        item_queue: ItemQueue,
        handle_item: ItemHandler,
        settings: MapSettings,
        on_stored: Callable[[list[FinishedItem], int | None], None],
    ) -> None:
        self._item_queue, self._handle_item = item_queue, handle_item
        self._settings, self._on_stored = settings, on_stored
        self._wake = asyncio.Event()
        self._slots = Slots(settings.concurrency, self._wake.set)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._outcomes: list[tuple[RunItem, Outcome]] = []
        self._fatal_error: BaseException | None = None
        self._batches: asyncio.Queue[list[FinishedItem]] = asyncio.Queue(maxsize=2)
        self._claim: asyncio.Task[list[RunItem]] | None = None
        self._exclusive = False
        self._poll_seconds = MIN_POLL_SECONDS

    async def batches(self) -> AsyncGenerator[list[FinishedItem], None]:
        """Run all items and yield their results.

        Close it to stop early: items in progress become pending again.
        Raises the exceptions of the handler, the inputs and the store.
        """
        reader = asyncio.create_task(self._item_queue.enqueue_inputs(self._wake.set))
        reader.add_done_callback(lambda _: self._wake.set())
        heartbeat = asyncio.create_task(self._renew_leases())
        loop = asyncio.create_task(self._run(reader))
        try:
            while (batch := await self._next_batch(loop)) is not None:
                yield batch
            await loop
        finally:
            await run_to_completion(self._stop(loop, reader, heartbeat))

    async def _next_batch(self, loop: asyncio.Task[None]) -> list[FinishedItem] | None:
        if not self._batches.empty():
            return self._batches.get_nowait()
        getter = asyncio.create_task(self._batches.get())
        try:
            await asyncio.wait({getter, loop}, return_when=asyncio.FIRST_COMPLETED)
            return getter.result() if getter.done() else None
        finally:
            getter.cancel()

    async def _run(self, reader: asyncio.Task[None]) -> None:
        await self._item_queue.reclaim_expired_items()
        while True:
            self._wake.clear()
            if reader.done():
                reader.result()
            started = self._fatal_error is None and await self._start_items()
            results = await self._store_outcomes() or await self._item_queue.collect_results()
            if results:
                self._poll_seconds = MIN_POLL_SECONDS
                self._on_stored(results, self._item_queue.total)
                await self._batches.put(results)
            elif self._fatal_error is not None:
                raise self._fatal_error
            elif self._item_queue.is_finished:
                return
            elif not started and not self._outcomes:
                await self._wait()

    async def _start_items(self) -> bool:
        """Claim and start as many items as the limits allow. Returns whether any was started."""
        concurrency, prefetch = self._settings.concurrency, self._settings.prefetch_items
        prefetch = concurrency if prefetch is None else prefetch
        max_tasks = concurrency + prefetch + min(self._slots.sleeping, MAX_SLEEPING_PER_SLOT * concurrency)
        available = max_tasks - len(self._tasks)
        if (self._exclusive and self._tasks) or (self._tasks and available <= prefetch // 2):
            return False
        if available <= 0:
            return False
        # Cancellation does not stop a claim that has reached the database; `_stop` releases the items of such a claim.
        self._claim = asyncio.create_task(self._item_queue.claim(1 if self._exclusive else available))
        self._exclusive, items = await self._isolate_suspects(await asyncio.shield(self._claim))
        for item in items:
            self._tasks[item.index] = asyncio.create_task(self._run_item(item))
        self._claim = None
        return bool(items)

    async def _isolate_suspects(self, claimed: list[RunItem]) -> tuple[bool, list[RunItem]]:
        """Run an item alone on its last attempt.

        If it kills the process again, no other item is lost. Returns whether to run alone, and the items to start.
        Releases the others.
        """
        suspects = [item for item in claimed if item.claims >= max(2, self._settings.max_claims)]
        if not suspects:
            return False, claimed
        chosen = [] if self._tasks else suspects[:1]
        others = [item.index for item in claimed if item not in chosen]
        if others:
            await self._item_queue.release(others)
        return True, chosen

    async def _run_item(self, item: RunItem) -> None:
        try:
            outcome = await self._handle_item(Item(item.index, json.loads(item.input), item.claims), self._slots)
            self._outcomes.append((item, outcome))
        except Exception as error:  # any exception ends the run and is raised to the caller
            self._fatal_error = self._fatal_error or error
            await self._item_queue.release([item.index])
        finally:
            self._wake.set()

    async def _store_outcomes(self) -> list[FinishedItem]:
        outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return []
        try:
            results = await self._item_queue.complete(outcomes)
        except BaseException:
            self._outcomes = outcomes + self._outcomes
            raise
        for item, _ in outcomes:
            self._tasks.pop(item.index, None)
        return results

    async def _wait(self) -> None:
        """Wait for the next change in this process.

        Without running items, also poll for changes by other workers.
        """
        is_busy = len(self._tasks) > self._slots.sleeping
        try:
            async with asyncio.timeout(None if is_busy else self._poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            self._poll_seconds = min(self._poll_seconds * 2, MAX_POLL_SECONDS)
            await self._item_queue.reclaim_expired_items()

    async def _renew_leases(self) -> None:
        """Renew the leases of running items until cancelled.

        Stops items that another worker has taken over.
        """
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            held = list(self._tasks)
            try:
                renewed = set(await self._item_queue.renew(held)) if held else set()
            except MnesisStoreError as error:
                logger.warning("could not renew the leases of %d items: %s", len(held), error)
                continue
            for index in set(held) - renewed:
                if task := self._tasks.pop(index, None):
                    task.cancel()
            self._wake.set()

    async def _stop(self, *tasks: asyncio.Task[None]) -> None:
        """Cancel all tasks, store the outcomes that are ready and release all other items."""
        outstanding = [*tasks, *self._tasks.values()]
        for task in outstanding:
            task.cancel()
        await asyncio.gather(*outstanding, return_exceptions=True)
        try:
            claimed = await self._claim if self._claim is not None else []
            await self._store_outcomes()
            if held := {*self._tasks, *(item.index for item in claimed)}:
                await self._item_queue.release(list(held))
        except MnesisStoreError as error:
            logger.warning("could not release the items of a map; they stay claimed until their leases end: %s", error)
        finally:
            self._item_queue.close()
