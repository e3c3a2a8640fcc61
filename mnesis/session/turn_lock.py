"""One turn at a time: between the tasks of a process, and on request between processes.

Within a process, turns of a session wait for `SessionState.turn_lock`. With `SessionConfig.exclusive_turns`, and in a
block of `MnesisSession.exclusive()`, the process also holds the lease on the session's turns in the store, and renews
it. Each write contains the fence of the lease, so a process that lost the lease without noticing cannot write.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from mnesis.concurrency import FairLock
from mnesis.errors import MnesisStoreError, SessionBusyError, SessionNotFoundError, TurnLostError
from mnesis.redaction import get_logger

if TYPE_CHECKING:
    from mnesis.models.turn_lease import TurnLease
    from mnesis.session.core import SessionCore

logger = get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.02
MAX_PAUSE_SECONDS = 0.25
"""The first and the longest wait before a process asks again for a lease that another one holds."""
RECONNECT_SECONDS = 2.0
"""How long a holder may be disconnected from the database server before it counts as dead: it reconnects within this time."""
RENEWALS_PER_LEASE = 3


class ExclusiveBlock:
    """A period in which one caller alone may run turns of a session: within this process, or with a lease across
    processes.
    """

    def __init__(self, core: SessionCore, lease: TurnLease) -> None:
        self._core = core
        self._lease = lease
        self._lock = FairLock()
        self._exit_stack = AsyncExitStack()
        self._is_active = True
        self._is_lost = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._heartbeat = asyncio.create_task(self._renew())
        core.shared.turn_fence, core.shared.is_turn_lost = lease.fence, False

    @classmethod
    async def begin(cls, core: SessionCore, wait_seconds: float | None = None) -> ExclusiveBlock:
        """Wait for the session's turn and hold it until `end()`.

        None means `SessionConfig.exclusive_wait_seconds`. Raises `SessionBusyError` if it takes longer.
        """
        from mnesis.system.worker_ids import register_worker, unregister_worker

        config = core.config.session
        wait_seconds = config.exclusive_wait_seconds if wait_seconds is None else wait_seconds
        started = time.monotonic()
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(wait_seconds or FIRST_PAUSE_SECONDS) as time_limit:
                    await stack.enter_async_context(core.shared.turn_lock)
            except TimeoutError:
                if time_limit.expired():
                    raise SessionBusyError(core.session_id, wait_seconds) from None
                raise
            holder = await asyncio.to_thread(register_worker)  # reads files about this process
            stack.callback(unregister_worker, holder)
            lease = await _claim(core, holder, started, wait_seconds)
            block = cls(core, lease)
            block._exit_stack = stack.pop_all()
            return block

    async def end(self) -> None:
        """Release the turn, after the operations within the block. Completes even if the caller is cancelled."""
        await self._core.run_to_completion(self._end())

    async def _end(self) -> None:
        async with self._lock, self._exit_stack:
            self._is_active = False
            self._core.shared.turn_fence, self._core.shared.is_turn_lost = None, False
            self._heartbeat.get_loop().call_soon_threadsafe(self._heartbeat.cancel)
            try:
                await self._core.store.release_turn(self._core.session_id, self._lease)
            except SessionNotFoundError:
                pass  # the session was purged, and its lease with it
            except MnesisStoreError as error:
                # Processes on this machine see that the holder has stopped; processes on other machines wait for the
                # end of the lease.
                logger.warning("session %s: could not release the lease: %s", self._core.session_id, error)

    def covers(self, core: SessionCore) -> bool:
        """Return whether operations of this core run within the block."""
        return self._is_active and self._core.shared is core.shared

    @asynccontextmanager
    async def operation(self) -> AsyncIterator[None]:
        """Run one operation at a time within the block. Raises `TurnLostError` if the lease was or is being lost."""
        async with self._lock:
            if self._is_lost:
                raise TurnLostError(self._core.session_id)
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  # coroutines run in tasks
            self._tasks.add(task)
            try:
                yield
            except asyncio.CancelledError:
                if self._is_lost and task.uncancel() == 0:
                    raise TurnLostError(self._core.session_id) from None
                raise
            finally:
                self._tasks.discard(task)

    async def _renew(self) -> None:
        """Renew the lease until cancelled. If it is lost, cancel the running operation, which could store nothing
        more.
        """
        from mnesis.ids import now_ms

        core, lease_seconds = self._core, self._core.config.session.exclusive_lease_seconds
        while True:
            await asyncio.sleep(lease_seconds / RENEWALS_PER_LEASE)
            lease_ms = int(lease_seconds * 1_000)
            try:
                is_held = await core.store.renew_turn(core.session_id, self._lease, now_ms=now_ms(), lease_ms=lease_ms)
            except SessionNotFoundError:
                is_held = False
            except MnesisStoreError as error:
                logger.warning("session %s: could not renew the lease: %s", core.session_id, error)
                continue
            if not is_held:
                self._is_lost = core.shared.is_turn_lost = True
                for task in list(self._tasks):
                    with suppress(RuntimeError):  # its loop was closed
                        task.get_loop().call_soon_threadsafe(task.cancel)
                return


_block: contextvars.ContextVar[ExclusiveBlock | None] = contextvars.ContextVar("mnesis_exclusive_block", default=None)


@contextmanager
def within(block: ExclusiveBlock) -> Iterator[None]:
    """Run the operations of the caller, of tasks and of threads that it starts within the block."""
    token = _block.set(block)
    try:
        yield
    finally:
        with suppress(ValueError):  # the block is left in another context than it was entered in; it has ended anyway
            _block.reset(token)


async def begin_exclusive(core: SessionCore, wait_seconds: float | None = None) -> ExclusiveBlock | None:
    """Begin a block, or return None if the caller is within one of this session already."""
    return None if _current_block(core) is not None else await ExclusiveBlock.begin(core, wait_seconds)


def hold_turn(core: SessionCore) -> AbstractAsyncContextManager[None]:
    """Wait for the session's turn and hold it for one operation. Raises `SessionBusyError` and `TurnLostError`."""
    block = _current_block(core)
    if block is not None:
        return block.operation()
    return _claimed_turn(core) if core.config.session.exclusive_turns else core.shared.turn_lock


