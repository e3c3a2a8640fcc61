"""Messages for the user's own Anthropic client are accepted after whatever happened, with other providers too."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnesis import MnesisSession
from mnesis.errors import LLMError
from tests.support.providers.strict_server import Failure, Reply, StrictServer, ToolCall, dump
from tests.support.samples import sampled
from tests.support.strict_requests import WEATHER, post
from tests.support.strict_session import MODELS, THINKING, strict_server, talking_to, weather

CALLS = tuple(ToolCall("weather", {"city": f"City {n}"}) for n in range(3))
ACTIONS = {
    "plain": [Reply("OK.")],
    "loop": [Reply("Looking.", "Hm.", CALLS), Reply("", "So.", CALLS[:1]), Reply("Done.", "Fine.")],
    "interrupted": [Reply("Looking.", "Hm.", CALLS), Failure(400, "broken")],
    "compact": [Reply("OK.")],
}
PROVIDERS = [*["anthropic"] * len(MODELS), *MODELS]
STEPS = st.lists(st.tuples(st.sampled_from(PROVIDERS), st.sampled_from(sorted(ACTIONS))), min_size=1, max_size=5)


async def send_own_request(session: MnesisSession, server: StrictServer, **options: Any) -> tuple[int, dict[str, Any]]:
    """Send the context and a question as Anthropic's own client does. At most four marks are in it."""
    context = await session.context_for_next_turn(provider="anthropic")
    messages = [*context, {"role": "user", "content": "Next?"}]
    body = {"model": "claude-sonnet-4-5", "max_tokens": 4_000, "messages": messages, "system": context.system}
    assert dump(body).count('"cache_control"') <= 4
    body["tools"] = [{"name": "weather", "input_schema": WEATHER}]
    return post(server, "/v1/messages", body | options)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=sampled(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_the_context_for_anthropic_is_accepted_after_any_history(steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
            own = stack.enter_context(strict_server("anthropic"))
            servers = {name: stack.enter_context(strict_server(name)) for name in {name for name, _ in steps}}
            for name, action in steps:
                options = {"thinking": THINKING} if name == "anthropic" else {}
                async with talking_to(
                    servers[name],
                    Path(directory, "db"),
                    options=options,
                    system_prompt="Rules. " * 2_000,
                    compaction_model=lambda messages: "They spoke. " * 20,
                ) as session:
                    if action == "compact":
                        await session.compact(keep_tokens=100)
                    servers[name].script(*ACTIONS[action])
                    with contextlib.suppress(LLMError):
                        await session.send(f"question {action} " * 20, tools=[weather])
                    await send_own_request(session, own)
                    await send_own_request(session, own, thinking=THINKING)
            assert [fault for server in (own, *servers.values()) for fault in server.rejections] == []

    asyncio.run(run())


async def test_an_interrupted_loop_of_another_model_is_ended_for_claude(tmp_path: Path) -> None:
    with strict_server("deepseek", *ACTIONS["interrupted"]) as other, strict_server("anthropic") as own:
        async with talking_to(other, tmp_path / "db") as session:
            with pytest.raises(LLMError):
                await session.send("Weather?", tools=[weather])
            assert (await send_own_request(session, own, thinking=THINKING))[0] == 200
