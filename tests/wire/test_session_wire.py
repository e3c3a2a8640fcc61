"""A session over the real litellm and real HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisConfig, MnesisSession, RetryConfig, SessionConfig
from mnesis.config import CompactionConfig
from mnesis.errors import (
    LLMAuthenticationError,
    LLMConnectionError,
    LLMError,
    LLMRateLimitError,
    LLMResponseError,
    LLMServerError,
    LLMTimeoutError,
)
from mnesis.events.bus import MnesisEvent
from mnesis.models.message import ImagePart, ReasoningPart, TextPart, ToolPart, ToolResultPart
from mnesis.models.results import TextDelta, TurnComplete
from mnesis.testing import EventRecorder
from tests.support.histories import check_chat
from tests.support.openai_server import Exchange, OpenAIServer, Reply, cut, error, raw, silent, stall

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
Open = Callable[..., AbstractAsyncContextManager[MnesisSession]]
SECRET = "sk-test-secret-0123456789"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def opened(server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens sessions that talk to the server of this test."""
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)

    def open_session(
        *, retries: int = 0, timeout_seconds: float = 60.0, compaction: CompactionConfig | None = None, **fields: Any
    ) -> AbstractAsyncContextManager[MnesisSession]:
        config = MnesisConfig(
            model_overrides={"context_limit": 8_000, "max_output_tokens": 500},  # type: ignore[arg-type]  # a dict is accepted
            compaction=compaction or CompactionConfig(),
            session=SessionConfig(
                llm_options=server.options,
                request_timeout_seconds=timeout_seconds,
                retry=RetryConfig(max_retries=retries, base_delay=0.0, max_delay=0.0, jitter=False),
            ),
        )
        return MnesisSession.open(
            model="openai/test-model", db_path=tmp_path / "wire.db", config=config, **{"session_id": "wire", **fields}
        )

    return open_session


async def kept(session: MnesisSession) -> list[tuple[str, str]]:
    return [(m.role, m.text_content()) for m in await session.messages()]


async def test_a_plain_turn_is_asked_answered_counted_and_kept(server: OpenAIServer, opened: Open) -> None:
    server.answer(
        Reply(["Hello", " there"], usage={"prompt_tokens": 900, "completion_tokens": 20, "total_tokens": 920})
    )
    async with opened(system_prompt="Be brief.") as session:
        result = await session.send("Hi")
        assert (result.text, result.finish_reason) == ("Hello there", "stop")
        assert (result.tokens.input, result.tokens.output) == (900, 20)
        assert session.context_tokens == 920
        assert await kept(session) == [("user", "Hi"), ("assistant", "Hello there")]
    assert [m["content"] for m in server.requests[0]["messages"]] == ["Be brief.", "Hi"]
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"


async def test_the_first_delta_arrives_before_the_server_has_sent_the_last(server: OpenAIServer, opened: Open) -> None:
    release = threading.Event()
    server.answer(Reply(["one", " two", " three"], release=release))
    async with opened() as session:
        events: list[Any] = []
        async for event in session.stream("count"):
            events.append(event)
            # The server waits for this before it sends anything after the first piece.
            release.set()
        assert [e.text for e in events[:-1] if isinstance(e, TextDelta)] == ["one", " two", " three"]
        assert isinstance(events[-1], TurnComplete)
        assert events[-1].result.text == "one two three"
        assert await kept(session) == [("user", "count"), ("assistant", "one two three")]


async def test_cached_tokens_are_part_of_the_context_and_of_the_usage(server: OpenAIServer, opened: Open) -> None:
    usage = {
        "prompt_tokens": 2_000,
        "completion_tokens": 30,
        "total_tokens": 2_030,
        "prompt_tokens_details": {"cached_tokens": 1_500},
    }
    server.answer(Reply(usage=usage), Reply(usage=usage))
    async with opened() as session:
        plain = await session.send("one")
        assert (plain.tokens.input, plain.tokens.cache_read, plain.tokens.output) == (500, 1_500, 30)
        assert session.context_tokens == 2_030
        async for event in session.stream("two"):
            if isinstance(event, TurnComplete):
                assert event.result.tokens.cache_read == 1_500
        assert session.context_tokens == 2_030
        assert session.token_usage.cache_read == 3_000


