"""What only the direct client for OpenAI-compatible endpoints does; the tests of answers and failures run with it too."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis import OpenAICompatibleLLM
from mnesis.errors import ConfigurationError, LLMAuthenticationError, LLMBadRequestError, LLMError, LLMServerError
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.chat_request import build_body, endpoint_model
from mnesis.llm.proxies import find_proxy
from mnesis.llm.resolve import resolve
from mnesis.llm.server_events import EventParser
from mnesis.models.usage import TokenUsage
from tests.support.openai_server import CHUNK, COMPLETION, OpenAIServer, Reply, error, lines, raw

KEY = "an unusual key without any pattern"
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}


@pytest.fixture
async def direct(openai_server: OpenAIServer) -> AsyncIterator[OpenAICompatibleLLM]:
    """The client, with the address and the key of the server of this test."""
    async with OpenAICompatibleLLM(openai_server.url, api_key=KEY, headers={"X-Title": "tests"}) as client:
        yield client


def request(text: str = "hi", **fields: Any) -> LLMRequest:
    """Return a request that leaves the address to the client."""
    fields = {"model": "openai/test-model", "timeout_seconds": 60.0, **fields}
    return LLMRequest(messages=[{"role": "user", "content": text}], **fields)


async def test_address_key_and_headers_of_the_client_are_used(
    openai_server: OpenAIServer, direct: OpenAICompatibleLLM
) -> None:
    assert (await direct.complete(request())).text == "Hello world"
    assert openai_server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert openai_server.headers[0]["x-title"] == "tests"


async def test_without_a_key_no_authorization_is_sent(openai_server: OpenAIServer) -> None:
    async with OpenAICompatibleLLM(openai_server.url + "/") as client:
        await client.complete(request())
    assert "authorization" not in openai_server.headers[0]


async def test_the_key_is_in_no_error_and_no_repr(openai_server: OpenAIServer, direct: OpenAICompatibleLLM) -> None:
    openai_server.answer(error(401, f"wrong key: {KEY}"))
    with pytest.raises(LLMAuthenticationError) as caught:
        await direct.complete(request())
    assert KEY not in str(caught.value) + repr(caught.value.__cause__) + repr(direct)
    assert "[redacted: api-key]" in str(caught.value)


async def test_a_call_through_the_proxy_of_the_environment_names_the_endpoint(
    openai_server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", openai_server.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "")
    async with OpenAICompatibleLLM("http://endpoint.invalid/v1") as client:
        assert (await client.complete(request())).text == "Hello world"
    assert openai_server.headers[0]["host"] == "endpoint.invalid"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("http://a.example/v1", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("https://a.example/v1", {"http_proxy": "http://p:1"}, None),
        ("https://a.example/v1", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://a.example/v1", {"https_proxy": "https://p:1"}, None),
        ("https://a.example/v1", {"https_proxy": "http://p:1", "no_proxy": "example"}, None),
        ("http://a.example/v1", {}, None),
    ],
)
def test_the_environment_names_the_proxy(
    url: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(url) == proxy


async def test_only_the_first_call_to_an_address_uses_a_thread(
    direct: OpenAICompatibleLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    await direct.complete(request())

    def refuse(*arguments: Any) -> None:
        raise AssertionError("a call used a thread")

    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
    monkeypatch.setattr("anyio.to_thread.run_sync", refuse)
    await direct.complete(request())
    assert [event async for event in direct.stream(request())]


@pytest.mark.parametrize("base_url", ["localhost:8000", "", None])
def test_an_address_without_scheme_is_refused(base_url: Any) -> None:
    with pytest.raises(ConfigurationError, match="http"):
        OpenAICompatibleLLM(base_url)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("openai/gpt-4o", "gpt-4o"),
        ("hosted_vllm/Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("openrouter/anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.5"),
        ("meta-llama/Llama-3.3-70B", "meta-llama/Llama-3.3-70B"),
        ("gpt-4o", "gpt-4o"),
    ],
)
def test_the_endpoint_gets_the_model_without_the_provider(model: str, sent: str) -> None:
    assert endpoint_model(model) == sent


async def test_the_model_of_the_client_replaces_that_of_requests(openai_server: OpenAIServer) -> None:
    async with OpenAICompatibleLLM(openai_server.url, model="groq/other") as client:
        assert (await client.complete(request())).model == "groq/other"
        assert resolve(client).model == "groq/other"  # type: ignore[attr-defined]  # of every resolved client
    assert openai_server.requests[0]["model"] == "other"


def test_fields_that_only_litellm_understands_are_not_sent() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "provider_specific_fields": {}}
    message = {"role": "assistant", "content": "", "tool_calls": [call], "thinking_blocks": [{}], "reasoning_items": []}
    body = build_body(
        "openai/m", LLMRequest("openai/m", [message], options={"num_retries": 0, "top_p": 1}), is_streamed=False
    )
    assert body == {
        "model": "m",
        "messages": [
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            }
        ],
        "top_p": 1,
    }


@pytest.mark.parametrize(("model", "name"), [("gpt-5-mini", "max_completion_tokens"), ("gpt-4o", "max_tokens")])
def test_the_limit_has_the_name_that_openai_wants(model: str, name: str) -> None:
    body = build_body(f"openai/{model}", request(max_output_tokens=9), is_streamed=False)
    assert {key: value for key, value in body.items() if key.startswith("max")} == {name: 9}


async def test_a_schema_is_sent_until_the_endpoint_rejects_it(
    openai_server: OpenAIServer, direct: OpenAICompatibleLLM
) -> None:
    openai_server.answer(Reply(), error(400, "response_format is not supported"), Reply())
    for _ in range(3):
        await direct.complete(request(response_schema=SCHEMA))
    formats = [sent.get("response_format", {}).get("type") for sent in openai_server.requests]
    assert formats == ["json_schema", "json_schema", None, None]


async def test_a_schema_of_the_caller_is_never_dropped(
    openai_server: OpenAIServer, direct: OpenAICompatibleLLM
) -> None:
    own = {"type": "json_schema", "json_schema": {"name": "mine", "schema": SCHEMA}}
    openai_server.answer(error(400, "response_format is not supported"))
    with pytest.raises(LLMBadRequestError):
        await direct.complete(request(response_schema=SCHEMA, options={"response_format": own}))
    assert [sent["response_format"] for sent in openai_server.requests] == [own]


@pytest.mark.parametrize("streams", [False, True])
async def test_reasoning_under_its_other_names_is_found(
    openai_server: OpenAIServer, direct: OpenAICompatibleLLM, streams: bool
) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    for message in (
        {"content": "Yes.", "reasoning": "Hm."},
        {"content": [thinking, {"type": "text", "text": "Yes."}]},
    ):
        choice = {"index": 0, "delta" if streams else "message": message, "finish_reason": "stop"}
        answer = {**(CHUNK if streams else COMPLETION), "choices": [choice]}
        openai_server.answer(lines(f"data: {json.dumps(answer)}") if streams else raw(json.dumps(answer)))
        reply = await last(direct, request()) if streams else await direct.complete(request())
        assert (reply.text, reply.reasoning) == ("Yes.", "Hm.")


async def last(client: OpenAICompatibleLLM, sent: LLMRequest) -> LLMReply:
    """Stream an answer and return its last item."""
    *_, reply = [piece async for piece in client.stream(sent)]
    assert isinstance(reply, LLMReply)
    return reply


async def test_an_endpoint_that_does_not_stream_answers_at_once(
    openai_server: OpenAIServer, direct: OpenAICompatibleLLM
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}
    openai_server.answer(raw(json.dumps({**COMPLETION, "choices": [choice]})))
    pieces = [piece async for piece in direct.stream(request())]
    assert pieces[0] == Delta(text="whole")
    assert isinstance(pieces[1], LLMReply)


async def test_an_error_with_status_200_is_an_error(openai_server: OpenAIServer, direct: OpenAICompatibleLLM) -> None:
    openai_server.answer(raw('{"error": {"message": "upstream is down", "code": 502}}'))
    with pytest.raises(LLMServerError, match="upstream is down"):
        await direct.complete(request())


async def test_the_cost_that_the_endpoint_reports_counts(
    openai_server: OpenAIServer, direct: OpenAICompatibleLLM
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.25}
    openai_server.answer(Reply(usage=usage))
    reply = await direct.complete(request(model="openai/gpt-4o"))
    assert (reply.cost, reply.usage) == (0.25, TokenUsage(input=10, output=5, total=15))


def test_one_client_serves_loops_one_after_another(openai_server: OpenAIServer) -> None:
    client = OpenAICompatibleLLM(openai_server.url)
    for _ in range(3):
        assert asyncio.run(client.complete(request())).text == "Hello world"
    assert len(client._sessions) == 1, "connections of loops that have ended are closed"


async def test_a_closed_client_opens_connections_again(direct: OpenAICompatibleLLM) -> None:
    await direct.complete(request())
    await direct.close()
    assert (await direct.complete(request())).text == "Hello world"


async def test_only_llm_errors_leave_the_client(direct: OpenAICompatibleLLM) -> None:
    with pytest.raises(LLMError):
        await direct.complete(request(options={"api_base": "http://[broken"}))


EVENTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1).map(str.strip).filter(bool)
)


@given(EVENTS, st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0, 400)), st.booleans())
def test_events_are_the_same_however_the_bytes_arrive(
    events: list[str], newline: str, cuts: list[int], is_complete: bool
) -> None:
    text = "".join(f": comment{newline}data: {event}{newline}{newline}" for event in events)
    stream = text.encode() if is_complete or not events else text.encode().rstrip()
    bounds = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    parser = EventParser()
    found = [data for start, end in pairwise(bounds) for data in parser.feed(stream[start:end])]
    assert [data.decode() for data in (*found, *parser.finish())] == events


def test_the_lines_of_one_event_are_joined() -> None:
    assert list(EventParser().feed(b'data: {"a":\ndata: 1}\n\n')) == [b'{"a":\n1}']
