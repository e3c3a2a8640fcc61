"""Reasoning that arrives in a stream goes back as if the reply had arrived in one piece."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnesis.models.message import ReasoningPart
from tests.support.providers.strict_server import Reply, ToolCall
from tests.support.strict_session import strict_server, talking_to, weather


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_details_that_arrive_alone_go_back_in_the_tool_loop(streams: bool, tmp_path: Path) -> None:
    """OpenRouter sends `reasoning_details` in a delta of their own (openrouter.ai/docs, reasoning tokens, streaming)."""
    script = (Reply(thinking="I need the weather.", calls=(ToolCall("weather", {"city": "Oslo"}),)), Reply("Sunny."))
    with strict_server("openrouter", *script) as server:
        async with talking_to(server, tmp_path / "db") as session:
            if streams:
                async for _ in session.stream("How is Oslo?", tools=[weather]):
                    pass
            else:
                await session.send("How is Oslo?", tools=[weather])
            reply = (await session.messages())[1]
        assert server.rejections == []
        (sent,) = [message for message in server.requests[-1].messages if message["role"] == "assistant"]
        (part,) = [part for part in reply.parts if isinstance(part, ReasoningPart)]
        assert sent["reasoning_details"][0]["text"] == "I need the weather."
        assert part.provider is not None
