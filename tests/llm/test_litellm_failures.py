"""Every way a call can fail, through the real litellm, over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

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
from mnesis.llm import litellm as client_module
from mnesis.llm.base import LLM, LLMRequest
from mnesis.llm.litellm import LiteLLM
from tests.support.openai_server import CHUNK, Answer, OpenAIServer, cut, error, lines, raw, silent, stall

Requests = Callable[..., LLMRequest]
both_ways = pytest.mark.parametrize("how", ["complete", "stream"])


async def failure(request: LLMRequest, how: str, llm: LLM) -> LLMError:
    with pytest.raises(LLMError) as caught:
        await (llm.complete(request) if how == "complete" else drained(llm.stream(request)))
    return caught.value


async def drained(pieces: AsyncIterator[object]) -> None:
    async for _ in pieces:
        pass


@both_ways
@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (400, "temperature is above 2", LLMBadRequestError),
        (400, "This model's maximum context length is 8192 tokens.", ContextOverflowError),
        (400, "prompt is too long: 250000 tokens > 200000 maximum", ContextOverflowError),
        (401, "no such user", LLMAuthenticationError),
        (403, "not for you", LLMAuthenticationError),
        (404, "no such model", LLMBadRequestError),
        (413, "payload too large", ContextOverflowError),
        (422, "cannot be processed", LLMBadRequestError),
        (429, "slow down", LLMRateLimitError),
        (500, "broken", LLMServerError),
        (502, "broken", LLMServerError),
        (503, "broken", LLMServerError),
        (504, "broken", LLMTimeoutError),
        (529, "overloaded", LLMServerError),
    ],
)
async def test_each_status_has_its_error(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str, status: int, text: str, kind: type[LLMError]
) -> None:
    openai_server.answer(error(status, text))
    caught = await failure(request_to(), how, llm)
    assert type(caught) is kind
    assert (caught.status_code, caught.model, caught.partial_text) == (status, "openai/test-model", "")
    assert text in str(caught)
    assert caught.__cause__ is not None
    assert len(openai_server.requests) == 1, "retrying is decided elsewhere"


@both_ways
async def test_an_error_says_what_the_provider_said_and_no_more(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    openai_server.answer(error(500, "the disk is full"))
    assert str(await failure(request_to(), how, llm)) == "openai/test-model: the disk is full"


@pytest.mark.parametrize(("status", "kind"), [(401, LLMAuthenticationError), (529, LLMServerError)])
async def test_statuses_of_other_providers_are_read_too(
    openai_server: OpenAIServer, request_to: Requests, status: int, kind: type[LLMError]
) -> None:
    openai_server.answer(error(status, "refused", headers={"Retry-After": "3"}))
    caught = await failure(request_to(model="anthropic/claude-sonnet-4-5"), "complete", LiteLLM())
    assert type(caught) is kind
    assert (caught.status_code, caught.retry_after_seconds) == (status, 3.0)


@both_ways
async def test_a_key_in_the_providers_text_is_blanked(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    key = openai_server.options["api_key"]
    openai_server.answer(error(401, f"Incorrect API key provided: {key}. Authorization: Bearer {key}"))
    caught = await failure(request_to(), how, llm)
    assert "sk-test" not in str(caught)
    assert "[redacted: api-key]" in str(caught)


@both_ways
async def test_a_missing_key_says_which_variable_to_set(
    monkeypatch: pytest.MonkeyPatch, request_to: Requests, how: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    for model, variable in (("openai/gpt-4o", "OPENAI_API_KEY"), ("anthropic/claude-sonnet-4-5", "ANTHROPIC_API_KEY")):
        request = LLMRequest(model=model, messages=[{"role": "user", "content": "hi"}], timeout_seconds=60)
        caught = await failure(request, how, LiteLLM())
        assert type(caught) is LLMAuthenticationError
        assert f"set {variable}" in str(caught)
        assert caught.status_code is None


async def test_a_model_of_no_known_provider_is_refused() -> None:
    caught = await failure(
        LLMRequest(model="nonsense", messages=[{"role": "user", "content": "hi"}]), "complete", LiteLLM()
    )
    assert type(caught) is LLMBadRequestError
    assert "nonsense" in str(caught)


@both_ways
async def test_retry_after_in_seconds_is_read(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    openai_server.answer(error(429, "slow down", headers={"Retry-After": "7.5"}))
    assert (await failure(request_to(), how, llm)).retry_after_seconds == 7.5


async def test_retry_after_as_a_date_is_read(openai_server: OpenAIServer, request_to: Requests, llm: LLM) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    openai_server.answer(error(429, "slow down", headers={"Retry-After": when}))
    seconds = (await failure(request_to(), "complete", llm)).retry_after_seconds
    assert seconds is not None
    assert 3_000 < seconds <= 3_600


async def test_a_wait_in_the_text_is_read(openai_server: OpenAIServer, request_to: Requests, llm: LLM) -> None:
    openai_server.answer(error(429, "Rate limit reached. Please try again in 1m2.5s."))
    assert (await failure(request_to(), "complete", llm)).retry_after_seconds == 62.5


@both_ways
@pytest.mark.parametrize(
    "answer",
    [
        raw("<html><body>Welcome</body></html>", "text/html"),
        raw("{}"),
        raw(""),
        raw('{"id": "x", "object": "chat.completion", "choices": []}'),
        raw('{"id": "x", "choices": null}'),
        lines("data: [DONE]"),
        lines("data: {not json"),
    ],
    ids=["html", "empty object", "nothing", "no choices", "null choices", "only the end", "garbage"],
)
async def test_an_answer_in_the_wrong_shape_is_none(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str, answer: Answer
) -> None:
    openai_server.answer(answer)
    caught = await failure(request_to(), how, llm)
    assert type(caught) is LLMResponseError, str(caught)
    assert not caught.retryable
    assert "Traceback" not in str(caught)


async def test_a_wrong_shape_from_another_provider_is_no_broken_connection(
    openai_server: OpenAIServer, request_to: Requests
) -> None:
    openai_server.answer(raw("{}"))
    caught = await failure(request_to(model="anthropic/claude-sonnet-4-5"), "complete", LiteLLM())
    assert type(caught) is LLMResponseError
    assert "Traceback" not in str(caught)


@pytest.mark.parametrize("clean", [False, True], ids=["socket closed", "ended without a finish reason"])
async def test_a_stream_that_breaks_off_keeps_what_had_arrived(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, clean: bool
) -> None:
    openai_server.answer(cut("half an ans", clean=clean))
    caught = await failure(request_to(), "stream", llm)
    assert type(caught) is LLMConnectionError
    assert caught.retryable
    assert caught.partial_text == "half an ans"


async def test_a_whole_answer_that_breaks_off_is_a_broken_connection(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    openai_server.answer(cut("half"))
    assert type(await failure(request_to(), "complete", llm)) is LLMConnectionError


async def test_an_error_inside_a_stream_is_the_providers(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    delta = {**CHUNK, "choices": [{"index": 0, "delta": {"content": "so far"}, "finish_reason": None}]}
    trouble = {"error": {"message": "the engine is overloaded", "type": "server_error", "code": 500}}
    openai_server.answer(lines(f"data: {json.dumps(delta)}", f"data: {json.dumps(trouble)}"))
    caught = await failure(request_to(), "stream", llm)
    assert type(caught) is LLMServerError
    assert caught.partial_text == "so far"
    assert "overloaded" in str(caught)


@both_ways
async def test_a_server_that_never_answers_times_out(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    openai_server.answer(silent)
    caught = await failure(request_to(timeout_seconds=0.3), how, llm)
    assert type(caught) is LLMTimeoutError
    assert caught.status_code is None


async def test_a_stream_that_stalls_times_out_and_keeps_what_had_arrived(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    openai_server.answer(stall("so far"))
    caught = await failure(request_to(timeout_seconds=3.0), "stream", llm)
    assert type(caught) is LLMTimeoutError
    assert caught.partial_text == "so far"
    assert await asyncio.to_thread(openai_server.client_gone.wait, 30)


@both_ways
async def test_nobody_listening_is_a_broken_connection(how: str, llm: LLM) -> None:
    server = OpenAIServer()
    server.close()
    request = LLMRequest(
        model="openai/test-model", messages=[{"role": "user", "content": "hi"}], options=server.options
    )
    assert type(await failure(request, how, llm)) is LLMConnectionError


@both_ways
async def test_cancellation_passes_through_untouched(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    openai_server.answer(silent)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await failure(request_to(), how, llm)
    assert await asyncio.to_thread(openai_server.client_gone.wait, 30)


@both_ways
async def test_a_module_missing_under_the_provider_is_named_and_not_retried(
    monkeypatch: pytest.MonkeyPatch, request_to: Requests, how: str
) -> None:
    litellm = await client_module._load_litellm()

    async def broken(**_: Any) -> None:
        try:
            raise ModuleNotFoundError("No module named 'gizmo'", name="gizmo")
        except ModuleNotFoundError as cause:
            raise litellm.APIConnectionError(message=str(cause), llm_provider="x", model="y") from cause

    monkeypatch.setattr(litellm, "acompletion", broken)
    caught = await failure(request_to(), how, LiteLLM())
    assert type(caught) is LLMBadRequestError
    assert not caught.retryable
    assert "install" in str(caught)
    assert "gizmo" in str(caught)


async def test_a_failure_prints_nothing(
    openai_server: OpenAIServer, request_to: Requests, capfd: pytest.CaptureFixture[str]
) -> None:
    openai_server.answer(error(401, "no"), error(500, "broken"))
    await failure(request_to(), "complete", LiteLLM())
    await failure(request_to(), "stream", LiteLLM())
    await failure(LLMRequest(model="nonsense", messages=[]), "complete", LiteLLM())
    assert capfd.readouterr() == ("", "")


async def test_the_loop_runs_on_while_a_call_is_under_way(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    """A first call in a fresh process is the slow one: see test_llm_imports. Here: no hidden blocking per call."""
    openai_server.answer(silent)
    beats = 0
    started = time.monotonic()
    call = asyncio.create_task(failure(request_to(timeout_seconds=0.5), "complete", llm))
    while not call.done():
        await asyncio.sleep(0)
        beats += 1
    assert beats > 10, f"{beats} turns of the loop in {time.monotonic() - started:.1f} s"
