"""The tools available in one `send()`: definitions for the provider, handlers that the session runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mnesis.errors import ToolDefinitionError
from mnesis.formats.tool_schemas import chat_tools
from mnesis.models.message import ToolPart
from mnesis.models.tool import ToolSpec
from mnesis.tools.schema import tool_from_function
from mnesis.tools.tool_run import ToolRun


class Toolset:
    """The tools of a request. The session runs tools with a handler; calls of plain tool dicts are returned to the caller.

    Accepts chat-completions and Anthropic tool dicts, `ToolSpec`s, functions, and objects with `name`, `description`,
    `parameters` (JSON Schema) and `handler` or a call method.

    Raises `ToolDefinitionError` for anything else, and if two tools have the same name.
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
        """Add a tool of the session. Does nothing if the caller passed a tool of the same name."""
        if spec.name not in self._names():
            self._add(spec)
            self._offered.add(spec.name)

    def withdraw(self, names: Iterable[str]) -> None:
        """Remove tools added by `offer`. Tools passed by the caller remain."""
        withdrawn = self._offered.intersection(names)
        self.definitions = [each for each in self.definitions if each["function"]["name"] not in withdrawn]
        self._runnable = {name: spec for name, spec in self._runnable.items() if name not in withdrawn}
        self._offered -= withdrawn

    def can_run(self, call: ToolPart) -> bool:
        """Return whether the session handles this call.

        It does if the tool has a handler. It also does if no such tool exists while others have handlers: the model then
        gets an error as the result.
        """
        return call.tool_name in self._runnable or (bool(self._runnable) and call.tool_name not in self._names())

    def start(self, call: ToolPart) -> ToolRun:
        """Return the run of a call. It starts when its result is awaited."""
        spec = self._runnable.get(call.tool_name)
        if spec is None or spec.handler is None:
            names = ", ".join(sorted(self._names()))
            return ToolRun(call, None, f"there is no tool {call.tool_name!r}; the tools are: {names}")
        if call.raw_input is not None:
            return ToolRun(call, None, f"the arguments are not a JSON object: {call.raw_input[:200]}")
        return ToolRun(call, spec.handler)

    def _names(self) -> list[str]:
        return [definition["function"]["name"] for definition in self.definitions]

    def _add(self, tool: Any) -> None:
        definition, spec = _parse_tool(tool)
        name = definition.get("function", {}).get("name")
        if not isinstance(name, str) or not name:
            raise ToolDefinitionError(f"the tool {str(tool)[:120]} has no name; give it one")
        if name in self._names():
            raise ToolDefinitionError(f"two tools are named {name!r}; tool names must be unique")
        self.definitions.append(definition)
        if spec is not None and spec.handler is not None:
            self._runnable[name] = spec


def _parse_tool(tool: Any) -> tuple[dict[str, Any], ToolSpec | None]:
    if isinstance(tool, Mapping):
        return _parse_tool_dict(tool), None
    if not isinstance(tool, ToolSpec):
        tool = _parse_tool_object(tool)
    return chat_tools([tool])[0], tool


def _parse_tool_dict(tool: Mapping[str, Any]) -> dict[str, Any]:
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


def _parse_tool_object(tool: Any) -> ToolSpec:
    name, parameters = getattr(tool, "name", None), getattr(tool, "parameters", None)
    handler = getattr(tool, "handler", None) or (tool if callable(tool) else None)
    if isinstance(name, str) and isinstance(parameters, Mapping) and handler is not None:
        read_only = bool(getattr(tool, "read_only", False))
        return ToolSpec(name, str(getattr(tool, "description", "") or name), dict(parameters), handler, read_only)
    if callable(tool) and not isinstance(tool, type):
        return tool_from_function(tool, name=name if isinstance(name, str) else None)
    raise ToolDefinitionError(
        f"{type(tool).__name__} is not a tool; pass a function, a ToolSpec, a provider's tool dict, or an object with name,"
        " parameters and handler"
    )
