"""Each provider accepts the requests of a session, also in the middle of another provider's history."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from mnesis.errors import ConfigurationError, LLMError
from mnesis.models.dialects import DIALECTS, dialect_names, find_dialect
from tests.support.providers.strict_server import Failure, Reply, ToolCall
from tests.support.samples import sampled
from tests.support.strict_session import MODELS, THINKING, strict_server, talking_to, weather

PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})
LOOP = (Reply("Looking.", "I should look.", (PARIS, ROME)), Reply("", "Another.", (PARIS,)), Reply("Sunny.", "Good."))


def options_for(provider: str) -> dict[str, Any]:
    return {"thinking": THINKING} if provider == "anthropic" else {}


@pytest.mark.parametrize("provider", MODELS)
async def test_tool_loops_of_reasoning_models_are_accepted(tmp_path: Path, provider: str) -> None:
    with strict_server(
        provider, *LOOP, *LOOP, enable=["reasoning-details-missing"] if provider == "openrouter" else ()
    ) as server:
        async with talking_to(
            server, tmp_path / "db", options=options_for(provider), system_prompt="Be kind."
        ) as session:
            for question in ("Weather?", "And now?"):
                assert (await session.send(question, tools=[weather])).text == "Sunny."
            events = [event async for event in session.stream("Bye", tools=[weather])]
        assert server.rejections == []
        assert len(server.requests) == 7
        assert events


@pytest.mark.parametrize("first", MODELS)
async def test_providers_can_be_switched_in_tool_histories(tmp_path: Path, first: str) -> None:
    """From the first to others and back, each time from inside a tool loop of the first that failed, in one session."""
    providers = list(MODELS)
    start = providers.index(first) + 1
    others = [*providers[start:], *providers[: start - 1]][: sampled(len(providers) - 1)]
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(strict_server(first, *LOOP))
        async with talking_to(one, tmp_path / "db", options=options_for(first)) as session:
            await session.send("Weather?", tools=[weather])
        for second in others:
            one.script(LOOP[0], Failure(400, "broken"))
            async with talking_to(one, tmp_path / "db", options=options_for(first)) as session:
                with pytest.raises(LLMError):
                    await session.send("And now?", tools=[weather])
            other = stack.enter_context(strict_server(second, *LOOP))
            async with talking_to(other, tmp_path / "db", options=options_for(second)) as session:
                assert (await session.send("Go on.", tools=[weather])).text == "Sunny."
            assert [*one.rejections, *other.rejections] == [], second
        one.script(*LOOP)
        async with talking_to(one, tmp_path / "db", options=options_for(first)) as session:
            assert (await session.send("Again.", tools=[weather])).text == "Sunny."
        assert one.rejections == []


async def test_no_reasoning_of_one_provider_reaches_another(tmp_path: Path) -> None:
    secret = "the-secret-thought"
    with strict_server("anthropic", Reply("Hm.", secret, (PARIS,)), Reply("Sunny.", secret)) as one:
        async with talking_to(one, tmp_path / "db", options={"thinking": THINKING}) as session:
            await session.send("Weather?", tools=[weather])
        for provider in sorted(set(MODELS) - {"anthropic"}):
            with strict_server(provider) as other:
                async with talking_to(other, tmp_path / "db") as session:
                    await session.send("Go on.")
                assert secret not in str(other.requests[0].body)
                assert one.sign(secret) not in str(other.requests[0].body)


async def test_own_reasoning_goes_back_unchanged(tmp_path: Path) -> None:
    for provider, field in (
        ("deepseek", "reasoning_content"),
        ("moonshot", "reasoning_content"),
        ("openrouter", "reasoning_details"),
    ):
        with strict_server(provider, *LOOP) as server:
            async with talking_to(server, tmp_path / f"{provider}.db") as session:
                await session.send("Weather?", tools=[weather])
            sent = [m[field] for m in server.requests[2].messages if m["role"] == "assistant"]
            assert ["I should look." in str(sent[0]), "Another." in str(sent[1])] == [True, True]


async def test_thinking_of_claude_stays_in_later_turns_and_on_other_claudes(tmp_path: Path) -> None:
    with strict_server("anthropic", *LOOP) as server:
        async with talking_to(server, tmp_path / "db", options={"thinking": THINKING}) as session:
            await session.send("Weather?", tools=[weather])
        opus = server.model("claude-opus-4-5")
        async with talking_to(server, tmp_path / "db", model=opus, options={"thinking": THINKING}) as session:
            await session.send("Thanks.")
        assert server.rejections == []
        assert str(server.requests[-1].messages).count("'type': 'thinking'") == 3


async def test_a_signature_of_another_maker_never_reaches_claude(tmp_path: Path) -> None:
    """z.ai and Moonshot serve the Anthropic protocol, with signatures of their own (AndyMik90/Aperant#1988)."""
    with strict_server("anthropic", *LOOP, secret="z.ai") as other, strict_server("anthropic") as claude:
        async with talking_to(
            other,
            tmp_path / "db",
            model="anthropic/glm-4.6",
            options={"thinking": THINKING, "allowed_openai_params": ["thinking"]},
        ) as session:
            await session.send("Weather?", tools=[weather])
        async with talking_to(claude, tmp_path / "db", options={"thinking": THINKING}) as session:
            await session.send("Thanks.")
        assert [*other.rejections, *claude.rejections] == []


async def test_a_signature_that_is_rejected_is_dropped_and_the_call_succeeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        strict_server("anthropic", Reply("Hm.", "Thought."), secret="a") as one,
        strict_server("anthropic", secret="b") as other,
    ):
        async with talking_to(one, tmp_path / "db", options={"thinking": THINKING}) as session:
            await session.send("Hello")
        with caplog.at_level(logging.WARNING):
            async with talking_to(other, tmp_path / "db", options={"thinking": THINKING}) as session:
                assert [(await session.send("Hello")).text for _ in range(2)] == ["OK.", "OK."]
        assert [rejection.rule for rejection in other.rejections] == ["thinking-signature"]
    assert len([r for r in caplog.records if "rejected the reasoning" in r.getMessage()]) == 1