@asynccontextmanager
async def _claimed_turn(core: SessionCore) -> AsyncIterator[None]:
    block = await ExclusiveBlock.begin(core)
    try:
        async with block.operation():
            yield
    finally:
        await block.end()


async def wait_for_turn(core: SessionCore) -> None:
    """Wait for the operations of this process that hold the session's turn."""
    block = _current_block(core)
    async with core.shared.turn_lock if block is None else block.operation():
        pass


def _current_block(core: SessionCore) -> ExclusiveBlock | None:
    block = _block.get()
    return block if block is not None and block.covers(core) else None


async def _claim(core: SessionCore, holder: str, started: float, wait_seconds: float) -> TurnLease:
    """Claim the lease, as soon as its holder releases it, lets it end or is dead. Raises `SessionBusyError`."""
    from mnesis.ids import now_ms
    from mnesis.system.worker_ids import is_dead

    lease_ms = int(core.config.session.exclusive_lease_seconds * 1_000)
    dead_fence, disconnected_since, pause = None, None, FIRST_PAUSE_SECONDS
    while True:
        lease = await core.store.claim_turn(
            core.session_id, holder, now_ms=now_ms(), lease_ms=lease_ms, dead_fence=dead_fence
        )
        if lease.holder == holder:
            return lease
        now = time.monotonic()
        disconnected_since = (disconnected_since or now) if lease.is_connected is False else None
        is_gone = disconnected_since is not None and now - disconnected_since >= RECONNECT_SECONDS
        if lease.fence != dead_fence and (is_gone or await asyncio.to_thread(is_dead, lease.holder)):
            dead_fence = lease.fence
            continue
        if now - started >= wait_seconds:
            raise SessionBusyError(core.session_id, wait_seconds)
        await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # spreads out waiters, protects nothing
        pause = min(2 * pause, MAX_PAUSE_SECONDS)
