from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import Field

from mnesis import Engine, sync


class FakeModel(GenericFakeChatModel):
    """Answers "answer 1", "answer 2", … or what it is given; keeps what it was asked."""

    messages: Iterator[Any] = Field(default_factory=lambda: (f"answer {number}" for number in range(1, 10**9)))
    asked: list[list[BaseMessage]] = Field(default_factory=list)
    ran_with: list[Any] = Field(default_factory=list)

    def bind_tools(self, tools: Any, **kwargs: Any) -> FakeModel:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.asked.append(list(messages))
        answer = next(self.messages)
        if isinstance(answer, BaseException):
            raise answer
        self.messages = iter([answer, *[]]) if False else _pushed(answer, self.messages)
        return super()._generate(messages, *args, **kwargs)

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield from super()._stream(*args, **kwargs)


def _pushed(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def answering(*answers: Any) -> FakeModel:
    """A model with a script: strings, messages, exceptions to raise."""
    return FakeModel(messages=iter([AIMessage(a) if isinstance(a, str) else a for a in answers]))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "sessions.db")
    yield made
    sync.run(made.close())


@pytest.fixture
def log(engine: Engine) -> Callable[[str], list[tuple[str, str]]]:
    """The log of a session as (role, text) pairs, read natively."""

    def read(session_id: str) -> list[tuple[str, str]]:
        session = sync.SyncSession.load(session_id, engine=engine)
        return [(m.role, m.text_content() or "".join(r.output for r in m.tool_results)) for m in session.messages()]

    return read


def named(session_id: str) -> dict[str, Any]:
    """The config that names a session."""
    return {"configurable": {"session_id": session_id}}


__all__ = ["AsyncIterator", "FakeModel", "answering", "engine", "log", "named"]
