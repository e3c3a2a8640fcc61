"""Cache marks on requests to Claude, judged by a server that models Anthropic's prompt cache."""

from __future__ import annotations

import json
import logging
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mnesis.models.message import TextPart, ToolPart
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_chat_completions import StrictChatCompletions
from tests.support.providers.strict_server import Failure, ProviderRequest, Reply, ToolCall, blocks_of
from tests.support.strict_session import THINKING, talking_to, weather

PROMPT = "You are a careful assistant. " * 300


def marks(request: ProviderRequest) -> list[tuple[str, dict[str, Any]]]:
    """Return where a request carries marks: tools, system, or the index of a message."""
    body, found = request.body, []
    places = [("tools", tool) for tool in body.get("tools") or []]
    places += [("system", block) for block in blocks_of(body.get("system"))]
    for index, message in enumerate(request.messages):
        places += [(str(index), block) for block in blocks_of(message["content"])]
    found += [(place, block["cache_control"]) for place, block in places if "cache_control" in block]
    return found


def read_fraction(server: StrictAnthropic) -> float:
    """Return the share of all input tokens that the server read from its cache."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    totals = [sum(usage[name] for usage in server.usages) for name in names]
    return totals[1] / sum(totals)


async def test_twenty_turns_read_nine_tenths_from_the_cache(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            for turn in range(20):
                await session.send(f"question {turn} " * 60)
        assert server.rejections == []
        assert read_fraction(server) > 0.9
        assert all(1 <= len(marks(request)) <= 4 for request in server.requests)


@pytest.mark.parametrize("options", [{}, {"thinking": THINKING}], ids=["plain", "thinking"])
async def test_loops_of_fifteen_calls_read_from_the_cache(tmp_path: Path, options: dict[str, Any]) -> None:
    calls = tuple(ToolCall("weather", {"city": f"City {n}"}) for n in range(15))
    script = [Reply("Looking.", "Hm, let me look.", calls) for _ in range(8)]
    with StrictAnthropic(*script, Reply("Done.")) as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT, options=options) as session:
            await session.send("Weather, please. " * 50, tools=[weather])
        assert server.rejections == []
        assert len(server.requests) == 9
        # Each request reads everything that the one before it had: only what is new is written.
        for earlier, later in zip(server.usages, server.usages[1:], strict=False):
            assert (
                later["cache_read_input_tokens"]
                >= earlier["cache_read_input_tokens"] + earlier["cache_creation_input_tokens"]
            )
        assert max(len(marks(request)) for request in server.requests) <= 4


async def test_a_request_below_the_minimum_length_has_no_mark(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt="Be brief.") as session:
            await session.send("Hello")
        assert [marks(request) for request in server.requests] == [[]]


@pytest.mark.parametrize(
    ("lifetime", "mark"), [("5m", {"type": "ephemeral"}), ("1h", {"type": "ephemeral", "ttl": "1h"})]
)
async def test_the_lifetime_of_marks_can_be_chosen(tmp_path: Path, lifetime: str, mark: dict[str, str]) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT, prompt_cache=lifetime) as session:
            await session.send("Hello")
            await session.send("And again")
        assert {str(each) for request in server.requests for _, each in marks(request)} == {str(mark)}


async def test_marks_can_be_switched_off(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT, prompt_cache="off") as session:
            await session.send("Hello")
        assert marks(server.requests[0]) == []


async def test_tools_are_marked_if_there_is_no_system_prompt(tmp_path: Path) -> None:
    def look_up(query: str) -> str:
        return query

    look_up.__doc__ = "Look something up. " * 300
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt="") as session:
            await session.send("Hello", tools=[look_up])
        assert "tools" in [place for place, _ in marks(server.requests[0])]


async def test_summaries_are_marked_and_summarizer_calls_are_not(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            for turn in range(6):
                await session.send(f"question {turn} " * 60)
            before = len(server.requests)
            await session.compact()
            summarizer_calls = server.requests[before:]
            await session.send("Next")
            await session.send("And next")
        assert all(marks(request) == [] for request in summarizer_calls)
        assert "0" in [place for place, _ in marks(server.requests[-1])]
        assert server.rejections == []


async def test_an_endpoint_that_rejects_marks_gets_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class WithoutMarks(StrictAnthropic):
        def respond(self, request: ProviderRequest) -> Any:
            self.attempts = [*getattr(self, "attempts", []), len(marks(request))]
            return super().respond(request)

        def _first_fault(self, request: ProviderRequest) -> Any:
            if marks(request):
                return Failure(400, "messages.0.content.0.text.cache_control: Extra inputs are not permitted")
            return super()._first_fault(request)

    with WithoutMarks() as server, caplog.at_level(logging.WARNING):
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            for _ in range(3):
                assert (await session.send("Hello")).text == "OK."
        assert [count > 0 for count in server.attempts] == [True, False, False, False]
    assert len([r for r in caplog.records if "cache marks" in r.getMessage()]) == 1


async def test_claude_behind_openrouter_is_marked_too(tmp_path: Path) -> None:
    with StrictChatCompletions("openrouter") as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            await session.send("Hello")
            await session.send("And again")
        assert [("cache_control" in str(m)) for m in server.requests[1].messages] == [True, True, False, True]


# ---- Messages for the user's own Anthropic client -------------------------------------------------------------------------


def post(server: StrictAnthropic, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request as Anthropic's own client does, without litellm."""
    head = {"model": "claude-sonnet-4-5", "max_tokens": 1_000}
    request = urllib.request.Request(server.url + "/v1/messages", json.dumps({**head, **body}).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return dict(json.loads(response.read()))


async def test_messages_for_your_own_anthropic_client_are_cached(tmp_path: Path) -> None:
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            for turn in range(20):
                context = await session.context_for_next_turn(provider="anthropic")
                assert context.system[0]["text"] == PROMPT  # type: ignore[index]  # blocks, for Anthropic
                question = {"role": "user", "content": f"question {turn} " * 60}
                answer = post(server, {"system": context.system, "messages": [*context, question]})
                await session.record(question["content"], answer["content"])
        assert server.rejections == []
        assert read_fraction(server) > 0.85
        assert all(len(marks(request)) <= 4 for request in server.requests)


async def test_recorded_loops_of_twenty_calls_are_read_from_the_cache(tmp_path: Path) -> None:
    calls = [
        ToolPart(tool_name="weather", tool_call_id=f"toolu_{n}", input={"city": str(n)}, output="Sunny.")
        for n in range(20)
    ]
    with StrictAnthropic() as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT) as session:
            for turn in range(5):
                context = await session.context_for_next_turn(provider="anthropic")
                post(server, {"system": context.system, "messages": [*context, {"role": "user", "content": "Go on"}]})
                parts = [call.model_copy(update={"tool_call_id": f"{call.tool_call_id}_{turn}"}) for call in calls]
                await session.record("Go on. " * 20, [*parts, TextPart(text="Done. " * 20)])
        for earlier, later in zip(server.usages[1:], server.usages[2:], strict=False):
            written = earlier["cache_read_input_tokens"] + earlier["cache_creation_input_tokens"]
            assert later["cache_read_input_tokens"] >= written


async def test_the_messages_without_a_provider_are_plain_and_have_no_marks(tmp_path: Path) -> None:
    with StrictAnthropic(Reply("OK.", "Hm.")) as server:
        async with talking_to(server, tmp_path / "db", system_prompt=PROMPT, options={"thinking": THINKING}) as session:
            await session.send("Hello " * 2_000)
            plain = await session.context_for_next_turn()
            assert [set(message) for message in plain] == [{"role", "content"}] * 2
            assert plain.system == PROMPT
            own = await session.context_for_next_turn(provider="litellm")
            assert own[1]["thinking_blocks"] == [server.thinking_block("Hm.")]
            assert "cache_control" in str(own)