async def test_a_provider_that_reports_no_usage_leaves_an_estimate(server: OpenAIServer, opened: Open) -> None:
    server.answer(Reply(usage=None))
    async with opened() as session:
        result = await session.send("word " * 200)
        assert 200 <= result.tokens.input <= 300
        assert session.context_tokens >= 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_tool_calls_in_fragments_are_run_and_answered(server: OpenAIServer, opened: Open, streamed: bool) -> None:
    def weather(city: str) -> str:
        return f"sunny in {city}"

    server.answer(
        Reply([], calls=[("c1", "weather", '{"city": "Ölbronn"}'), ("c2", "weather", '{"city": "Rome"}')], finish_reason="tool_calls"),
        Reply(["Nice."]),
    )  # fmt: skip
    async with opened() as session:
        if streamed:
            events = [event async for event in session.stream("weather?", tools=[weather])]
            result = events[-1].result if isinstance(events[-1], TurnComplete) else None
        else:
            result = await session.send("weather?", tools=[weather])
        assert result is not None
        assert result.text == "Nice."
        log = await session.messages()
        assert [m.role for m in log] == ["user", "assistant", "tool", "tool", "assistant"]
        assert [c.input for c in log[1].tool_calls] == [{"city": "Ölbronn"}, {"city": "Rome"}]
        results = {r.tool_call_id: r.output for message in log for r in message.tool_results}
        assert results == {"c1": "sunny in Ölbronn", "c2": "sunny in Rome"}
        assert session.token_usage.output == 40
    check_chat(server.requests[1]["messages"])
    assert [t["function"]["name"] for t in server.requests[0]["tools"]] == ["weather"]


async def test_provider_tools_come_back_and_are_answered_with_the_next_call(server: OpenAIServer, opened: Open) -> None:
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    server.answer(Reply([], calls=[("c1", "look", "{}")], finish_reason="tool_calls"), Reply(["Seen."]))
    async with opened() as session:
        asked = await session.send("look!", tools=tools)
        assert [c.tool_call_id for c in asked.tool_calls] == ["c1"]
        assert asked.finish_reason == "tool_calls"
        done = await session.send([ToolResultPart(tool_call_id="c1", tool_name="look", output="a cat")], tools=tools)
        assert done.text == "Seen."
    check_chat(server.requests[1]["messages"])
    assert server.requests[1]["messages"][-1] == {"role": "tool", "tool_call_id": "c1", "content": "a cat"}


async def test_arguments_cut_short_do_not_spoil_later_requests(server: OpenAIServer, opened: Open) -> None:
    server.answer(Reply([], calls=[("c1", "look", '{"where": "he')], finish_reason="length"), Reply(["Fine."]))
    async with opened() as session:
        await session.send("look!", tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}])
        assert (await session.send("never mind")).text == "Fine."
    for call in server.requests[1]["messages"][-3]["tool_calls"]:
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
    check_chat(server.requests[1]["messages"])


async def test_reasoning_is_kept_apart_and_not_sent_back(server: OpenAIServer, opened: Open) -> None:
    server.answer(Reply(["42"], reasoning="six times seven"), Reply(["yes"]))
    async with opened() as session:
        result = await session.send("what?")
        assert (result.text, result.reasoning) == ("42", "six times seven")
        assert [type(p) for p in (await session.messages())[1].parts] == [ReasoningPart, TextPart]
        await session.send("sure?")
    assert "six times seven" not in str(server.requests[1])


async def test_images_arrive_as_images(server: OpenAIServer, opened: Open) -> None:
    async with opened() as session:
        await session.send([TextPart(text="what is it?"), ImagePart(data="aGk=")])
    content = server.requests[0]["messages"][-1]["content"]
    assert content[1]["image_url"]["url"] == "data:image/png;base64,aGk="


async def test_text_that_is_no_valid_unicode_is_sent_all_the_same(server: OpenAIServer, opened: Open) -> None:
    async with opened() as session:
        await session.send("half a pair \ud83d here, nul \x00 there, <|endoftext|>")
        assert (await session.messages())[0].text_content() == "half a pair \ud83d here, nul \x00 there, <|endoftext|>"
        await session.send("still alive?")
    assert server.requests[1]["messages"][-3]["content"] == "half a pair \ufffd here, nul \x00 there, <|endoftext|>"


