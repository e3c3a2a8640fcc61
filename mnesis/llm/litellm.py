"""The client for real models, through litellm.

Only this file imports litellm: at the first call, in a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, aclosing, closing
from functools import lru_cache
from typing import Any, TypeVar

import anyio.to_thread

from mnesis.errors import LLMConnectionError, LLMError, LLMResponseError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.litellm_errors import to_llm_error
from mnesis.llm.litellm_replies import StreamedReply, parse_reply, parse_usage
from mnesis.llm.piece_timer import PieceTimer
from mnesis.llm.refusals import SCHEMA_NAME, Refusals, find_refusal, without, without_reasoning_items

LOCAL_COST_MAP_VARIABLE = "LITELLM_LOCAL_MODEL_COST_MAP"

T = TypeVar("T")


class LiteLLM:
    """A client for every provider that litellm supports.

    `model`, if given, replaces the model that a request names. litellm's own retries are off, because `mnesis.llm.retry`
    retries. `request.options` take precedence over all arguments set here.
    """

    accepts_cache_marks = True

    def __init__(self, model: str | None = None) -> None:
        self.model = model

    async def prepare(self) -> None:
        """Import litellm, which takes seconds: in a thread, so that the event loop stays free."""
        await _load_litellm()

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Call the model and return the whole answer.

        Raises `LLMError`, also after `timeout_seconds`.
        """
        litellm, model = await _load_litellm(), self.model or request.model
        try:
            response = await _call(litellm, self._arguments(litellm, request), request.timeout_seconds)
            if not response.choices:
                raise LLMResponseError(
                    f"{model}: the answer has no choices; check that api_base leads to a chat-completions endpoint",
                    model=model,
                )
            usage = parse_usage(getattr(response, "usage", None))
            cost = _cost(litellm, model, response.usage, response) if usage else 0.0
            return parse_reply(response.choices[0], usage, cost, model)
        except LLMError:
            raise
        except Exception as error:  # any exception of litellm is a failed call; clients raise only LLMError
            raise to_llm_error(
                error, model=model, missing_keys=_missing_keys(litellm, model, request.options)
            ) from error

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """Call the model; yield pieces as they arrive, then the whole answer. Raises `LLMError`.

        `timeout_seconds` limits the wait for each piece. Closing the stream closes the connection.
        """
        litellm, model = await _load_litellm(), self.model or request.model
        reply = StreamedReply()
        try:
            arguments = self._arguments(litellm, request) | {"stream": True, "stream_options": {"include_usage": True}}
            chunks = await _call(litellm, arguments | request.options, request.timeout_seconds)
            _watch_raw_chunks(chunks, reply)
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(aclosing(chunks))
                timer = stack.enter_context(closing(PieceTimer(request.timeout_seconds)))
                while (chunk := await timer.wait(anext(chunks, None))) is not None:
                    if delta := reply.add(chunk):
                        yield delta
            _check_finished(chunks, reply, model)
            usage = parse_usage(reply.usage_report) if _has_reported_usage(chunks) else None
            cost = _cost(litellm, model, reply.usage_report) if usage else 0.0
            yield reply.to_reply(usage, cost, model)
        except LLMError:
            raise
        except Exception as error:  # as in complete()
            missing_keys = _missing_keys(litellm, model, request.options)
            raise to_llm_error(error, model=model, partial_text=reply.text, missing_keys=missing_keys) from error

    def _arguments(self, litellm: Any, request: LLMRequest) -> dict[str, Any]:
        model = self.model or request.model
        optional = {
            "max_tokens": request.max_output_tokens,
            "tools": list(request.tools) or None,
            "response_format": _response_format(litellm, model, request.response_schema),
        }
        arguments = {
            "model": model,
            "messages": list(request.messages),
            "stream": False,
            "num_retries": 0,
            "timeout": request.timeout_seconds,
            **{name: value for name, value in optional.items() if value is not None},
            **request.options,
        }
        return arguments if _accepts_reasoning_items(arguments) else without_reasoning_items(arguments)


def _accepts_reasoning_items(arguments: dict[str, Any]) -> bool:
    """Return whether litellm sends a request to the Responses API. Chat completions refuse messages with reasoning items."""
    if not any("reasoning_items" in message for message in arguments["messages"]):
        return True
    if "responses/" in arguments["model"]:
        return True
    try:
        from litellm.responses.bridge_check import chat_completion_ends_in_responses_api
    except ImportError:  # releases that do not choose the API by the content of a request
        return False
    names = ("tools", "reasoning_effort", "api_base")
    return bool(
        chat_completion_ends_in_responses_api(arguments["model"], None, **{name: arguments.get(name) for name in names})
    )


_refusals = Refusals()


async def _call(litellm: Any, arguments: dict[str, Any], timeout_seconds: float) -> Any:
    """Call litellm. If the endpoint rejects cache marks or returned reasoning, call again without them, now and later."""
    arguments = _refusals.apply(arguments)
    rejected: list[str] = []
    while True:
        try:
            response = await _await_within(timeout_seconds, litellm.acompletion(**arguments))
        except Exception as error:
            part = find_refusal(arguments, error)
            if part is None:
                raise
            rejected.append(part)
            arguments = without(part, arguments)
        else:
            for part in rejected:
                _refusals.add(arguments, part)
            return response