async def test_mistral_gets_ids_of_its_form_and_the_log_keeps_the_original(tmp_path: Path) -> None:
    with strict_server("openai", *LOOP) as one, strict_server("mistral") as mistral:
        async with talking_to(one, tmp_path / "db") as session:
            await session.send("Weather?", tools=[weather])
        async with talking_to(mistral, tmp_path / "db") as session:
            await session.send("Thanks.")
            await session.send("Bye.")
            ids = [call.tool_call_id for message in await session.messages() for call in message.tool_calls]
        sent = [[c["id"] for m in r.messages for c in m.get("tool_calls") or []] for r in mistral.requests]
        assert all(each.startswith("call_") for each in ids)
        assert len(set(sent[0])) == len(ids)
        assert sent[0] == sent[1], "the ids of a request are the ids of the one before"


async def test_strict_roles_hold_after_compaction_and_interruption(tmp_path: Path) -> None:
    with strict_server("alternating") as server:
        async with talking_to(server, tmp_path / "db", system_prompt="Be kind.") as session:
            for turn in range(6):
                await session.send(f"question {turn} " * 50)
            await session.compact()
            await session.send("After the compaction.")
            server.script(LOOP[0], Failure(500, "down"))
            with pytest.raises(LLMError):
                await session.send("Weather?", tools=[weather])
            await session.send("After the interruption.")
            await session.send("And once more.")
        assert server.rejections == []


async def test_strict_roles_can_be_requested_for_an_unknown_endpoint(tmp_path: Path) -> None:
    with strict_server("openai", Failure(500, "down"), enable=["roles-alternate"]) as server:
        fields: dict[str, Any] = {"model": "openai/my-model", "dialect": "alternating"}
        async with talking_to(server, tmp_path / "db", **fields) as session:
            with pytest.raises(LLMError):
                await session.send("Hello")
            assert (await session.send("Hello again")).text == "OK."
            shown = await session.context_for_next_turn(provider="litellm")
        assert shown[0]["content"] == "Hello\n\nHello again"
        assert server.rejections == []


@pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
async def test_ollama_is_told_how_much_to_read(tmp_path: Path) -> None:
    with strict_server("ollama") as server:
        async with talking_to(server, tmp_path / "db", context_limit=16_000) as session:
            await session.send("Hello")
        async with talking_to(server, tmp_path / "db", context_limit=16_000, options={"num_ctx": 9_000}) as session:
            await session.send("Hello")
        assert [request.body["options"]["num_ctx"] for request in server.requests] == [16_000, 9_000]


async def test_thinking_is_not_asked_for_in_a_loop_that_another_model_began(tmp_path: Path) -> None:
    with strict_server("openai", LOOP[0], Failure(400, "broken")) as one, strict_server("anthropic") as claude:
        async with talking_to(one, tmp_path / "db") as session:
            with pytest.raises(LLMError):
                await session.send("Weather?", tools=[weather])
        async with talking_to(claude, tmp_path / "db", options={"thinking": THINKING}) as session:
            await session.send("Go on.")
            await session.send("Thanks.")
        assert claude.rejections == []
        assert ["thinking" in request.body for request in claude.requests] == [False, True]


# ---- The table ------------------------------------------------------------------------------------------------------------

NAMED = [
    ("anthropic/claude-sonnet-4-5", "anthropic"),
    ("claude-opus-4-5", "anthropic"),
    ("bedrock/us.anthropic.claude-sonnet-4-5-v1:0", "anthropic"),
    ("vertex_ai/claude-sonnet-4-5@20250929", "anthropic"),
    ("bedrock/amazon.nova-pro-v1:0", "bedrock"),
    ("openrouter/anthropic/claude-sonnet-4.5", "openrouter-claude"),
    ("openrouter/openai/gpt-5", "openrouter"),
    ("openai/gpt-4o", "openai"),
    ("gpt-5-mini", "openai"),
    ("openai/responses/gpt-5", "openai-responses"),
    ("openai/gemma-3-27b", "alternating"),
    ("openai/mixtral-8x7b", "alternating"),
    ("hosted_vllm/qwen3", "alternating"),
    ("lm_studio/gemma-2", "alternating"),
    ("azure/my-deployment", "azure"),
    ("xai/grok-4", "xai"),
    ("deepseek/deepseek-reasoner", "deepseek"),
    ("moonshot/kimi-k2-thinking", "moonshot"),
    ("zai/glm-4.6", "zai"),
    ("gemini/gemini-2.5-pro", "gemini"),
    ("vertex_ai/gemini-3-pro", "gemini"),
    ("mistral/mistral-large-latest", "mistral"),
    ("ollama/llama3.1", "ollama"),
    ("groq/llama-3.3-70b", "chat"),
]


@pytest.mark.parametrize(("model", "name"), NAMED)
def test_a_model_string_selects_its_dialect(model: str, name: str) -> None:
    assert find_dialect(model).name == name


def test_every_dialect_is_selected_by_some_model() -> None:
    assert {name for _, name in NAMED} == set(dialect_names())
    assert len(dialect_names()) == len(set(dialect_names()))
    for dialect in DIALECTS:
        re.compile(dialect.pattern)


def test_an_unknown_provider_gets_plain_messages_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = [find_dialect("never-heard-of-it/model").name for _ in range(3)]
    assert found == ["chat"] * 3
    assert len([r for r in caplog.records if "never-heard-of-it" in r.getMessage()]) == 1


async def test_an_unknown_dialect_is_refused_with_the_list(tmp_path: Path) -> None:
    with (
        strict_server("openai") as server,
        pytest.raises(ConfigurationError, match="alternating, openai-responses, openai"),
    ):
        async with talking_to(server, tmp_path / "db", dialect="gemma"):
            pass
