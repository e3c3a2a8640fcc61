"""A model that a test replaces while its session is open."""

from __future__ import annotations

from typing import Any


class SwitchedLLM:
    """Whatever `client` is: a scripted model, or any other client."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)
