from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mnesis.llm.base import LLMRequest
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
