from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mnesis.llm.base import LLM, LLMRequest
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.openai_compatible import OpenAICompatibleLLM
from tests.support.openai_server import OpenAIServer

SECRET = "sk-test-secret-0123456789"


@pytest.fixture(autouse=True)
def _mock_switch_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)


@pytest.fixture
def openai_server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def request_to(openai_server: OpenAIServer) -> Callable[..., LLMRequest]:
    """Requests that go to the server of this test."""

    def make(text: str = "hi", **fields: Any) -> LLMRequest:
        options = {**openai_server.options, **fields.pop("options", {})}
        fields = {"model": "openai/test-model", "timeout_seconds": 60.0, **fields}
        return LLMRequest(messages=[{"role": "user", "content": text}], options=options, **fields)

    return make


@pytest.fixture(params=["litellm", "direct"])
async def llm(request: pytest.FixtureRequest) -> AsyncIterator[LLM]:
    """Each client for OpenAI-compatible endpoints. The requests of `request_to` say where to."""
    if request.param == "litellm":
        yield LiteLLM()
        return
    async with OpenAICompatibleLLM("http://unused.invalid/v1") as client:
        yield client
