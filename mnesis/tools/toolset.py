"""The tools of one `send()`: what the provider is told, and what the session runs itself."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from anyio import CapacityLimiter, create_task_group

from mnesis.concurrency import in_daemon_thread
from mnesis.errors import ToolDefinitionError
from mnesis.formats.parse import as_text
from mnesis.formats.tool_schemas import chat_tools
from mnesis.models.message import ToolPart, ToolResultPart
from mnesis.models.tool import ToolSpec
from mnesis.tools.schema import from_function, is_async

logger = logging.getLogger(__name__)


class Toolset:
    """Provider dicts are passed on as they are, their calls go back to the caller; anything with a handler is run here.

    Accepts chat-completions and Anthropic tool dicts, `ToolSpec`s, functions, and objects with `name`, `description`,
    `parameters` (JSON Schema) and `handler` or a call method. Raises `ToolDefinitionError` for anything else and for two
    tools of one name.
    """

    def __init__(self, tools: Iterable[Any] | None) -> None:
        self.definitions: list[dict[str, Any]] = []
        self._runnable: dict[str, ToolSpec] = {}
        self._offered: set[str] = set()
        for tool in tools or ():
            self._add(tool)

    def __bool__(self) -> bool:
        return bool(self.definitions)

    def offer(self, spec: ToolSpec) -> None:
        """Add a tool of the session's own; a tool of that name that was given wins."""
        if spec.name not in self._names():
            self._add(spec)
            self._offered.add(spec.name)

    def withdraw(self, names: Iterable[str]) -> None:
        """Take offered tools away again; given ones stay."""
        gone = self._offered.intersection(names)
        self.definitions = [each for each in self.definitions if each["function"]["name"] not in gone]
        self._runnable = {name: spec for name, spec in self._runnable.items() if name not in gone}
        self._offered -= gone

    def can_run(self, call: ToolPart) -> bool:
        """Whether the session runs this call itself: its tool has a handler, or there is no tool of that name at all
        while others can be run (the model is told so)."""
        return call.tool_name in self._runnable or (bool(self._runnable) and call.tool_name not in self._names())

    async def run(self, calls: Iterable[ToolPart], *, concurrency: int) -> list[ToolResultPart]:
        """Run calls side by side, at most `concurrency` at once; results in the order of the calls. Never raises for
        what a tool does: its error is its result."""
        calls = list(calls)
        results: list[ToolResultPart | None] = [None] * len(calls)
        limiter = CapacityLimiter(concurrency)

        async def one(index: int, call: ToolPart) -> None:
            async with limiter:
                results[index] = await self._run_one(call)

        async with create_task_group() as group:
            for index, call in enumerate(calls):
                group.start_soon(one, index, call)
        return [result for result in results if result is not None]

    async def _run_one(self, call: ToolPart) -> ToolResultPart:
        spec = self._runnable.get(call.tool_name)
        if spec is None or spec.handler is None:
            return _failed(
                call, f"there is no tool {call.tool_name!r}; the tools are: {', '.join(sorted(self._names()))}"
            )
        if call.raw_input is not None:
            return _failed(call, f"the arguments are no JSON object: {call.raw_input[:200]}")
        try:
            value = await _called(spec, call.input)
        except asyncio.CancelledError:
            # Something inside the tool was cancelled, not the turn: for the model that is a failure like any other.
            if _being_cancelled():
                raise
            return _failed(call, "the tool was cancelled")
        except (Exception, SystemExit) as error:
            # A tool is the user's code: whatever it raises is an answer for the model, which may do better; also the
            # exit that argument parsers make of a mistake.
            logger.info("tool %s failed: %s", call.tool_name, error, exc_info=True)
            return _failed(call, f"{type(error).__name__}: {error}")
        return ToolResultPart(tool_call_id=call.tool_call_id, tool_name=call.tool_name, output=as_text(value))

    def _names(self) -> list[str]:
        return [definition["function"]["name"] for definition in self.definitions]

    def _add(self, tool: Any) -> None:
        definition, spec = _described(tool)
        name = definition.get("function", {}).get("name")
        if not isinstance(name, str) or not name:
            raise ToolDefinitionError(f"a tool without a name: {str(tool)[:120]}")
        if name in self._names():
            raise ToolDefinitionError(f"two tools are called {name!r}; a model could not tell them apart")
        self.definitions.append(definition)
        if spec is not None and spec.handler is not None:
            self._runnable[name] = spec


def _described(tool: Any) -> tuple[dict[str, Any], ToolSpec | None]:
    if isinstance(tool, Mapping):
        return _from_dict(tool), None
    if not isinstance(tool, ToolSpec):
        tool = _as_spec(tool)
    return chat_tools([tool])[0], tool


def _from_dict(tool: Mapping[str, Any]) -> dict[str, Any]:
    if "input_schema" in tool:
        function = {"name": tool.get("name"), "parameters": tool["input_schema"]}
        if tool.get("description"):
            function["description"] = tool["description"]
        return {"type": "function", "function": function}
    if "function" in tool:
        return {"type": "function", **tool}
    if "name" in tool and "parameters" in tool:
        return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
    raise ToolDefinitionError(
        f"a tool dict needs 'function' (chat-completions) or 'input_schema' (Anthropic): {str(dict(tool))[:120]}"
    )


def _as_spec(tool: Any) -> ToolSpec:
    name, parameters = getattr(tool, "name", None), getattr(tool, "parameters", None)
    handler = getattr(tool, "handler", None) or (tool if callable(tool) else None)
    if isinstance(name, str) and isinstance(parameters, Mapping) and handler is not None:
        read_only = bool(getattr(tool, "read_only", False))
        return ToolSpec(name, str(getattr(tool, "description", "") or name), dict(parameters), handler, read_only)
    if callable(tool) and not isinstance(tool, type):
        return from_function(tool, name=name if isinstance(name, str) else None)
    raise ToolDefinitionError(
        f"{type(tool).__name__} is no tool. Give a function, a ToolSpec, a provider's tool dict, or an object with name,"
        " parameters and handler."
    )


async def _called(spec: ToolSpec, arguments: dict[str, Any]) -> Any:
    handler = spec.handler
    if handler is None:
        raise ToolDefinitionError(f"tool {spec.name!r} has no handler")
    if is_async(handler):
        return await handler(**arguments)
    value = await in_daemon_thread(lambda: handler(**arguments))
    return await value if inspect.isawaitable(value) else value


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failed(call: ToolPart, message: str) -> ToolResultPart:
    return ToolResultPart(tool_call_id=call.tool_call_id, tool_name=call.tool_name, output=message, is_error=True)
