"""Sessions with the client that calls OpenAI-compatible endpoints directly, against the strict servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisConfig, MnesisSession, OpenAICompatibleLLM
from mnesis.models.results import TurnComplete
from tests.support.providers.strict_chat_completions import StrictChatCompletions
from tests.support.providers.strict_server import Reply, ToolCall
from tests.support.strict_session import model_of, weather

FLAVOURS = ("openai", "openrouter", "xai", "deepseek", "moonshot", "mistral", "alternating")
"""Those with an endpoint for chat completions that takes a key as a bearer token."""
PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_conversations_with_tools_are_accepted(
    flavour: str, streams: bool, tmp_path: Path, register: Any
) -> None:
    script = (
        Reply("Looking.", thinking="I need both cities.", calls=(PARIS, ROME)),
        Reply("Sunny in both.", thinking="Both sunny."),
        Reply("You are welcome."),
    )
    server = register(StrictChatCompletions(flavour, *script))
    config = MnesisConfig.model_validate({"model_overrides": {"context_limit": 64_000, "max_output_tokens": 2_000}})
    async with (
        OpenAICompatibleLLM(server.url + server.api_path, api_key="sk-loopback") as llm,
        Engine(tmp_path / "s.db") as engine,
        MnesisSession.open(
            model=model_of(server), system_prompt="Be brief.", engine=engine, config=config, llm=llm
        ) as session,
    ):
        texts = [
            await send(session, "Weather in Paris and Rome?", streams, tools=[weather]),
            await send(session, "Thank you.", streams),
        ]
        assert [message.role for message in await session.messages()][:4] == ["user", "assistant", "tool", "tool"]
        assert session.token_usage.effective_total() > 0
    assert texts == ["Sunny in both.", "You are welcome."]
    assert not server.rejections
    assert len(server.requests) == len(script)


async def send(session: MnesisSession, text: str, streams: bool, **options: Any) -> str:
    """Send a message in one of the two ways and return the answer."""
    if not streams:
        return (await session.send(text, **options)).text
    events = [event async for event in session.stream(text, **options)]
    assert isinstance(events[-1], TurnComplete)
    return events[-1].result.text
