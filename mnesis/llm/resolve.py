"""The choice of the model client for a value that a user passed."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import cast

from mnesis.errors import ConfigurationError, LLMError, LLMResponseError
from mnesis.llm.base import LLM, Delta, LLMReply, LLMRequest, closing_stream, prepare_client
from mnesis.llm.function import CallableLLM
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.mock import MockLLM
from mnesis.llm.openai_compatible import OpenAICompatibleLLM
from mnesis.telemetry.hooks import Observation, observe

MOCK_VARIABLE = "MNESIS_MOCK_LLM"


def resolve(llm: object | None = None) -> LLM:
    """Return the client for a value that a user passed.

    The value is None, a model string, an object with `complete` and `stream`, or a function. None calls the model that
    each request names, a string calls that model instead; both use litellm. `MNESIS_MOCK_LLM=1`, read at each call,
    replaces any client with `MockLLM`.

    Raises `ConfigurationError` for any other value.
    """
    return llm if isinstance(llm, SwitchedLLM) else SwitchedLLM(_make_client(llm))


class SwitchedLLM:
    """A client that calls `inner`, or `MockLLM` while the environment has `MNESIS_MOCK_LLM=1`."""

    def __init__(self, inner: LLM) -> None:
        self.inner = inner

    async def prepare(self) -> None:
        """Prepare the active client for its first call."""
        await prepare_client(self._active_client())

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Return the whole answer of the active client."""
        client = self._active_client()
        with _observe_call(client, request) as observation, _convert_errors(client, request):
            reply = _check_reply(await client.complete(request), client, request)
            _set_reply(observation, reply)
            return reply

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """Yield the pieces of the active client, then its whole answer."""
        client = self._active_client()
        observation = _observe_call(client, request, is_streamed=True).begin()
        failure: BaseException | None = None
        try:
            with _convert_errors(client, request):
                async with closing_stream(client.stream(request)) as pieces:
                    while True:
                        # The call is the current operation only while the client works, not while the caller does.
                        with observation.current():
                            piece = await anext(pieces, None)
                        if piece is None:
                            return
                        if not isinstance(piece, Delta):
                            piece = _check_reply(piece, client, request)
                            _set_reply(observation, piece)
                        yield piece
        except BaseException as error:
            failure = None if isinstance(error, GeneratorExit) else error
            raise
        finally:
            observation.finish(failure)

    @property
    def model(self) -> str | None:
        """The model that replaces the model named in a request. None if the client calls the model that the request
        names.
        """
        client = self._active_client()
        return client.model if isinstance(client, LiteLLM | OpenAICompatibleLLM) else None

    @property
    def accepts_cache_marks(self) -> bool:
        """Whether the active client passes cache marks (`cache_control`) on to the provider."""
        return bool(getattr(self._active_client(), "accepts_cache_marks", False))

    def _active_client(self) -> LLM:
        return MockLLM() if is_mock_enabled() else self.inner


def _observe_call(client: LLM, request: LLMRequest, *, is_streamed: bool = False) -> Observation:
    model = (client.model if isinstance(client, LiteLLM | OpenAICompatibleLLM) else None) or request.model
    observation = observe("model call", model=model, purpose=request.purpose, is_streamed=is_streamed or None)
    if observation.is_recorded:
        observation.set(max_output_tokens=request.max_output_tokens, input_messages=request.messages)
    return observation


def _set_reply(observation: Observation, reply: LLMReply) -> None:
    if not observation.is_recorded:
        return
    calls = [
        {"type": "tool_call", "id": c.tool_call_id, "name": c.tool_name, "arguments": c.input} for c in reply.tool_calls
    ]
    parts = [{"type": "text", "content": reply.text}] if reply.text else []
    message = {"role": "assistant", "parts": [*parts, *calls], "finish_reason": reply.finish_reason}
    observation.set(
        usage=reply.usage,
        cost=reply.cost,
        finish_reasons=(reply.finish_reason,),
        response_model=reply.model or None,
        output_messages=json.dumps([message], ensure_ascii=False, default=str),
    )


@contextmanager
def _convert_errors(client: LLM, request: LLMRequest) -> Iterator[None]:
    """Convert any exception of a client to an `LLMError`.

    Assertion errors pass, because they belong to tests.
    """
    try:
        yield
    except (LLMError, AssertionError):
        raise
    except Exception as error:
        name = type(client).__name__
        message = f"{name} raised {type(error).__name__}: {error}"
        raise LLMError(message, model=request.model) from error


def _check_reply(reply: object, client: LLM, request: LLMRequest) -> LLMReply:
    if isinstance(reply, LLMReply):
        return reply
    name, kind = type(client).__name__, type(reply).__name__
    raise LLMResponseError(
        f"{name} returned a {kind}; a client must return an LLMReply, or yield Delta pieces and one LLMReply",
        model=request.model,
    )


def is_mock_enabled() -> bool:
    """Return whether `MNESIS_MOCK_LLM` is exactly "1" now."""
    return os.environ.get(MOCK_VARIABLE) == "1"


def _has_methods(llm: object) -> bool:
    """Return whether an object has the methods of a client, even if it delegates them to another object.

    `isinstance` with a protocol does not see delegated methods: https://docs.python.org/3/whatsnew/3.12.html#typing
    """
    return callable(getattr(llm, "complete", None)) and callable(getattr(llm, "stream", None))


def _make_client(llm: object | None) -> LLM:
    if llm is None:
        return LiteLLM()
    if isinstance(llm, str) and llm.strip():
        return LiteLLM(model=llm)
    if _has_methods(llm) and not isinstance(llm, type):
        return cast("LLM", llm)
    if callable(llm) and not isinstance(llm, type):
        return CallableLLM(llm)
    raise ConfigurationError(
        f"llm={llm!r} is not a language model; pass a model string such as 'anthropic/claude-sonnet-4-5', a function"
        " (messages) -> str, or an object with the methods complete(request) and stream(request)"
    )