def _response_format(litellm: Any, model: str, schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the `response_format` for a schema.

    None if the model does not support schemas, or if the top level is not an object.
    """
    if schema is None or schema.get("type") != "object" or not _supports_schemas(litellm, model):
        return None
    return {"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "schema": schema, "strict": False}}


@lru_cache(maxsize=100)
def _supports_schemas(litellm: Any, model: str) -> bool:
    """Return whether the model supports schemas.

    Cached, because the look-up takes as long as the rest of a call.
    """
    return bool(litellm.supports_response_schema(model=model))


def _check_finished(chunks: Any, reply: StreamedReply, model: str) -> None:
    """Raise an error if the stream ended before the answer did.

    litellm invents a finish_reason for a stream that ends without one. Its stream object contains the received chunks.
    """
    received = getattr(chunks, "received_finish_reason", reply.finish_reason)
    if received or getattr(chunks, "intermittent_finish_reason", None):
        return
    if not getattr(chunks, "chunks", True):
        raise LLMResponseError(
            f"{model}: the stream has no choices; check that api_base leads to a chat-completions endpoint", model=model
        )
    raise LLMConnectionError(
        f"{model}: the stream ended before the answer was finished", model=model, partial_text=reply.text
    )


class _WatchedChunks:
    """The provider's chunks on their way into litellm's stream. Each is shown to `reply` first."""

    def __init__(self, chunks: Any, reply: StreamedReply) -> None:
        self._chunks, self._reply = chunks, reply
        self._iterator: Any = chunks

    def __aiter__(self) -> _WatchedChunks:
        self._iterator = aiter(self._chunks)
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._iterator)
        self._reply.add_raw(chunk)
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chunks, name)


def _watch_raw_chunks(chunks: Any, reply: StreamedReply) -> None:
    """Read a chunk that litellm's stream would drop: one of OpenRouter that contains only `reasoning_details`.

    `CustomStreamWrapper.is_chunk_non_empty()` of litellm 1.83 to 1.110 does not know that field.
    """
    source = getattr(chunks, "completion_stream", None)
    if hasattr(source, "__anext__"):
        chunks.completion_stream = _WatchedChunks(source, reply)


def _has_reported_usage(chunks: Any) -> bool:
    """Return whether the provider reported usage.

    If it did not, litellm counts the tokens itself; only the received chunks show the difference.
    """
    received = getattr(chunks, "chunks", None)
    return received is None or any(parse_usage(getattr(chunk, "usage", None)) for chunk in received)


def _cost(litellm: Any, model: str, report: Any, response: Any = None) -> float:
    """Return the cost of a call: the provider's report, or else the cost that litellm has computed or computes now.

    litellm has computed it for each whole response (docs.litellm.ai/docs/completion/token_usage, `response_cost`),
    which takes as long as the rest of its work on a short reply. The chunks of a stream have no computed cost.
    """
    reported = getattr(report, "cost", None)
    computed = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
    for cost in (reported, computed):
        if isinstance(cost, int | float):
            return max(float(cost), 0.0)
    try:
        return float(sum(litellm.cost_per_token(model=model, usage_object=report)))
    except Exception:  # litellm raises a bare Exception for models whose price is unknown
        return 0.0


def _missing_keys(litellm: Any, model: str, options: dict[str, Any]) -> list[str]:
    environment = litellm.validate_environment(model=model, api_key=options.get("api_key"))
    return list(environment.get("missing_keys", ()))


async def _await_within(seconds: float, awaitable: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds) as timeout:
            return await awaitable
    except TimeoutError as error:
        if timeout.expired():
            raise TimeoutError(f"no answer within {seconds:g} s") from error
        raise


_import_lock = threading.Lock()
_module: Any = None


async def _load_litellm() -> Any:
    """Return the litellm module.

    The import takes seconds, so it runs in a thread; a cancelled call does not wait for it.
    """
    return _module or await anyio.to_thread.run_sync(_import_once, abandon_on_cancel=True)


def _import_once() -> Any:
    global _module
    with _import_lock:
        if _module is None:
            _module = _import_quietly()
    return _module


def _import_quietly() -> Any:
    """Import litellm without network access.

    Without the variable, the import downloads a price list. A value set by the user is kept.
    """
    was_unset = LOCAL_COST_MAP_VARIABLE not in os.environ
    if was_unset:
        os.environ[LOCAL_COST_MAP_VARIABLE] = "True"
    try:
        import litellm

        # Otherwise litellm's first call loads these in the event loop, which takes 0.4 s.
        importlib.import_module("openai.resources")
        getattr(litellm, "encoding", None)
    finally:
        if was_unset:
            del os.environ[LOCAL_COST_MAP_VARIABLE]
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm
