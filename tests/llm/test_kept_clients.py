"""litellm's clients of ended event loops are closed between tests, so that no later test meets their warnings."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from mnesis.llm.base import LLMRequest
from mnesis.llm.litellm import LiteLLM
from tests.support.litellm_clients import close_clients_of_ended_loops
from tests.support.openai_server import OpenAIServer, Reply


def test_clients_of_ended_event_loops_are_closed(
    openai_server: OpenAIServer, request_to: Callable[..., LLMRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[aiohttp.ClientSession] = []
    create = aiohttp.ClientSession.__init__

    def noted(self: aiohttp.ClientSession, *arguments: Any, **named: Any) -> None:
        create(self, *arguments, **named)
        opened.append(self)

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", noted)
    openai_server.answer(Reply(["hello"]))
    asyncio.run(LiteLLM().complete(request_to()))
    assert opened
    assert not all(session.closed for session in opened)
    close_clients_of_ended_loops()
    assert all(session.closed for session in opened)
    opened.clear()
    gc.collect()
