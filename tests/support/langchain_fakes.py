"""A scripted chat model, ways to call runnables, and files of other memories, for LangChain tests."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, message_to_dict
from langchain_core.outputs import ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

ReadLog = Callable[[str], list[tuple[str, str]]]
"""Returns the log of a session as (role, text) pairs."""


def _numbered() -> Iterator[AIMessage]:
    return (AIMessage(f"answer {number}") for number in range(1, 10**9))


class FakeModel(GenericFakeChatModel):
    """Answers "answer 1", "answer 2", … or what its script says; exceptions in the script are raised."""

    messages: Iterator[Any] = Field(default_factory=_numbered)
    asked: list[list[BaseMessage]] = Field(default_factory=list)

    def bind_tools(self, tools: Any, **kwargs: Any) -> FakeModel:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.asked.append(list(messages))
        answer = next(self.messages)
        if isinstance(answer, BaseException):
            raise answer
        rest, self.messages = self.messages, iter([answer])
        try:
            return super()._generate(messages, *args, **kwargs)
        finally:
            self.messages = rest


def scripted_model(*answers: Any) -> FakeModel:
    """Return a model with a script of strings, messages and exceptions."""
    return FakeModel(messages=iter([AIMessage(a) if isinstance(a, str) else a for a in answers]))


def session_config(session_id: str) -> dict[str, Any]:
    """Return the config that selects a session."""
    return {"configurable": {"session_id": session_id}}


def texts_of(messages: list[BaseMessage]) -> list[str]:
    """Return the text of each message."""
    return [str(message.text) for message in messages]


def write_sql_history(path: Path, sessions: dict[str, list[BaseMessage]], table: str = "message_store") -> Path:
    """Write sessions to a SQLite file as `SQLChatMessageHistory` does."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f'CREATE TABLE IF NOT EXISTS "{table}" (id INTEGER PRIMARY KEY, session_id TEXT, message TEXT)'
        )
        for session_id, messages in sessions.items():
            rows = [(session_id, json.dumps(message_to_dict(message))) for message in messages]
            connection.executemany(f'INSERT INTO "{table}" (session_id, message) VALUES (?, ?)', rows)
    return path


async def run_astream(chain: Runnable[Any, Any], value: Any) -> None:
    async for _ in chain.astream(value, session_config("s")):
        pass


async def run_astream_events(chain: Runnable[Any, Any], value: Any) -> None:
    kinds = [event["event"] async for event in chain.astream_events(value, session_config("s"))]
    assert "on_chat_model_stream" in kinds


async def run_inside_loop(chain: Runnable[Any, Any], value: Any) -> None:
    chain.invoke(value, session_config("s"))


RUNNABLE_CALLS: dict[str, Callable[[Runnable[Any, Any], Any], Any]] = {
    "invoke": lambda chain, value: chain.invoke(value, session_config("s")),
    "stream": lambda chain, value: list(chain.stream(value, session_config("s"))),
    "batch": lambda chain, value: chain.batch([value], session_config("s")),
    "ainvoke": lambda chain, value: asyncio.run(chain.ainvoke(value, session_config("s"))),
    "abatch": lambda chain, value: asyncio.run(chain.abatch([value], session_config("s"))),
    "astream": lambda chain, value: asyncio.run(run_astream(chain, value)),
    "astream_events": lambda chain, value: asyncio.run(run_astream_events(chain, value)),
    "invoke in a running loop": lambda chain, value: asyncio.run(run_inside_loop(chain, value)),
}
"""The ways to call a runnable, by name. Each takes a runnable and its input, and calls it on session "s"."""
