"""The one place that chooses which model client answers."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

from mnesis.errors import ConfigurationError, LLMError, LLMResponseError
from mnesis.llm.base import LLM, Delta, LLMReply, LLMRequest, closing_stream
from mnesis.llm.function import CallableLLM
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.mock import MockLLM
from mnesis.llm.redact import redact

MOCK_SWITCH = "MNESIS_MOCK_LLM"


def resolve(llm: object | None = None) -> LLM:
    """The client for what a user gave: None, a model string, an object with `complete` and `stream`, or a function.

    None calls the model each request names, a string that model in its place, both through litellm. Whatever is chosen,
    `MNESIS_MOCK_LLM=1`, read at each call, puts `MockLLM` in its place. Raises ConfigurationError for anything else.
    """
    return llm if isinstance(llm, SwitchedLLM) else SwitchedLLM(_client(llm))


class SwitchedLLM:
    """`inner`, or `MockLLM` for every call made while the environment has `MNESIS_MOCK_LLM=1`."""

    def __init__(self, inner: LLM) -> None:
        self.inner = inner

    async def complete(self, request: LLMRequest) -> LLMReply:
        """The whole answer of the client in charge."""
        chosen = self._chosen()
        with _typed_failures(chosen, request):
            return _checked_reply(await chosen.complete(request), chosen, request)

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """The pieces of the client in charge, then its whole answer."""
        chosen = self._chosen()
        with _typed_failures(chosen, request):
            async with closing_stream(chosen.stream(request)) as pieces:
                async for piece in pieces:
                    yield piece if isinstance(piece, Delta) else _checked_reply(piece, chosen, request)

    def _chosen(self) -> LLM:
        return MockLLM() if mock_is_on() else self.inner


@contextmanager
def _typed_failures(client: LLM, request: LLMRequest) -> Iterator[None]:
    """Whatever a client fails with is an `LLMError`; a failed assertion is a test's and stays one."""
    try:
        yield
    except (LLMError, AssertionError):
        raise
    except Exception as error:
        name = type(client).__name__
        message = f"{name} raised {type(error).__name__}: {redact(str(error))}"
        raise LLMError(message, model=request.model) from error


def _checked_reply(reply: object, client: LLM, request: LLMRequest) -> LLMReply:
    if isinstance(reply, LLMReply):
        return reply
    name, kind = type(client).__name__, type(reply).__name__
    raise LLMResponseError(f"{name} gave a {kind}; a client gives Delta pieces and one LLMReply", model=request.model)


def mock_is_on() -> bool:
    """Whether `MNESIS_MOCK_LLM` is exactly "1" now."""
    return os.environ.get(MOCK_SWITCH) == "1"


def _client(llm: object | None) -> LLM:
    if llm is None:
        return LiteLLM()
    if isinstance(llm, str) and llm.strip():
        return LiteLLM(model=llm)
    if isinstance(llm, LLM) and not isinstance(llm, type):
        return llm
    if callable(llm) and not isinstance(llm, type):
        return CallableLLM(llm)
    raise ConfigurationError(
        f"llm={llm!r} is no language model; give a model string such as 'anthropic/claude-sonnet-4-5', a function"
        " (messages) -> str, or an object with the methods complete(request) and stream(request)"
    )
