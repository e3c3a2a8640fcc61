"""Tool definitions in the formats of providers. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mnesis.models.tool import ToolSpec


def chat_tools(tools: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """Return the `tools` of a chat-completions request."""
    return [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
        for t in tools
    ]


def anthropic_tools(tools: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """Return the `tools` of an Anthropic request."""
    return [{"name": t.name, "description": t.description, "input_schema": t.parameters} for t in tools]
