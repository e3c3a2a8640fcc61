"""One run of a tool that the session handles."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from mnesis.concurrency import start_daemon_thread
from mnesis.formats.tool_output import parse_tool_output
from mnesis.models.message import ToolPart, ToolResultPart
from mnesis.redaction import get_logger
from mnesis.telemetry.hooks import observe
from mnesis.tools.schema import is_async

logger = get_logger(__name__)


class ToolRun:
    """One run of a tool. Await `result()` once.

    A function that is not async runs in a thread, which cannot be stopped. If `result()` is cancelled while the thread runs,
    `is_late` is true, and `late_result()` returns the result once the function has returned.
    """

    def __init__(self, call: ToolPart, handler: Callable[..., Any] | None, error: str = "") -> None:
        self.call = call
        self._handler = handler
        self._error = error
        self._thread: asyncio.Future[Any] | None = None

    @property
    def is_late(self) -> bool:
        """Whether the function is still in a thread, or returned there without its result being used."""
        return self._thread is not None

    async def result(self) -> ToolResultPart:
        """Run the tool and return its result. An exception that the tool raises becomes an error result."""
        with observe("tool", tool=self.call.tool_name, tool_call_id=self.call.tool_call_id) as observation:
            result = await self._result()
            observation.set(is_error=result.is_error or None, arguments=self.call.input, result=result.output)
            return result

    async def _result(self) -> ToolResultPart:
        if self._handler is None:
            return self._error_result(self._error)
        try:
            return self._parse(await self._call(self._handler))
        except asyncio.CancelledError:
            # Something inside the tool was cancelled, not the turn: report it to the model like any other failure.
            if _is_being_cancelled():
                raise
            return self._error_result("the tool was cancelled")
        except (Exception, SystemExit) as error:
            return self._failure(error)

    async def late_result(self) -> ToolResultPart | None:
        """Wait for the thread and return its result. None if it only returned an awaitable, which was not awaited."""
        if self._thread is None:
            return None
        try:
            value = await self._thread
        except (Exception, SystemExit) as error:
            return self._failure(error)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            return None
        return self._parse(value)

    async def _call(self, handler: Callable[..., Any]) -> Any:
        arguments = self.call.input
        if is_async(handler):
            return await handler(**arguments)
        self._thread = start_daemon_thread(lambda: handler(**arguments))
        value = await asyncio.shield(self._thread)
        self._thread = None
        return await value if inspect.isawaitable(value) else value

    def _parse(self, value: Any) -> ToolResultPart:
        return parse_tool_output(value).as_result(self.call.tool_call_id, self.call.tool_name)

    def _failure(self, error: BaseException) -> ToolResultPart:
        # A tool is user code: report any exception to the model, which may correct its call. Argument parsers raise
        # SystemExit for a mistake.
        self._thread = None
        logger.info("tool %s failed: %s", self.call.tool_name, error, exc_info=error)
        return self._error_result(f"{type(error).__name__}: {error}")

    def _error_result(self, message: str) -> ToolResultPart:
        call = self.call
        return ToolResultPart(tool_call_id=call.tool_call_id, tool_name=call.tool_name, output=message, is_error=True)


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
