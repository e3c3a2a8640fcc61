"""A pytest plugin: `InMemoryChatMessageHistory` of LangChain's tests is a history of mnesis in memory."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import langchain_core.chat_history
from langchain_core.messages import BaseMessage

from langchain_mnesis import MnesisChatMessageHistory
from mnesis import Engine

VIEW: Any = os.environ.get("MNESIS_TEST_VIEW", "window")
_engine = Engine(":memory:")
_numbers = itertools.count()


@contextmanager
def _blocking() -> Iterator[None]:
    """Let the tests' own synchronous calls in a running event loop block it."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


class SwappedHistory(MnesisChatMessageHistory):
    """A history with the constructor of the class it replaces."""

    def __init__(self, *, messages: Sequence[BaseMessage] = ()) -> None:
        super().__init__(f"history-{next(_numbers)}", engine=_engine, view=VIEW)
        with _blocking():
            self.add_messages(messages)

    def __eq__(self, other: object) -> bool:
        with _blocking():
            return isinstance(other, SwappedHistory) and self.messages == other.messages

    __hash__ = None  # type: ignore[assignment]  # as for the class it replaces


langchain_core.chat_history.InMemoryChatMessageHistory = SwappedHistory  # type: ignore[assignment,misc]  # the purpose
