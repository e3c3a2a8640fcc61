"""Repeating failed calls: which, how often, how long apart, and how a wait ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.config import RetryConfig
from mnesis.errors import (
    ContextOverflowError,
    LLMAuthenticationError,
    LLMBadRequestError,
    LLMConnectionError,
    LLMError,
    LLMRateLimitError,
    LLMResponseError,
    LLMServerError,
    LLMTimeoutError,
)
from mnesis.llm import retry
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.retry import OnRetry, complete_with_retry, retry_delay, stream_with_retry
from mnesis.testing import FailAfter, ScriptedLLM

REQUEST = LLMRequest(model="m", messages=[{"role": "user", "content": "hi"}])
AT_ONCE = RetryConfig(max_retries=3, base_delay=0.0)
PASSING = [LLMRateLimitError, LLMTimeoutError, LLMConnectionError, LLMServerError]
LASTING = [LLMError, LLMAuthenticationError, LLMBadRequestError, ContextOverflowError, LLMResponseError]

both_ways = pytest.mark.parametrize("how", ["complete", "stream"])


async def call(llm: ScriptedLLM, how: str, config: RetryConfig = AT_ONCE, on_retry: OnRetry | None = None) -> LLMReply:
    if how == "complete":
        return await complete_with_retry(llm, REQUEST, config, on_retry)
    pieces = [piece async for piece in stream_with_retry(llm, REQUEST, config, on_retry)]
    assert isinstance(pieces[-1], LLMReply)
    return pieces[-1]


@both_ways
@pytest.mark.parametrize("kind", PASSING)
async def test_a_passing_failure_is_repeated(how: str, kind: type[LLMError]) -> None:
    llm = ScriptedLLM([kind("x"), kind("x"), "done"])
    assert (await call(llm, how)).text == "done"
    assert len(llm.requests) == 3


@both_ways
@pytest.mark.parametrize("kind", LASTING)
async def test_a_lasting_failure_is_not_repeated(how: str, kind: type[LLMError]) -> None:
    llm = ScriptedLLM([kind("x"), "done"])
    with pytest.raises(kind):
        await call(llm, how)
    assert len(llm.requests) == 1


@both_ways
async def test_the_last_error_is_raised_when_the_attempts_are_used_up(how: str) -> None:
    errors = [LLMServerError(str(number)) for number in range(6)]
    llm = ScriptedLLM(errors)
    with pytest.raises(LLMServerError) as caught:
        await call(llm, how)
    assert caught.value is errors[3]
    assert len(llm.requests) == 4


@both_ways
async def test_nothing_is_repeated_unless_asked_for(how: str) -> None:
    llm = ScriptedLLM([LLMServerError("x"), "done"])
    with pytest.raises(LLMServerError):
        await call(llm, how, RetryConfig())
    assert len(llm.requests) == 1


@both_ways
async def test_each_wait_is_announced_and_nothing_else(how: str) -> None:
    first, second = LLMServerError("x"), LLMRateLimitError("y")
    told: list[tuple[int, LLMError, float]] = []
    llm = ScriptedLLM([first, second, LLMBadRequestError("z")])
    with pytest.raises(LLMBadRequestError):
        await call(llm, how, on_retry=lambda *event: told.append(event))
    assert told == [(1, first, 0.0), (2, second, 0.0)]


@both_ways
async def test_the_failure_after_the_last_attempt_is_not_announced(how: str) -> None:
    told: list[int] = []
    with pytest.raises(LLMServerError):
        await call(ScriptedLLM(LLMServerError("x")), how, on_retry=lambda attempt, error, delay: told.append(attempt))
    assert told == [1, 2, 3]


@both_ways
async def test_a_request_to_wait_longer_than_allowed_is_not_waited_for(how: str) -> None:
    llm = ScriptedLLM([LLMRateLimitError("x", retry_after_seconds=3600), "done"])
    with pytest.raises(LLMRateLimitError):
        await call(llm, how, RetryConfig(max_retries=3, base_delay=0, max_delay=60))
    assert len(llm.requests) == 1


@both_ways
async def test_the_announced_wait_is_really_waited(how: str) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    llm = ScriptedLLM([LLMRateLimitError("x", retry_after_seconds=0.2), "done"])
    await call(llm, how)
    assert loop.time() - started >= 0.19


async def test_a_stream_is_not_repeated_once_a_piece_was_handed_out() -> None:
    broken = LLMConnectionError("cut", partial_text="one two")
    llm = ScriptedLLM([FailAfter("one two", broken), "again"])
    pieces = stream_with_retry(llm, REQUEST, AT_ONCE)
    seen = [await anext(pieces), await anext(pieces)]
    assert seen == [Delta(text="one "), Delta(text="two")]
    with pytest.raises(LLMConnectionError) as caught:
        await anext(pieces)
    assert caught.value is broken
    assert len(llm.requests) == 1


class Bare:
    """A client whose streams do as they please."""

    def __init__(self, *pieces: Delta | LLMReply) -> None:
        self.pieces = pieces
        self.closed = False

    async def complete(self, request: LLMRequest) -> LLMReply:
        raise NotImplementedError

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta | LLMReply]:
        try:
            for piece in self.pieces:
                yield piece
        finally:
            self.closed = True


@pytest.mark.parametrize("pieces", [(), (Delta(text="a"), Delta(text="b"))], ids=["nothing", "only pieces"])
async def test_a_stream_without_a_reply_is_an_error(pieces: tuple[Delta, ...]) -> None:
    with pytest.raises(LLMResponseError) as caught:
        [piece async for piece in stream_with_retry(Bare(*pieces), REQUEST, AT_ONCE)]
    assert caught.value.partial_text == "".join(piece.text for piece in pieces)


async def test_closing_the_stream_closes_the_models() -> None:
    llm = Bare(Delta(text="a"), Delta(text="b"), LLMReply(text="ab"))
    pieces = stream_with_retry(llm, REQUEST, AT_ONCE)
    await anext(pieces)
    await pieces.aclose()
    assert llm.closed


async def _waiting(how: str) -> tuple[asyncio.Task[LLMReply], ScriptedLLM]:
    """A call that has failed once and waits a minute for its second attempt."""
    waiting = asyncio.Event()
    llm = ScriptedLLM([LLMServerError("x"), "done"])
    retry = RetryConfig(max_retries=1, base_delay=60, max_delay=60, jitter=False)
    task = asyncio.create_task(call(llm, how, retry, lambda *_: waiting.set()))
    await waiting.wait()
    return task, llm


@both_ways
async def test_cancelling_a_wait_ends_it_as_cancelled(how: str) -> None:
    task, llm = await _waiting(how)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert len(llm.requests) == 1


@both_ways
async def test_a_timeout_around_a_wait_is_a_timeout(how: str) -> None:
    llm = ScriptedLLM(LLMServerError("x"))
    retry = RetryConfig(max_retries=1, base_delay=60, max_delay=60)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await call(llm, how, retry)
    assert len(llm.requests) == 1


@both_ways
async def test_cancelling_the_call_itself_is_not_repeated(how: str) -> None:
    llm = ScriptedLLM("never", gate=asyncio.Event())
    task = asyncio.create_task(call(llm, how))
    await asyncio.sleep(0)
    assert llm.requests
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(llm.requests) == 1


seconds = st.floats(min_value=0, max_value=100)


@given(st.integers(1, 20), seconds, seconds, st.booleans(), st.none() | seconds)
def test_every_wait_keeps_within_its_bounds(
    attempt: int, one: float, other: float, jitter: bool, asked: float | None
) -> None:
    retry = RetryConfig(max_retries=20, base_delay=min(one, other), max_delay=max(one, other), jitter=jitter)
    delay = retry_delay(retry, attempt, LLMRateLimitError("x", retry_after_seconds=asked))
    if asked is not None and asked > retry.max_delay:
        assert delay is None
    else:
        full = min(retry.base_delay * 2 ** (attempt - 1), retry.max_delay)
        assert delay is not None
        assert max(full / 2, asked or 0) <= delay <= max(full, asked or 0)
        assert jitter or delay == max(full, asked or 0)


def test_waits_double_up_to_the_longest() -> None:
    retry = RetryConfig(max_retries=6, base_delay=1, max_delay=10, jitter=False)
    assert [retry_delay(retry, attempt, LLMServerError("x")) for attempt in range(1, 8)] == [1, 2, 4, 8, 10, 10, None]


@both_ways
async def test_a_call_that_succeeds_prepares_no_retries(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_attempts", None)
    assert (await call(ScriptedLLM(["done"]), how)).text == "done"
