"""Retries of model calls that failed for a transient reason.

`retry_delay` decides when, without I/O.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from mnesis.config import RetryConfig
from mnesis.errors import LLMError, LLMResponseError
from mnesis.llm.base import LLM, Delta, LLMReply, LLMRequest, closing_stream

if TYPE_CHECKING:
    import tenacity

T = TypeVar("T")
OnRetry = Callable[[int, LLMError, float], None]
"""Called before each wait with the number of the failed attempt (from 1), its error, and the wait in seconds."""


class Backoff:
    """The waits of model calls before their retries. `end()` ends them, from any thread, and there are no further retries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: set[asyncio.Future[None]] = set()
        self._is_ended = False

    @property
    def is_ended(self) -> bool:
        """Whether `end()` was called."""
        return self._is_ended

    async def wait(self, seconds: float) -> bool:
        """Wait. Returns whether the call may be tried again: False if the waits were ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._is_ended:
                return False
            self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            with self._lock:
                self._waiters.discard(waiter)
            waiter.cancel()
        return not self._is_ended

    def end(self) -> None:
        """End all waits, now and in the future."""
        with self._lock:
            self._is_ended = True
            for waiter in self._waiters:
                with suppress(RuntimeError):  # the loop was closed, so no call waits
                    waiter.get_loop().call_soon_threadsafe(waiter.cancel)


async def complete_with_retry(
    llm: LLM,
    request: LLMRequest,
    retry: RetryConfig,
    on_retry: OnRetry | None = None,
    backoff: Backoff | None = None,
) -> LLMReply:
    """Call `llm.complete(request)` with retries. Raises the error of the last attempt, even if `backoff` ends the wait."""
    return await _call(lambda: llm.complete(request), retry, on_retry, backoff)


async def stream_with_retry(
    llm: LLM,
    request: LLMRequest,
    retry: RetryConfig,
    on_retry: OnRetry | None = None,
    backoff: Backoff | None = None,
) -> AsyncGenerator[Delta | LLMReply, None]:
    """Call `llm.stream(request)`, with retries until the first piece has arrived.

    The last item is the whole reply. Closing the generator closes the model's stream.

    Raises the error of the last attempt, or `LLMResponseError` if the stream ends without a reply.
    """

    async def begin() -> tuple[AsyncIterator[Delta | LLMReply], Delta | LLMReply | None]:
        pieces = llm.stream(request)
        return pieces, await anext(pieces, None)

    pieces, first = await _call(begin, retry, on_retry, backoff)
    text = ""
    async with closing_stream(pieces):
        if first is not None:
            yield first
            if isinstance(first, LLMReply):
                return
            text = first.text
            async for item in pieces:
                yield item
                if isinstance(item, LLMReply):
                    return
                text += item.text
    raise LLMResponseError("the model's stream ended without a reply", model=request.model, partial_text=text)


def retry_delay(retry: RetryConfig, attempt: int, error: BaseException) -> float | None:
    """Return the seconds to wait after `attempt` (from 1) failed with `error`.

    None means do not retry.

    The wait is `base_delay · 2^(attempt-1)`, at most `max_delay`; with jitter, between half of that and all of it.
    A provider's Retry-After is respected in full; if it is longer than `max_delay`, there is no retry.
    """
    if not isinstance(error, LLMError) or not error.retryable or attempt > retry.max_retries:
        return None
    requested_seconds = error.retry_after_seconds or 0.0
    if requested_seconds > retry.max_delay:
        return None
    delay = min(retry.base_delay * 2.0 ** (attempt - 1), retry.max_delay)
    if retry.jitter:
        delay *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients in time; nothing secret depends on it
    return max(delay, requested_seconds)


async def _call(
    call: Callable[[], Awaitable[T]], retry: RetryConfig, on_retry: OnRetry | None, backoff: Backoff | None
) -> T:
    """Return the result of the first call that succeeds. Raises the error of the last attempt."""
    try:
        return await call()
    except LLMError as error:
        first_error: LLMError | None = error
    async for attempt in _attempts(retry, on_retry, backoff):
        with attempt:
            if first_error is not None:  # the call above was the first attempt; most calls need no other
                failure, first_error = first_error, None
                raise failure
            return await call()
    raise AssertionError("unreachable: the last attempt returns or raises")


def _attempts(retry: RetryConfig, on_retry: OnRetry | None, backoff: Backoff | None) -> tenacity.AsyncRetrying:
    import tenacity

    backoff = backoff or Backoff()
    delay = 0.0
    last_error: BaseException | None = None

    def should_retry(state: tenacity.RetryCallState) -> bool:
        nonlocal delay, last_error
        error = state.outcome.exception() if state.outcome is not None and state.outcome.failed else None
        next_delay = retry_delay(retry, state.attempt_number, error) if error is not None else None
        if backoff.is_ended:
            next_delay = None
        last_error = error
        delay = next_delay or 0.0
        if next_delay is not None and on_retry is not None and isinstance(error, LLMError):
            on_retry(state.attempt_number, error, delay)
        return next_delay is not None

    async def sleep(seconds: float) -> None:
        if not await backoff.wait(seconds) and last_error is not None:
            raise last_error

    return tenacity.AsyncRetrying(
        sleep=sleep, retry=should_retry, wait=lambda _: delay, stop=tenacity.stop_never, reraise=True
    )
