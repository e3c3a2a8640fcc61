"""A chat model for tests: it answers from a script and keeps what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult
from pydantic import Field


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


def answering(*answers: Any) -> FakeModel:
    """A model with a script: strings, messages, exceptions."""
    return FakeModel(messages=iter([AIMessage(a) if isinstance(a, str) else a for a in answers]))


def named(session_id: str) -> dict[str, Any]:
    """The config that names a session."""
    return {"configurable": {"session_id": session_id}}


def said(messages: list[BaseMessage]) -> list[str]:
    """What stands in messages, as text."""
    return [str(message.text) for message in messages]
