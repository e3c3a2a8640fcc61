"""A summariser that keeps what it was shown."""

from __future__ import annotations

from typing import Any

from tests.support.summaries import acceptable_summary


class Reader:
    """A summariser that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        self.shown.append(str(messages[-1]["content"]))
        return acceptable_summary(messages)

    @property
    def text(self) -> str:
        return "\n".join(self.shown)
