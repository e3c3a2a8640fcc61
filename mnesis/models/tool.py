"""The description of a tool, independent of any framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool for models: name, description, JSON Schema of the arguments, and handler.

    `handler` takes the arguments by keyword and returns a string or a JSON value; it may be async. `read_only` declares that
    the tool changes nothing.
    """

    name: str
    description: str
    parameters: dict[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    handler: Callable[..., Any] | None = None
    read_only: bool = False
