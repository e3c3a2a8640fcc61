"""Which tools the keyless model calls: those the user names, with what the message quotes as arguments. Deterministic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnesis.models.message import ToolPart

_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'|`([^`]*)`")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def named_calls(text: str, tools: Sequence[Mapping[str, Any]], number: int) -> tuple[ToolPart, ...]:
    """A call for each tool (chat-completions dicts) that `text` names, in order of mention. `number` makes their ids."""
    found = [(place, tool["function"]) for tool in tools if (place := _place(tool["function"]["name"], text)) >= 0]
    return tuple(
        ToolPart(
            tool_name=function["name"],
            tool_call_id=f"mock_call_{number}_{index}",
            input=_arguments(function.get("parameters") or {}, text),
        )
        for index, (_, function) in enumerate(sorted(found, key=lambda each: each[0]))
    )


def _place(name: str, text: str) -> int:
    """Where the name stands as a word of its own, -1 if it does not."""
    match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
    return match.start() if match else -1


def _arguments(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    quoted = iter([next(filter(None, groups), "") for groups in _QUOTED.findall(text)])
    numbers = iter(_NUMBER.findall(_QUOTED.sub(" ", text)))
    required = schema.get("required", ())
    values = {
        name: _value(field, quoted, numbers, name in required) for name, field in schema.get("properties", {}).items()
    }
    return {name: value for name, value in values.items() if value is not None}


def _value(field: Mapping[str, Any], quoted: Iterator[str], numbers: Iterator[str], required: bool) -> Any:
    """The next thing in the message that can be this argument; for a required one something of its type, else None."""
    match field.get("type"):
        case "string":
            return next(quoted, (field.get("enum") or [""])[0] if required else None)
        case "integer":
            return int(float(next(numbers, "1"))) if required else None
        case "number":
            return float(next(numbers, "1")) if required else None
        case "array":
            return list(quoted) or ([] if required else None)
        case "boolean":
            return False if required else None
        case _:
            return {} if required else None
