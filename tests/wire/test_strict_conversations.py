"""The strict provider servers accept valid conversations of the real client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_chat_completions import ROUTES, StrictChatCompletions
from tests.support.providers.strict_gemini import StrictGemini
from tests.support.providers.strict_server import Failure, Reply, ToolCall
from tests.support.strict_calls import ID, calls, result
from tests.support.strict_requests import (
    ASK,
    CHAT_MODELS,
    THINKING,
    Json,
    assistant,
    chat,
    claude,
    complete,
    gemini,
    post,
    tool_result,
    tool_use,
    user,
)

pytestmark = pytest.mark.usefixtures("litellm")

PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})


# ---- Valid conversations with the real client --------------------------------------------------------------------------


def assistant_message(message: Any) -> Json:
    """Build the assistant message that a faithful client sends back."""
    back: Json = {"role": "assistant", "content": message.content or ""}
    if message.tool_calls:
        back["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
            for c in message.tool_calls
        ]
    fields = getattr(message, "provider_specific_fields", None) or {}
    for name in ("reasoning_content", "thinking_blocks"):
        if value := getattr(message, name, None):
            back[name] = value
    if details := getattr(message, "reasoning_details", None) or fields.get("reasoning_details"):
        back["reasoning_details"] = details
    return back


def tool_messages(message: Any) -> list[Json]:
    return [{**result(call.id), "name": call.function.name} for call in message.tool_calls]


async def gather(litellm: Any, stream: Any) -> Any:
    chunks = [chunk async for chunk in stream]
    return litellm.stream_chunk_builder(chunks)


def keep_own_fields(flavour: str, message: Json) -> Json:
    """Drop what the flavour does not accept in the history, as a client for that provider does."""
    own = {"deepseek": "reasoning_content", "moonshot": "reasoning_content", "openrouter": "reasoning_details"}
    foreign = {"reasoning_content", "thinking_blocks", "reasoning_details"} - {own.get(flavour, "")}
    return {name: value for name, value in message.items() if name not in foreign}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("flavour", sorted(ROUTES))
async def test_a_tool_loop_through_litellm_is_accepted(
    flavour: str, streams: bool, litellm: Any, register: Any
) -> None:
    script = Reply("Looking.", thinking="I need both cities.", calls=(PARIS, ROME)), Reply("Sunny in both.")
    server = register(StrictChatCompletions(flavour, *script))
    messages = [{"role": "system", "content": "Be brief."}, user("Weather in Paris and Rome?")]
    for _ in script:
        reply = await complete(litellm, server, CHAT_MODELS[flavour], messages, stream=streams)
        message = (await gather(litellm, reply) if streams else reply).choices[0].message
        messages.append(keep_own_fields(flavour, assistant_message(message)))
        if message.tool_calls:
            assert [json.loads(c.function.arguments) for c in message.tool_calls] == [PARIS.arguments, ROME.arguments]
            answers = tool_messages(message)
            messages += (
                answers if flavour == "mistral" else [{k: v for k, v in a.items() if k != "name"} for a in answers]
            )
    assert message.content == "Sunny in both."
    assert not server.rejections
    assert len(server.requests) == 2


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_thinking_tool_loop_with_claude_is_accepted(streams: bool, litellm: Any, register: Any) -> None:
    script = Reply("Looking.", thinking="I need both.", calls=(PARIS, ROME)), Reply("Sunny.", thinking="Both sunny.")
    server = register(StrictAnthropic(*script))
    messages = [{"role": "system", "content": "Be brief."}, user("Weather in Paris and Rome?")]
    options = {"thinking": THINKING, "max_tokens": 4096, "stream": streams}
    for _ in script:
        reply = await complete(litellm, server, "claude-sonnet-4-5", messages, **options)
        message = (await gather(litellm, reply) if streams else reply).choices[0].message
        messages += [assistant_message(message), *(tool_messages(message) if message.tool_calls else [])]
    assert message.content == "Sunny."
    assert message.thinking_blocks[0]["signature"] == server.sign("Both sunny.")
    assert not server.rejections


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_tool_loop_with_gemini_3_is_accepted(streams: bool, litellm: Any, register: Any) -> None:
    script = Reply("", thinking="I need both.", calls=(PARIS, ROME)), Reply("Sunny.")
    server = register(StrictGemini(*script))
    messages = [{"role": "system", "content": "Be brief."}, user("Weather in Paris and Rome?")]
    for _ in script:
        reply = await complete(litellm, server, "gemini-3-pro-preview", messages, stream=streams)
        message = (await gather(litellm, reply) if streams else reply).choices[0].message
        messages += [message.model_dump(exclude_none=True), *(tool_messages(message) if message.tool_calls else [])]
    assert message.content == "Sunny."
    assert not server.rejections
    signed = [
        part
        for content in server.requests[1].body["contents"]
        for part in content["parts"]
        if "thoughtSignature" in part
    ]
    assert server.accepts_signature(signed[0]["thoughtSignature"])


async def test_errors_reach_the_client_as_its_typed_errors(litellm: Any, register: Any) -> None:
    openai = register(StrictChatCompletions("openai", Failure(429, "Slow down."), Failure(400, "No.")))
    for kind in (litellm.RateLimitError, litellm.BadRequestError):
        with pytest.raises(kind):
            await complete(litellm, openai, "gpt-4o", [user()])
    anthropic = register(StrictAnthropic(Failure(529, "Overloaded"), Failure(429, "Slow down.", {"retry-after": "7"})))
    for kind in (litellm.InternalServerError, litellm.RateLimitError):
        with pytest.raises(kind):
            await complete(litellm, anthropic, "claude-sonnet-4-5", [user()])
    google = register(StrictGemini(Failure(503, "Unavailable")))
    with pytest.raises(litellm.ServiceUnavailableError):
        await complete(litellm, google, "gemini-3-pro-preview", [user()])


def test_a_cut_stream_has_text_but_no_end(register: Any) -> None:
    reply = Reply("Half.", calls=(PARIS,), is_cut=True)
    for server, path, body, end in (
        (StrictChatCompletions("openai", reply), "/v1/chat/completions", chat(user(), stream=True), "[DONE]"),
        (StrictChatCompletions("ollama", reply), "/api/chat", chat(user(), stream=True), '"done":true'),
        (StrictAnthropic(reply), "/v1/messages", claude(user(), stream=True), "message_stop"),
        (StrictGemini(reply), "/v1beta/models/gemini-3-pro-preview:streamGenerateContent", gemini(ASK), "finishReason"),
    ):
        register(server)
        request = urllib.request.Request(server.url + path, json.dumps(body(server)).encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            received = response.read().decode()
        assert "Half." in received
        assert end not in received


def test_openrouter_wants_its_reasoning_details_back_unchanged(register: Any) -> None:
    server = register(
        StrictChatCompletions(
            "openrouter", Reply("", thinking="Hm.", calls=(PARIS,)), enable=["reasoning-details-missing"]
        )
    )
    path, first = "/api/v1/chat/completions", chat(user(), flavour="openrouter")(server)
    message = post(server, path, first)[1]["choices"][0]["message"]
    tail = [result(message["tool_calls"][0]["id"])]
    assert post(server, path, first | {"messages": [user(), message, *tail]})[0] == 200
    bare = {name: value for name, value in message.items() if name != "reasoning_details"}
    assert post(server, path, first | {"messages": [user(), bare, *tail]})[0] == 400
    changed = message | {"reasoning_details": [{**message["reasoning_details"][0], "text": "Aha."}]}
    assert post(server, path, first | {"messages": [user(), changed, *tail]})[0] == 400
    assert [r.rule for r in server.rejections] == ["reasoning-details-missing", "reasoning-details-changed"]


def test_ids_of_one_provider_are_refused_by_another(register: Any) -> None:
    """The ids that Kimi mints break Claude's pattern, and OpenAI's break Mistral's."""
    kimi = register(StrictChatCompletions("moonshot", Reply("", thinking="Hm.", calls=(PARIS,))))
    body = chat(user(), flavour="moonshot")(kimi)
    call_id = post(kimi, "/v1/chat/completions", body)[1]["choices"][0]["message"]["tool_calls"][0]["id"]
    anthropic = register(StrictAnthropic())
    post(
        anthropic,
        "/v1/messages",
        claude(user(), assistant([tool_use(call_id)]), user([tool_result(call_id)]))(anthropic),
    )
    assert [rejection.rule for rejection in anthropic.rejections] == ["tool-use-id"]


