"""Detect identical tool calls in a row. Pure functions, no I/O."""

from __future__ import annotations

import json

from mnesis.models.message import ToolPart


def canonical_call(call: ToolPart) -> str:
    """What makes two calls the same: tool and arguments."""
    arguments = call.raw_input if call.raw_input is not None else json.dumps(call.input, sort_keys=True, default=str)
    return f"{call.tool_name}({arguments})"
