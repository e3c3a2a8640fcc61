"""Running the tool calls of one reply. Each result is stored as soon as its tool finishes, in its own transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from anyio import CapacityLimiter, create_task_group

from mnesis.engine.session_state import SessionState
from mnesis.errors import MnesisError
from mnesis.files.offload import offload_results
from mnesis.formats.parse import new_message
from mnesis.models.message import ToolPart, ToolResultPart
from mnesis.models.results import StreamEvent, ToolCallEnd, ToolCallStart
from mnesis.redaction import get_logger
from mnesis.session.core import SessionCore
from mnesis.session.reentrancy import user_code
from mnesis.tools.tool_run import ToolRun
from mnesis.tools.toolset import Toolset

logger = get_logger(__name__)


@dataclass
class ToolRunner:
    """The tool calls of one reply. Call `run()` or `refuse()` once.

    `ends_turn` says whether the turn ends with the last of these results. `on_event` receives the start and the end of each
    call; a call has ended when its result is stored.
    """

    core: SessionCore
    toolset: Toolset
    calls: Sequence[ToolPart]
    ends_turn: bool
    on_event: Callable[[StreamEvent], None] | None = None
    _unstored_count: int = field(init=False)
    _fence: int | None = field(init=False)
    """The lease of the turn. A tool that outlives its turn may not write into the turn of another process."""
    _store_lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _store_error: MnesisError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._unstored_count = len(self.calls)
        self._fence = self.core.shared.turn_fence

    async def run(self) -> None:
        """Run the calls concurrently, at most `tool_concurrency` at once.

        An exception that a tool raises becomes its result. If a result cannot be stored, the other tools finish and are
        stored before the error is raised. If the caller is cancelled, the results of finished tools are stored all the same.
        """
        limiter = CapacityLimiter(self.core.config.session.tool_concurrency)

        async def run_call(call: ToolPart) -> None:
            async with limiter:
                await self._run_call(call)

        async with create_task_group() as group:
            for call in self.calls:
                group.start_soon(run_call, call)
        if self._store_error is not None:
            raise self._store_error

    async def refuse(self, reason: str) -> None:
        """Store an error as the result of each call, in one transaction, without running it."""
        results = [
            ToolResultPart(tool_call_id=call.tool_call_id, tool_name=call.tool_name, output=reason, is_error=True)
            for call in self.calls
        ]
        await self.core.append([new_message("tool", results)], ends_turn=self.ends_turn)

    async def _run_call(self, call: ToolPart) -> None:
        self._emit(ToolCallStart(call=call))
        tool_run = self.toolset.start(call)
        try:
            with user_code(self.core.session_id):
                result = await tool_run.result()
        except asyncio.CancelledError:
            if tool_run.is_late:
                _keep_late(self.core.shared, asyncio.create_task(self._store_late(tool_run)))
            raise
        # Nothing is awaited between the end of the tool and the start of this task, so no cancellation can lose the result.
        try:
            await self.core.run_to_completion(self._store(result))
        except MnesisError as error:
            self._store_error = self._store_error or error

    async def _store(self, result: ToolResultPart) -> None:
        parts = await self._offload(result)
        async with self._store_lock:
            is_last = self._unstored_count == 1
            await self.core.append([new_message("tool", parts)], ends_turn=self.ends_turn and is_last)
            self._unstored_count -= 1
        self._emit(ToolCallEnd(result=parts[0]))

    async def _store_late(self, tool_run: ToolRun) -> None:
        """Store the result of a tool that finishes after its turn was cancelled."""
        call = tool_run.call
        try:
            result = await tool_run.late_result()
            if result is not None:
                await self.core.append([new_message("tool", await self._offload(result))], fence=self._fence)
        except MnesisError as error:
            logger.warning(
                "tool %s, call %s, finished too late to be stored; its result is lost: %s",
                call.tool_name,
                call.tool_call_id,
                error,
            )

    async def _offload(self, result: ToolResultPart) -> Sequence[ToolResultPart]:
        return await offload_results([result], self.core.files) if self.core.may_need_offload([result]) else [result]

    def _emit(self, event: StreamEvent) -> None:
        if self.on_event is not None:
            self.on_event(event)


def _keep_late(shared: SessionState, task: asyncio.Task[None]) -> None:
    """Register a task of `ToolRunner._store_late`, so that a retry and `close()` in any event loop can wait for it."""
    future: Future[None] = Future()
    shared.late_results.add(future)

    def finish(_: asyncio.Task[None]) -> None:
        shared.late_results.discard(future)
        future.set_result(None)

    task.add_done_callback(finish)


async def wait_for_late_results(shared: SessionState, timeout_seconds: float | None = None) -> None:
    """Wait until the tools that still run in threads have finished and their results are stored."""
    futures = [asyncio.wrap_future(future) for future in list(shared.late_results)]
    if futures:
        await asyncio.wait(futures, timeout=timeout_seconds)