FAILURES = [
    pytest.param(error(401, f"Incorrect API key provided: {SECRET}"), LLMAuthenticationError, id="401"),
    pytest.param(error(429, "slow down", headers={"Retry-After": "0"}), LLMRateLimitError, id="429"),
    pytest.param(error(500, "broken"), LLMServerError, id="500"),
    pytest.param(cut("half an ans"), LLMConnectionError, id="cut stream"),
    pytest.param(raw("<html>not a model</html>", "text/html"), LLMError, id="a web page"),
    pytest.param(raw('{"choices": []}'), LLMResponseError, id="no choices"),
    pytest.param(raw('{"error": null}'), LLMError, id="neither answer nor error"),
]


@pytest.mark.parametrize(("answer", "kind"), FAILURES)
async def test_a_failure_is_a_typed_error_and_never_an_answer(
    server: OpenAIServer, opened: Open, answer: Any, kind: type[LLMError]
) -> None:
    server.answer(answer, Reply(["Here I am."]))
    async with opened() as session:
        with pytest.raises(kind) as failed:
            async for _ in session.stream("are you there?"):
                pass
        assert SECRET not in str(failed.value)
        assert await kept(session) == [("user", "are you there?")]
        (note,) = await session.interruptions()
        assert (note.kind, note.after_seq) == ("failed", 1)
        assert SECRET not in note.error
        assert (await session.send("hello?")).text == "Here I am."
        assert "half an ans" not in str(server.requests[-1])
        assert [m["content"] for m in server.requests[-1]["messages"][1:]] == ["are you there?", "hello?"]


async def test_what_had_arrived_of_a_broken_answer_is_noted_with_the_error(server: OpenAIServer, opened: Open) -> None:
    server.answer(cut("half an ans"))
    async with opened() as session:
        with pytest.raises(LLMConnectionError) as failed:
            async for _ in session.stream("go"):
                pass
        assert failed.value.partial_text == "half an ans"
        assert (await session.interruptions())[0].partial_text == "half an ans"
    async with opened() as again:
        assert await kept(again) == [("user", "go")]


@pytest.mark.parametrize("answer", [silent, stall("first ")], ids=["says nothing", "stops after a word"])
async def test_a_server_that_never_answers_costs_its_time_limit(
    server: OpenAIServer, opened: Open, answer: Any
) -> None:
    server.answer(answer)
    async with opened(timeout_seconds=0.3) as session:
        with pytest.raises(LLMTimeoutError):
            async for _ in session.stream("hello?"):
                pass
        assert await kept(session) == [("user", "hello?")]


async def test_retries_happen_and_are_told_until_there_is_an_answer(server: OpenAIServer, opened: Open) -> None:
    server.answer(error(429, "slow down", headers={"Retry-After": "0"}), error(500, "broken"), Reply(["At last."]))
    async with opened(retries=3) as session:
        recorder = EventRecorder(session.event_bus)
        assert (await session.send("go")).text == "At last."
        assert [p.attempt for p in recorder.of(MnesisEvent.LLM_RETRY)] == [1, 2]
        assert await kept(session) == [("user", "go"), ("assistant", "At last.")]
    assert len(server.requests) == 3


async def test_nothing_is_retried_after_the_first_delta_or_without_a_key(server: OpenAIServer, opened: Open) -> None:
    async with opened(retries=3) as session:
        for answer, kind in [(cut("half"), LLMConnectionError), (error(401, "no"), LLMAuthenticationError)]:
            server.answer(answer)
            before = len(server.requests)
            with pytest.raises(kind):
                async for _ in session.stream("go"):
                    pass
            assert len(server.requests) == before + 1


async def test_whoever_stops_listening_does_not_stop_the_turn(server: OpenAIServer, opened: Open) -> None:
    release = threading.Event()
    server.answer(Reply(["one", " two", " three"], release=release))
    async with opened() as session:
        async for event in session.stream("count"):
            assert isinstance(event, TextDelta)
            break
        release.set()
    async with opened() as again:
        assert await kept(again) == [("user", "count"), ("assistant", "one two three")]
        assert again.token_usage.input == 100


