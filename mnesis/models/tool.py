"""Tools for a model, described once and rendered for any framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool: its name, what it is for, the JSON Schema of its arguments, and the function that runs it.

    `handler` takes the arguments by keyword and returns a string or something JSON can hold; it may be async. Tools that
    change nothing say so with `read_only`.
    """

    name: str
    description: str
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    handler: Callable[..., Any] | None = None
    read_only: bool = False