@pytest.mark.parametrize(
    ("flavour", "fields"),
    [
        ("deepseek", {"model": "deepseek-chat"}),
        ("deepseek", {"thinking": {"type": "disabled"}}),
        ("moonshot", {"model": "kimi-k2-0905-preview"}),
    ],
)
def test_reasoning_is_required_back_from_thinking_requests_only(flavour: str, fields: Json, register: Any) -> None:
    server = register(StrictChatCompletions(flavour))
    body = chat(user(), calls(ID), result(ID), flavour=flavour)(server) | fields
    assert post(server, "/v1/chat/completions", body)[0] == 200
    body = chat(user(), calls(ID, reasoning_content=""), result(ID), flavour=flavour)(server)
    assert post(server, "/v1/chat/completions", body)[0] == 200


def test_a_rule_can_be_enabled_for_another_flavour_and_disabled(register: Any) -> None:
    body = chat(user(), calls(ID), user(), flavour="xai")
    for options, status in (({}, 200), ({"enable": ["call-without-result"]}, 400)):
        server = register(StrictChatCompletions("xai", **options))
        assert post(server, "/v1/chat/completions", body(server))[0] == status


def test_openai_checks_cache_marks_of_other_models_on_request(register: Any) -> None:
    body = chat(user([{"type": "text", "text": "Hi", "cache_control": {}}]))
    for is_strict, status in ((False, 200), (True, 400)):
        server = register(StrictChatCompletions("openai", is_strict_about_cache_control=is_strict))
        assert post(server, "/v1/chat/completions", body(server))[0] == status


def test_other_paths_are_not_found(register: Any) -> None:
    for server in (StrictChatCompletions("openai"), StrictAnthropic(), StrictGemini()):
        assert post(register(server), "/v1/embeddings", {})[0] == 404
