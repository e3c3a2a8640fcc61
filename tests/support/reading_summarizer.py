"""A summariser that keeps what it was shown."""

from __future__ import annotations

from typing import Any


class Reader:
    """A summariser that keeps what it was shown, and what it said of it."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        self.shown.append(str(messages[-1]["content"]))
        return f"Summary number {len(self.shown)} of what was said."

    @property
    def text(self) -> str:
        return "\n".join(self.shown)
