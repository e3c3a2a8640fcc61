"""Good answers, through the real litellm, over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from mnesis.llm.base import LLM, Delta, LLMReply, LLMRequest
from mnesis.llm.litellm import LiteLLM
from mnesis.models.usage import TokenUsage
from tests.support.openai_server import OpenAIServer, Reply, lines, raw, stall

Requests = Callable[..., LLMRequest]
CACHED = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60},
}


async def streamed(request: LLMRequest, llm: LLM) -> tuple[list[Delta], LLMReply]:
    *deltas, reply = [piece async for piece in llm.stream(request)]
    assert isinstance(reply, LLMReply)
    return [piece for piece in deltas if isinstance(piece, Delta)], reply


async def answered(request: LLMRequest, how: str, llm: LLM) -> LLMReply:
    return await llm.complete(request) if how == "complete" else (await streamed(request, llm))[1]


both_ways = pytest.mark.parametrize("how", ["complete", "stream"])


@both_ways
async def test_text_usage_and_finish_reason_arrive(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    openai_server.answer(Reply(["Hel", "lo", " wörld 🌍"], usage=CACHED))
    reply = await answered(request_to(), how, llm)
    assert reply.text == "Hello wörld 🌍"
    assert reply.usage == TokenUsage(input=40, output=20, cache_read=60, total=120)
    assert reply.finish_reason == "stop"
    assert reply.model == "openai/test-model"
    assert reply.cost == 0.0


async def test_a_stream_gives_the_pieces_as_the_provider_sends_them(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    openai_server.answer(Reply(["one ", "two ", "three"]))
    deltas, reply = await streamed(request_to(), llm)
    assert [delta.text for delta in deltas] == ["one ", "two ", "three"]
    assert "".join(delta.text for delta in deltas) == reply.text


async def test_a_piece_is_handed_out_before_the_next_one_was_sent(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    release = threading.Event()
    openai_server.answer(Reply(["first", " second"], release=release))
    async with aclosing(llm.stream(request_to())) as pieces:
        assert await anext(pieces) == Delta(text="first")
        release.set()
        assert await anext(pieces) == Delta(text=" second")


async def test_a_closed_stream_hangs_up(openai_server: OpenAIServer, request_to: Requests, llm: LLM) -> None:
    openai_server.answer(stall("first"))
    pieces = llm.stream(request_to())
    assert await anext(pieces) == Delta(text="first")
    await pieces.aclose()
    assert await asyncio.to_thread(openai_server.client_gone.wait, 30)


async def test_a_cancelled_stream_hangs_up_and_stays_cancelled(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    openai_server.answer(stall("first"))
    first = asyncio.Event()

    async def read() -> None:
        async with aclosing(llm.stream(request_to())) as pieces:
            async for _ in pieces:
                first.set()

    task = asyncio.create_task(read())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert await asyncio.to_thread(openai_server.client_gone.wait, 30)


@both_ways
async def test_parallel_tool_calls_are_put_together(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    calls = [
        ("call_1", "read", '{"path": "a.txt", "lines": [1, 2]}'),
        ("call_2", "now", ""),
        ("call_3", "bad", "{oops"),
    ]
    openai_server.answer(Reply([], calls=calls, finish_reason="tool_calls"))
    reply = await answered(request_to(), how, llm)
    assert [(call.tool_call_id, call.tool_name, call.input, call.raw_input) for call in reply.tool_calls] == [
        ("call_1", "read", {"path": "a.txt", "lines": [1, 2]}, None),
        ("call_2", "now", {}, None),
        ("call_3", "bad", {}, "{oops"),
    ]
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")


@both_ways
@pytest.mark.parametrize("arguments", ["[1]", '"text"', "null", '{"a": NaN}', "{oops"])
async def test_arguments_that_are_no_json_object_are_kept_as_written(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str, arguments: str
) -> None:
    openai_server.answer(Reply([], calls=[("c", "f", arguments)], finish_reason="tool_calls"))
    (call,) = (await answered(request_to(), how, llm)).tool_calls
    assert (call.input, call.raw_input) == ({}, arguments)


@both_ways
async def test_reasoning_is_kept_apart_from_the_text(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    openai_server.answer(Reply(["Yes."], reasoning="Let me think."))
    reply = await answered(request_to(), how, llm)
    assert (reply.text, reply.reasoning) == ("Yes.", "Let me think.")


async def test_reasoning_streams_as_reasoning(openai_server: OpenAIServer, request_to: Requests, llm: LLM) -> None:
    openai_server.answer(Reply(["Yes."], reasoning="Hm."))
    deltas, _ = await streamed(request_to(), llm)
    assert deltas == [Delta(reasoning="Hm."), Delta(text="Yes.")]


@both_ways
@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls"])
async def test_the_finish_reason_is_the_reported_one(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str, reason: str
) -> None:
    openai_server.answer(Reply(finish_reason=reason))
    assert (await answered(request_to(), how, llm)).finish_reason == reason


@both_ways
@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": -5, "completion_tokens": 3, "total_tokens": -2},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": 10**12, "completion_tokens": 3, "total_tokens": 10**12},
        {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "prompt_tokens_details": {"cached_tokens": 9}},
    ],
    ids=["missing", "negative", "zero", "absurd", "more cached than read"],
)
async def test_usage_that_cannot_be_is_none(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str, usage: dict[str, object] | None
) -> None:
    openai_server.answer(Reply(usage=usage))
    assert (await answered(request_to(), how, llm)).usage is None


@both_ways
async def test_an_empty_answer_is_an_answer(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    openai_server.answer(Reply([]))
    reply = await answered(request_to(), how, llm)
    assert (reply.text, reply.tool_calls, reply.finish_reason) == ("", (), "stop")


@both_ways
async def test_the_cost_of_a_known_model_is_reckoned_from_its_usage(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM, how: str
) -> None:
    """gpt-4o: 2.5 dollars per million tokens read, 1.25 cached, 10 written."""
    openai_server.answer(Reply(usage=CACHED))
    reply = await answered(request_to(model="openai/gpt-4o"), how, llm)
    assert reply.cost == pytest.approx((40 * 2.5 + 60 * 1.25 + 20 * 10) / 1_000_000)


async def test_the_cost_that_litellm_computed_is_not_computed_again(
    openai_server: OpenAIServer, request_to: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """litellm computes the cost of every whole reply (docs.litellm.ai/docs/completion/token_usage, `response_cost`)."""
    import litellm

    computed: list[dict[str, Any]] = []
    monkeypatch.setattr(litellm, "cost_per_token", lambda **arguments: computed.append(arguments) or (0.0, 0.0))
    openai_server.answer(Reply(usage=CACHED))
    reply = await answered(request_to(model="openai/gpt-4o"), "complete", LiteLLM())
    assert reply.cost == pytest.approx((40 * 2.5 + 60 * 1.25 + 20 * 10) / 1_000_000)
    assert computed == []


async def test_a_model_given_to_the_client_replaces_the_requests(
    openai_server: OpenAIServer, request_to: Requests
) -> None:
    reply = await LiteLLM(model="openai/other").complete(request_to())
    assert openai_server.requests[0]["model"] == "other"
    assert reply.model == "openai/other"


async def test_a_bare_request_sends_no_more_than_it_says(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    await llm.complete(request_to("héllo"))
    body = {key: value for key, value in openai_server.requests[0].items() if value is not False}
    assert body == {"model": "test-model", "messages": [{"role": "user", "content": "héllo"}]}


async def test_limits_tools_and_options_reach_the_provider(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    request = request_to(
        tools=[tool], max_output_tokens=77, options={"temperature": 0.25, "extra_body": {"min_p": 0.1}}
    )
    await streamed(request, llm)
    body = openai_server.requests[0]
    assert (body["tools"], body["max_tokens"], body["temperature"], body["min_p"]) == ([tool], 77, 0.25, 0.1)
    assert body["stream_options"] == {"include_usage": True}
    assert openai_server.headers[0]["authorization"] == f"Bearer {openai_server.options['api_key']}"


async def test_options_win_over_what_the_request_says(
    openai_server: OpenAIServer, request_to: Requests, llm: LLM
) -> None:
    await llm.complete(request_to(max_output_tokens=77, options={"max_tokens": 5}))
    assert openai_server.requests[0]["max_tokens"] == 5


def anthropic_events() -> list[str]:
    usage = {"input_tokens": 50, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 20, "output_tokens": 1}
    head = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": usage}

    def block(index: int, start: dict[str, object], *deltas: dict[str, object]) -> list[dict[str, object]]:
        return [
            {"type": "content_block_start", "index": index, "content_block": start},
            *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": index},
        ]

    events = [
        {"type": "message_start", "message": head},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "let me "},
            {"type": "thinking_delta", "thinking": "think"},
            {"type": "signature_delta", "signature": "SIG=="},
        ),
        *block(1, {"type": "redacted_thinking", "data": "ENC"}),
        *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}),
        *block(
            3,
            {"type": "tool_use", "id": "tu", "name": "f", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"a"'},
            {"type": "input_json_delta", "partial_json": ": 1}"},
        ),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}" for event in events]


ANTHROPIC_WHOLE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [
        {"type": "thinking", "thinking": "let me think", "signature": "SIG=="},
        {"type": "redacted_thinking", "data": "ENC"},
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "tu", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 50,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 20,
        "output_tokens": 9,
    },
}


@both_ways
async def test_signed_thinking_and_cache_counts_of_anthropic_arrive(
    openai_server: OpenAIServer, request_to: Requests, how: str
) -> None:
    openai_server.answer(raw(json.dumps(ANTHROPIC_WHOLE)) if how == "complete" else lines(*anthropic_events()))
    reply = await answered(request_to(model="anthropic/claude-sonnet-4-5"), how, LiteLLM())
    assert (reply.text, reply.reasoning) == ("Hi", "let me think")
    assert reply.reasoning_blocks == (
        {"type": "thinking", "thinking": "let me think", "signature": "SIG=="},
        {"type": "redacted_thinking", "data": "ENC"},
    )
    assert [(call.tool_call_id, call.input) for call in reply.tool_calls] == [("tu", {"a": 1})]
    assert reply.usage == TokenUsage(input=50, output=9, cache_read=30, cache_write=20, total=109, reasoning=3)
    assert reply.cost > 0


async def test_many_calls_at_once_do_not_mix(openai_server: OpenAIServer, request_to: Requests, llm: LLM) -> None:
    openai_server.answer(lambda exchange: Reply([exchange.body["messages"][0]["content"]])(exchange))
    replies = await asyncio.gather(*(llm.complete(request_to(f"n{number}")) for number in range(12)))
    assert [reply.text for reply in replies] == [f"n{number}" for number in range(12)]
