"""Real models, through litellm. The only file that imports it: in the first call, in a thread."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from functools import lru_cache
from typing import Any, TypeVar

import anyio.to_thread

from mnesis.errors import LLMConnectionError, LLMError, LLMResponseError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.litellm_errors import llm_error
from mnesis.llm.litellm_replies import StreamedReply, usage_of, whole_reply

LOCAL_COST_MAP = "LITELLM_LOCAL_MODEL_COST_MAP"

T = TypeVar("T")


class LiteLLM:
    """Every provider that litellm knows. `model`, if given, is called in place of the one a request names.

    litellm's own retries are off: retrying is decided in one place. `request.options` win over everything set here.
    """

    def __init__(self, model: str | None = None) -> None:
        self.model = model

    async def complete(self, request: LLMRequest) -> LLMReply:
        """The whole answer, within `timeout_seconds`."""
        litellm, model = await _litellm(), self.model or request.model
        try:
            response = await _within(request.timeout_seconds, litellm.acompletion(**self._arguments(litellm, request)))
            if not response.choices:
                raise LLMResponseError(f"{model}: the answer has no choices", model=model)
            usage = usage_of(getattr(response, "usage", None))
            cost = _cost(litellm, model, response.usage) if usage else 0.0
            return whole_reply(response.choices[0], usage, cost, model)
        except LLMError:
            raise
        except Exception as error:  # whatever litellm lets through is a failed call; the port promises an LLMError
            raise llm_error(error, model=model, missing_keys=_missing_keys(litellm, model, request.options)) from error

    async def stream(self, request: LLMRequest) -> AsyncGenerator[Delta | LLMReply, None]:
        """Pieces as they arrive, each awaited for `timeout_seconds` at most; closing the stream ends the connection."""
        litellm, model = await _litellm(), self.model or request.model
        reply = StreamedReply()
        try:
            arguments = self._arguments(litellm, request) | {"stream": True, "stream_options": {"include_usage": True}}
            chunks = await _within(request.timeout_seconds, litellm.acompletion(**arguments | request.options))
            async with aclosing(chunks):
                while (chunk := await _within(request.timeout_seconds, anext(chunks, None))) is not None:
                    if delta := reply.add(chunk):
                        yield delta
            _check_finished(chunks, reply, model)
            usage = usage_of(reply.report) if _usage_was_reported(chunks) else None
            cost = _cost(litellm, model, reply.report) if usage else 0.0
            yield reply.finished(usage, cost, model)
        except LLMError:
            raise
        except Exception as error:  # as in complete()
            missing_keys = _missing_keys(litellm, model, request.options)
            raise llm_error(error, model=model, partial_text=reply.text, missing_keys=missing_keys) from error

    def _arguments(self, litellm: Any, request: LLMRequest) -> dict[str, Any]:
        model = self.model or request.model
        optional = {
            "max_tokens": request.max_output_tokens,
            "tools": list(request.tools) or None,
            "response_format": _response_format(litellm, model, request.response_schema),
        }
        return {
            "model": model,
            "messages": list(request.messages),
            "stream": False,
            "num_retries": 0,
            "timeout": request.timeout_seconds,
            **{name: value for name, value in optional.items() if value is not None},
            **request.options,
        }


def _response_format(litellm: Any, model: str, schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """How the provider is asked to keep to a schema, where litellm knows that it can; it wants an object at the top."""
    if schema is None or schema.get("type") != "object" or not _takes_schemas(litellm, model):
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": False}}


@lru_cache(maxsize=100)
def _takes_schemas(litellm: Any, model: str) -> bool:
    """Looked up once for each model: it takes as long as the rest of a call."""
    return bool(litellm.supports_response_schema(model=model))


def _check_finished(chunks: Any, reply: StreamedReply, model: str) -> None:
    """litellm makes up a finish_reason for a stream that ends without one; its stream object knows what came."""
    received = getattr(chunks, "received_finish_reason", reply.finish_reason)
    if received or getattr(chunks, "intermittent_finish_reason", None):
        return
    if not getattr(chunks, "chunks", True):
        raise LLMResponseError(f"{model}: the stream has no choices; check api_base", model=model)
    raise LLMConnectionError(
        f"{model}: the stream ended before the answer was finished", model=model, partial_text=reply.text
    )


def _usage_was_reported(chunks: Any) -> bool:
    """litellm counts for itself where the provider reported nothing usable; only the chunks received tell the two apart."""
    received = getattr(chunks, "chunks", None)
    return received is None or any(usage_of(getattr(chunk, "usage", None)) for chunk in received)


def _cost(litellm: Any, model: str, report: Any) -> float:
    reported = getattr(report, "cost", None)
    if isinstance(reported, int | float):
        return max(float(reported), 0.0)
    try:
        return float(sum(litellm.cost_per_token(model=model, usage_object=report)))
    except Exception:  # litellm raises a bare Exception for models whose price it does not know
        return 0.0


def _missing_keys(litellm: Any, model: str, options: dict[str, Any]) -> list[str]:
    given = litellm.validate_environment(model=model, api_key=options.get("api_key"))
    return list(given.get("missing_keys", ()))


async def _within(seconds: float, awaitable: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await awaitable
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"no answer within {seconds:g} s") from error
        raise


_import_lock = threading.Lock()
_loaded: Any = None


async def _litellm() -> Any:
    """The module. Its import takes seconds, so it happens off the loop; a cancelled call does not wait for it."""
    return _loaded or await anyio.to_thread.run_sync(_load, abandon_on_cancel=True)


def _load() -> Any:
    global _loaded
    with _import_lock:
        if _loaded is None:
            _loaded = _quiet_import()
    return _loaded


def _quiet_import() -> Any:
    """Without this variable the import downloads a price list. What the user has set is left alone."""
    unset = LOCAL_COST_MAP not in os.environ
    if unset:
        os.environ[LOCAL_COST_MAP] = "True"
    try:
        import litellm

        # litellm's first call would load these in the loop: 0.4 s.
        importlib.import_module("openai.resources")
    finally:
        if unset:
            del os.environ[LOCAL_COST_MAP]
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    return litellm
