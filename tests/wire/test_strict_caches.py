"""The strict provider servers cache as the real APIs cache."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.providers.anthropic_prompt_cache import input_cost
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_chat_completions import StrictChatCompletions
from tests.support.providers.strict_gemini import StrictGemini
from tests.support.providers.strict_server import Reply, StrictServer, ToolCall
from tests.support.strict_requests import (
    ASK,
    CALL,
    OLD,
    RESPONSE,
    THINKING,
    WEATHER,
    Json,
    assistant,
    claude,
    complete,
    gemini,
    mark,
    post,
    text,
    thinking_block,
    tool_result,
    tool_use,
    turn,
    user,
)

pytestmark = pytest.mark.usefixtures("litellm")

PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})


# ---- Anthropic: joining and caching ------------------------------------------------------------------------------------


def ask(server: StrictAnthropic, *messages: Json, **fields: Any) -> Json:
    status, body = post(server, "/v1/messages", claude(*messages, **fields)(server))
    assert status == 200, body
    return body["usage"]  # type: ignore[no-any-return]


def long_text(name: str, tokens: int = 1100) -> str:
    return (name * 4 * tokens)[: 4 * tokens]


SYSTEM = [text(long_text("s"), **mark())]


def test_neighbouring_messages_of_one_role_are_joined(register: Any) -> None:
    server = register(StrictAnthropic())
    ask(server, user("One."), user("Two."), assistant("Three."), assistant("Four."), user("Five."))
    ask(
        server,
        user(),
        assistant([tool_use("toolu_1")]),
        assistant([tool_use("toolu_2")]),
        user([tool_result("toolu_1")]),
        user([tool_result("toolu_2")]),
    )


def test_a_system_message_in_the_conversation_depends_on_the_model(register: Any) -> None:
    server = register(StrictAnthropic())
    messages = [user(), {"role": "system", "content": "Be brief."}]
    ask(server, *messages, model="claude-opus-5")
    assert post(server, "/v1/messages", claude(*messages)(server))[0] == 400


def test_the_second_request_reads_what_the_first_one_wrote(register: Any) -> None:
    server = register(StrictAnthropic())
    first, second = (ask(server, user(), system=SYSTEM) for _ in range(2))
    assert first["cache_creation_input_tokens"] > 1024
    assert first["cache_read_input_tokens"] == 0
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert second["cache_creation_input_tokens"] == 0
    assert first["input_tokens"] == second["input_tokens"]


def test_a_change_before_the_mark_misses_and_one_after_it_hits(register: Any) -> None:
    server = register(StrictAnthropic())
    written = ask(server, user("One."), system=SYSTEM)["cache_creation_input_tokens"]
    assert ask(server, user("Two."), system=SYSTEM)["cache_read_input_tokens"] == written
    assert ask(server, user("One."), system=SYSTEM, tools=[anthropic_tool()])["cache_read_input_tokens"] == 0
    assert ask(server, user("One."), system=SYSTEM, model="claude-sonnet-4-6")["cache_read_input_tokens"] == 0


def anthropic_tool() -> Json:
    return {"name": "weather", "description": "Weather of a city.", "input_schema": WEATHER}


def test_thinking_settings_invalidate_the_messages_but_not_the_system(register: Any) -> None:
    server = register(StrictAnthropic())
    marked = user([text(long_text("m"), **mark())])
    first = ask(server, marked, system=SYSTEM)
    second = ask(server, marked, system=SYSTEM, thinking=THINKING)
    assert 0 < second["cache_read_input_tokens"] < first["cache_creation_input_tokens"]


def test_a_prompt_below_the_minimum_is_not_cached(register: Any) -> None:
    server = register(StrictAnthropic())
    for model, tokens, is_cached in (
        ("claude-sonnet-4-5", 1000, False),
        ("claude-sonnet-4-5", 1100, True),
        ("claude-3-5-haiku-20241022", 1100, False),
        ("claude-opus-4-5", 4000, False),
        ("claude-haiku-4-5", 4200, True),
        ("claude-opus-5", 600, True),
    ):
        system = [text(long_text(model, tokens), **mark())]
        usage = ask(server, user(), system=system, model=model)
        assert bool(usage["cache_creation_input_tokens"]) == is_cached, (model, tokens)


def test_an_entry_expires_after_five_minutes_without_a_read(register: Any) -> None:
    server = register(StrictAnthropic())
    ask(server, user(), system=SYSTEM)
    for wait, hits in ((299, True), (299, True), (301, False)):
        server.clock.advance(wait)
        assert bool(ask(server, user(), system=SYSTEM)["cache_read_input_tokens"]) == hits


def test_an_entry_of_an_hour_lives_an_hour_and_is_reported_apart(register: Any) -> None:
    server = register(StrictAnthropic())
    system = [text(long_text("s"), **mark("1h"))]
    tail = user([text(long_text("t"), **mark())])
    usage = ask(server, tail, system=system)["cache_creation"]
    assert usage["ephemeral_1h_input_tokens"] > 1024
    assert usage["ephemeral_5m_input_tokens"] > 1024
    server.clock.advance(3500)
    assert ask(server, tail, system=system)["cache_read_input_tokens"] == usage["ephemeral_1h_input_tokens"]
    server.clock.advance(3601)
    assert ask(server, tail, system=system)["cache_read_input_tokens"] == 0


def mark_last(*turns: Json) -> list[Json]:
    """Mark the last block of the last message."""
    *earlier, last = turns
    blocks = last["content"] if isinstance(last["content"], list) else [text(last["content"])]
    return [*earlier, {**last, "content": [*blocks[:-1], blocks[-1] | mark()]}]


@pytest.mark.parametrize(("new_blocks", "hits"), [(19, True), (20, False)])
def test_a_mark_looks_back_over_twenty_positions(new_blocks: int, hits: bool, register: Any) -> None:
    server = register(StrictAnthropic())
    start = user(long_text("m"))
    ask(server, *mark_last(start))
    more = [assistant([text("Hi")]), user([text(f"Block {number}.") for number in range(new_blocks - 1)])]
    assert bool(ask(server, *mark_last(start, *more))["cache_read_input_tokens"]) == hits


def test_a_run_of_parallel_calls_counts_as_one_position(register: Any) -> None:
    server = register(StrictAnthropic())
    start, ids = user(long_text("m")), [f"toolu_{number}" for number in range(30)]
    ask(server, *mark_last(start))
    loop = [assistant([tool_use(call_id) for call_id in ids]), user([tool_result(call_id) for call_id in ids])]
    assert ask(server, *mark_last(start, *loop))["cache_read_input_tokens"] > 1024


def test_the_automatic_mark_moves_with_the_conversation(register: Any) -> None:
    server = register(StrictAnthropic())
    first = ask(server, user(long_text("m")), **mark())
    second = ask(server, user(long_text("m")), assistant(), user("More."), **mark())
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert second["input_tokens"] == 0


@pytest.mark.parametrize(("model", "keeps"), [("claude-sonnet-4-5", False), ("claude-sonnet-4-6", True)])
def test_older_models_drop_earlier_thinking_and_miss_their_cache(model: str, keeps: bool, register: Any) -> None:
    server = register(StrictAnthropic())
    loop = [
        user("Weather?"),
        assistant([thinking_block(server), tool_use()]),
        user([tool_result(content=long_text("r"))]),
    ]
    options = {"model": model, "thinking": THINKING}
    written = ask(server, *mark_last(*loop), **options)["cache_creation_input_tokens"]
    usage = ask(server, *mark_last(*loop, assistant("Sunny."), user("Thanks.")), **options)
    assert usage["cache_read_input_tokens"] == (written if keeps else 0)


def test_with_the_rule_off_a_loop_without_thinking_switches_it_off(register: Any) -> None:
    reply = Reply("Sunny.", thinking="Hm.")
    server = register(StrictAnthropic(reply, reply, disable=["thinking-first"]))
    body = claude(user(), assistant([tool_use()]), user([tool_result()]), thinking=THINKING)(server)
    assert [block["type"] for block in post(server, "/v1/messages", body)[1]["content"]] == ["text"]
    body = claude(user(), thinking=THINKING)(server)
    assert [block["type"] for block in post(server, "/v1/messages", body)[1]["content"]] == ["thinking", "text"]


def test_writes_cost_a_premium_and_reads_a_tenth() -> None:
    written = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 10}
    usage = {"input_tokens": 1, "cache_read_input_tokens": 1000, "cache_creation": written}
    assert input_cost(usage, 1.0) == pytest.approx(1 + 100 + 125 + 20)


async def test_litellm_reports_the_cache_figures_and_their_price(litellm: Any, register: Any) -> None:
    server = register(StrictAnthropic())
    messages = [{"role": "system", "content": [text(long_text("s"), **mark())]}, user()]
    for _ in range(2):
        reply = await litellm.acompletion(
            model=server.model("claude-sonnet-4-5"), messages=messages, max_tokens=64, **server.options
        )
        usage, reported = reply.usage, server.usages[-1]
        assert usage.cache_read_input_tokens == reported["cache_read_input_tokens"]
        assert usage.cache_creation_input_tokens == reported["cache_creation_input_tokens"]
        price = input_cost(reported, 3e-6) + reported["output_tokens"] * 15e-6
        assert litellm.completion_cost(reply) == pytest.approx(price)
    assert usage.cache_read_input_tokens > 1024


# ---- The other caches --------------------------------------------------------------------------------------------------


def usage_of(server: StrictServer, path: str, *messages: Json, **fields: Any) -> Json:
    status, body = post(server, path, {"model": "gpt-4o", "messages": list(messages), **fields})
    assert status == 200, body
    return body["usage"]  # type: ignore[no-any-return]


def test_openai_caches_prefixes_in_steps_of_128_tokens(register: Any) -> None:
    server, path = register(StrictChatCompletions("openai")), "/v1/chat/completions"
    start = user(long_text("m", 1500))
    assert usage_of(server, path, start)["prompt_tokens_details"]["cached_tokens"] == 0
    tokens = usage_of(server, path, start, assistant(), user("More."))["prompt_tokens_details"]["cached_tokens"]
    assert tokens >= 1408
    assert (tokens - 1024) % 128 == 0
    assert usage_of(server, path, user(long_text("n", 1500)))["prompt_tokens_details"]["cached_tokens"] == 0
    server.clock.advance(301)
    assert usage_of(server, path, start)["prompt_tokens_details"]["cached_tokens"] == 0


def test_openai_caches_nothing_below_1024_tokens(register: Any) -> None:
    server, path = register(StrictChatCompletions("openai")), "/v1/chat/completions"
    usages = [usage_of(server, path, user(long_text("m", 900))) for _ in range(2)]
    assert [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages] == [0, 0]


def test_deepseek_hits_whole_units_only(register: Any) -> None:
    server, path = register(StrictChatCompletions("deepseek", *[Reply("OK.")] * 9)), "/v1/chat/completions"
    system = {"role": "system", "content": long_text("s")}
    first = usage_of(server, path, system, user("One."))
    assert (first["prompt_cache_hit_tokens"], first["prompt_cache_miss_tokens"]) == (0, first["prompt_tokens"])
    grown = usage_of(server, path, system, user("One."), {"role": "assistant", "content": "OK."}, user("Two."))
    assert grown["prompt_cache_hit_tokens"] > first["prompt_tokens"]  # the prompt and the reply
    assert (
        usage_of(server, path, system, user("Something else."))["prompt_cache_hit_tokens"] == 0
    )  # parts within a unit
    assert (
        usage_of(server, path, system, user("A third."))["prompt_cache_hit_tokens"] > 1000
    )  # the common prefix, stored before


async def test_litellm_reports_deepseek_hits_as_cached_tokens(litellm: Any, register: Any) -> None:
    server = register(StrictChatCompletions("deepseek"))
    for _ in range(2):
        reply = await complete(litellm, server, "deepseek-chat", [user(long_text("m"))])
    assert reply.usage.prompt_tokens_details.cached_tokens > 1000


def test_gemini_caches_implicitly_above_the_minimum_of_the_model(register: Any) -> None:
    server = register(StrictGemini())
    for model, tokens, is_cached in (
        (OLD, 1900, False),
        (OLD, 2200, True),
        ("gemini-3-pro-preview", 3900, False),
        ("gemini-3-pro-preview", 4300, True),
    ):
        body = gemini(turn("user", {"text": long_text(str(tokens), tokens)}))(server)
        usages = [post(server, f"/v1beta/models/{model}:generateContent", body)[1]["usageMetadata"] for _ in range(2)]
        assert "cachedContentTokenCount" not in usages[0]
        assert ("cachedContentTokenCount" in usages[1]) == is_cached, (model, tokens)


def test_gemini_accepts_the_documented_placeholder_signatures(register: Any) -> None:
    server, path = register(StrictGemini()), "/v1beta/models/gemini-3-pro-preview:generateContent"
    encoded = base64.b64encode(b"skip_thought_signature_validator").decode()
    for signature in ("context_engineering_is_the_way_to_go", encoded):
        signed = turn("model", CALL | {"thoughtSignature": signature}, CALL)
        assert post(server, path, gemini(ASK, signed, turn("user", RESPONSE, RESPONSE))(server))[0] == 200


def test_gemini_needs_signatures_in_the_current_turn_only(register: Any) -> None:
    server, path = register(StrictGemini()), "/v1beta/models/gemini-3-pro-preview:generateContent"
    past = [ASK, turn("model", CALL), turn("user", RESPONSE), turn("model", {"text": "Blue."})]
    assert post(server, path, gemini(*past, ASK)(server))[0] == 200
