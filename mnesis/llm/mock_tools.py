"""The tool calls of the mock model. Deterministic, no I/O.

The mock calls the tools that the user names, with quoted text as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mnesis.models.message import ToolPart

_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'|`([^`]*)`")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def calls_named_in(text: str, tools: Sequence[Mapping[str, Any]], number: int) -> tuple[ToolPart, ...]:
    """Return a call for each tool that `text` names, in order of mention.

    `number` is part of the call ids.
    """
    mentions = [
        (position, tool["function"]) for tool in tools if (position := _position(tool["function"]["name"], text)) >= 0
    ]
    return tuple(
        ToolPart(
            tool_name=function["name"],
            tool_call_id=f"mock_call_{number}_{index}",
            input=_arguments(function.get("parameters") or {}, text),
        )
        for index, (_, function) in enumerate(sorted(mentions, key=lambda each: each[0]))
    )


def _position(name: str, text: str) -> int:
    """Return the position of the name as a whole word in the text, or -1."""
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


def _value(field: Mapping[str, Any], quoted: Iterator[str], numbers: Iterator[str], is_required: bool) -> Any:
    """Return the next value of the message for this argument.

    If there is none: a default if required, else None.
    """
    match field.get("type"):
        case "string":
            return next(quoted, (field.get("enum") or [""])[0] if is_required else None)
        case "integer":
            return int(float(next(numbers, "1"))) if is_required else None
        case "number":
            return float(next(numbers, "1")) if is_required else None
        case "array":
            return list(quoted) or ([] if is_required else None)
        case "boolean":
            return False if is_required else None
        case _:
            return {} if is_required else None
