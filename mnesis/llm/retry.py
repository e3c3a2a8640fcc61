"""Repeating a model call that failed for a passing reason. `retry_delay`, a pure function, decides when."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from mnesis.config import RetryConfig
from mnesis.errors import LLMError, LLMResponseError
from mnesis.llm.base import LLM, Delta, LLMReply, LLMRequest, closing_stream

if TYPE_CHECKING:
    import tenacity

OnRetry = Callable[[int, LLMError, float], None]
"""Called before each wait with the number of the failed attempt (from 1), its error, and the wait in seconds."""


async def complete_with_retry(
    llm: LLM, request: LLMRequest, retry: RetryConfig, on_retry: OnRetry | None = None
) -> LLMReply:
    """`llm.complete(request)`, repeated as `retry` says. Raises the error of the last attempt."""
    async for attempt in _attempts(retry, on_retry):
        with attempt:
            return await llm.complete(request)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def stream_with_retry(
    llm: LLM, request: LLMRequest, retry: RetryConfig, on_retry: OnRetry | None = None
) -> AsyncGenerator[Delta | LLMReply, None]:
    """`llm.stream(request)`, repeated as `retry` says until its first piece is there; never after that.

    The last item is the whole reply. Raises the error of the last attempt, and LLMResponseError for a stream that ends
    without a reply. Closing the generator closes the model's stream.
    """
    async for attempt in _attempts(retry, on_retry):
        with attempt:
            pieces = llm.stream(request)
            last = await anext(pieces, None)
    text = ""
    async with closing_stream(pieces):
        while last is not None:
            yield last
            if isinstance(last, LLMReply):
                return
            text += last.text
            last = await anext(pieces, None)
    raise LLMResponseError("the model's stream ended without a reply", model=request.model, partial_text=text)


def retry_delay(retry: RetryConfig, attempt: int, error: BaseException) -> float | None:
    """Seconds to wait after `attempt` (from 1) failed with `error`; None: do not repeat.

    The wait is `base_delay · 2^(attempt-1)`, at most `max_delay`; with jitter, between half of that and all of it.
    A provider's Retry-After is waited out in full, or, when it is longer than `max_delay`, not at all.
    """
    if not isinstance(error, LLMError) or not error.retryable or attempt > retry.max_retries:
        return None
    asked = error.retry_after_seconds or 0.0
    if asked > retry.max_delay:
        return None
    delay = min(retry.base_delay * 2.0 ** (attempt - 1), retry.max_delay)
    if retry.jitter:
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients in time; nothing secret depends on it
    return max(delay, asked)


def _attempts(retry: RetryConfig, on_retry: OnRetry | None) -> tenacity.AsyncRetrying:
    import tenacity

    delay = 0.0

    def due(state: tenacity.RetryCallState) -> bool:
        nonlocal delay
        error = state.outcome.exception() if state.outcome is not None and state.outcome.failed else None
        wanted = retry_delay(retry, state.attempt_number, error) if error is not None else None
        delay = wanted or 0.0
        if wanted is not None and on_retry is not None and isinstance(error, LLMError):
            on_retry(state.attempt_number, error, delay)
        return wanted is not None

    return tenacity.AsyncRetrying(retry=due, wait=lambda _: delay, stop=tenacity.stop_never, reraise=True)