async def test_a_cancelled_listener_does_not_stop_the_turn_either(server: OpenAIServer, opened: Open) -> None:
    release, heard = threading.Event(), asyncio.Event()
    server.answer(Reply(["one", " two"], release=release))

    async def listen(session: MnesisSession) -> None:
        async for _ in session.stream("count"):
            heard.set()

    async with opened() as session:
        listener = asyncio.create_task(listen(session))
        await heard.wait()
        listener.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener
        release.set()
    async with opened() as again:
        assert await kept(again) == [("user", "count"), ("assistant", "one two")]


async def test_a_cancelled_send_hangs_up_and_leaves_the_question(server: OpenAIServer, opened: Open) -> None:
    arrived = threading.Event()

    def says_nothing(exchange: Exchange) -> None:
        arrived.set()
        silent(exchange)

    server.answer(says_nothing, Reply(["Now."]))
    async with opened() as session:
        sending = asyncio.create_task(session.send("hello?"))
        assert await asyncio.to_thread(arrived.wait, 30)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert await asyncio.to_thread(server.client_gone.wait, 30)
        assert await kept(session) == [("user", "hello?")]
        assert (await session.interruptions())[0].kind == "cancelled"
        assert (await session.send("and now?")).text == "Now."


async def test_a_request_that_is_too_long_is_made_smaller_and_sent_again(server: OpenAIServer, opened: Open) -> None:
    async with opened() as session:
        for i in range(12):
            await session.record(f"question {i} " + "about the release " * 20, f"answer {i} " + "it was released " * 20)
        server.answer(error(400, "This model's maximum context length is 1024 tokens."), Reply(["Summary of releases."]), Reply(["Better."]))  # fmt: skip
        server.requests.clear()
        result = await session.send("go on")
    turns = [r for r in server.requests if r["messages"][-1]["content"] == "go on"]
    assert len(turns) == 2
    assert len(json.dumps(turns[1])) < 0.75 * len(json.dumps(turns[0]))
    assert result.text
    check_chat(turns[1]["messages"])


@pytest.fixture
async def long_session(server: OpenAIServer, opened: Open) -> AsyncIterator[MnesisSession]:
    async with opened(compaction=CompactionConfig(auto=False)) as session:
        for i in range(16):
            await session.record(f"question {i}: where is module {i}?", f"Module {i} lives in region r{i} on port {9000 + i}. " * 4)  # fmt: skip
        yield session


async def test_compaction_over_the_wire_asks_the_session_model_with_its_options(
    server: OpenAIServer, long_session: MnesisSession
) -> None:
    server.answer(Reply(["Modules 0 to 13 live in regions r0 to r13."], usage={"prompt_tokens": 700, "completion_tokens": 15, "total_tokens": 715}))  # fmt: skip
    result = await long_session.compact()
    assert result.level_used == 1
    assert (result.usage.input, result.usage.output) == (700, 15)
    assert "Modules 0 to 13" in str(await long_session.context_for_next_turn())
    assert server.requests[-1]["model"] == "test-model"
    assert "question 13: " in server.requests[-1]["messages"][-1]["content"]
    assert long_session.token_usage.output != 15, "the summariser's usage is not the conversation's"


@pytest.mark.parametrize(
    "answer",
    [error(500, "broken"), error(401, "no key"), Reply([""]), Reply(["I will do that. " * 40]), cut("half"), raw("{}")],
    ids=["500", "401", "empty", "loop", "cut", "wrong shape"],
)
async def test_compaction_survives_every_bad_summariser(
    server: OpenAIServer, long_session: MnesisSession, answer: Any
) -> None:
    server.answer(answer)
    result = await long_session.compact()
    assert result.level_used == 3
    assert result.tokens_after < result.tokens_before
    assert result.attempts[0].rejection
    summary_id = result.summary_message_id
    page = await long_session.expand(summary_id, limit=100)
    assert list(page.messages) == (await long_session.messages())[: result.compacted_message_count]


async def test_a_tool_part_recorded_elsewhere_reaches_the_provider_as_a_pair(
    server: OpenAIServer, opened: Open
) -> None:
    call = ToolPart(tool_name="look", tool_call_id="c1", input={"a": 1}, output="a cat")
    async with opened() as session:
        await session.record("look", [TextPart(text="looking"), call, TextPart(text="a cat")])
        await session.send("thanks")
    sent = server.requests[0]["messages"]
    check_chat(sent)
    assert [m["role"] for m in sent[1:]] == ["user", "assistant", "tool", "assistant", "user"]
