"""Assistant messages with tool calls, and their results."""

from __future__ import annotations

from typing import Any

from tests.support.strict_requests import Json, assistant


def calls(*ids: str, arguments: Any = "{}", **fields: Any) -> Json:
    function = {"name": "weather", "arguments": arguments}
    return assistant(
        "One moment.", tool_calls=[{"id": i, "type": "function", "function": function} for i in ids], **fields
    )


def result(call_id: str, text: str = "Sunny") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


ID = "abcdefghi"
