"""The same client against a real model: `MNESIS_LIVE_API_BASE=http://…/v1 pytest -m live`.

Any OpenAI-compatible server will do. `MNESIS_LIVE_MODEL` names the model (openai/smollm2 if not given), `MNESIS_LIVE_API_KEY`
the key, and `MNESIS_LIVE_CONTEXT_TOKENS` the size of its window (8192).
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from mnesis.config import RetryConfig
from mnesis.errors import ContextOverflowError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.retry import stream_with_retry

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)
    if "MNESIS_LIVE_API_BASE" not in os.environ:
        pytest.skip("MNESIS_LIVE_API_BASE names no server")


def asking(text: str, **fields: Any) -> LLMRequest:
    options = {
        "api_base": os.environ["MNESIS_LIVE_API_BASE"],
        "api_key": os.environ.get("MNESIS_LIVE_API_KEY", "sk-local"),
        "temperature": 0,
    }
    model = os.environ.get("MNESIS_LIVE_MODEL", "openai/smollm2")
    fields = {"max_output_tokens": 40, "timeout_seconds": 300.0, **fields}
    return LLMRequest(model=model, messages=[{"role": "user", "content": text}], options=options, **fields)


async def test_a_whole_answer_comes_with_its_usage() -> None:
    reply = await LiteLLM().complete(asking("Name three colours."))
    assert reply.text.strip()
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.request_tokens > 0
    assert 0 < reply.usage.output <= 40


async def test_a_streamed_answer_comes_in_pieces_with_its_usage() -> None:
    request = asking("Write two sentences about a fox.")
    *deltas, reply = [piece async for piece in stream_with_retry(LiteLLM(), request, RetryConfig())]
    assert isinstance(reply, LLMReply)
    assert len(deltas) > 5
    assert "".join(piece.text for piece in deltas if isinstance(piece, Delta)) == reply.text
    assert reply.usage is not None
    assert 0 < reply.usage.output <= 40


async def test_both_ways_report_the_same_request_size() -> None:
    request = asking("Count to five.", max_output_tokens=5)
    whole = await LiteLLM().complete(request)
    *_, streamed = [piece async for piece in LiteLLM().stream(request)]
    assert isinstance(streamed, LLMReply)
    assert whole.usage is not None
    assert streamed.usage is not None
    assert whole.usage.request_tokens == streamed.usage.request_tokens


@pytest.mark.parametrize("how", ["complete", "stream"])
async def test_a_request_longer_than_the_window_overflows(how: str) -> None:
    request = asking("word " * 2 * int(os.environ.get("MNESIS_LIVE_CONTEXT_TOKENS", "8192")))
    call = LiteLLM().complete(request) if how == "complete" else anext(LiteLLM().stream(request))
    with pytest.raises(ContextOverflowError) as caught:
        await call
    assert caught.value.status_code == 400
