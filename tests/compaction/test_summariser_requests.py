"""What a summariser is sent: its own options, headroom for reasoning; and answers that are cut or full of thinking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from mnesis import MnesisConfig, MnesisSession, SessionConfig
from mnesis.config import CompactionConfig
from mnesis.engine import Engine
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.llm.thinking import REASONING_HEADROOM_TOKENS
from mnesis.models.usage import TokenUsage
from mnesis.testing import ScriptedLLM
from tests.support.openai_server import OpenAIServer, Reply
from tests.support.summaries import acceptable_summary

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
TURN_OPTIONS = {
    "thinking": {"type": "enabled", "budget_tokens": 10_000},
    "reasoning_effort": "high",
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "tool_choice": "required",
    "cache_control_injection_points": [{"location": "message", "role": "system"}],
    "response_format": {"type": "json_object"},
    "max_tokens": 7,
    "temperature": 1.5,
    "stop": ["\n"],
    "extra_body": {"enable_thinking": True},
}
CONNECTION = {
    "api_base": "http://localhost:1/v1",
    "api_key": "sk-own",
    "api_version": "2",
    "organization": "org",
    "extra_headers": {"x-team": "a"},
    "aws_region_name": "eu-north-1",
    "vertex_project": "p",
    "azure_ad_token": "t",
    "watsonx_space_id": "w",
}


@pytest.fixture(autouse=True)
def _mock_switch_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)


def opened(
    llm: object, model: str = "openai/test", *, options: Any = None, overrides: Any = None, **compaction: Any
) -> AbstractAsyncContextManager[MnesisSession]:
    config = MnesisConfig(
        model_overrides=overrides,
        compaction=CompactionConfig(**compaction),
        session=SessionConfig(llm_options=TURN_OPTIONS | CONNECTION if options is None else options),
    )
    return MnesisSession.open(model=model, db_path=":memory:", llm=llm, config=config)


async def compact(session: MnesisSession) -> Any:
    for turn in range(12):
        await session.record(f"Ship order-{turn} to Agent{turn}. " * 20, f"Sent parcel-{turn} by boat. " * 20)
    return await session.compact()


def summariser() -> ScriptedLLM:
    return ScriptedLLM(acceptable_summary, repeat_last=True)


async def sent(**fields: Any) -> LLMRequest:
    llm = summariser()
    async with opened(llm, **fields) as session:
        assert (await compact(session)).level_used == 1
    return llm.requests[0]


async def test_only_the_connection_is_inherited_from_the_session() -> None:
    assert (await sent()).options == CONNECTION


async def test_another_provider_inherits_nothing() -> None:
    request = await sent(compaction_model="anthropic/claude-haiku-4-5")
    assert request.options == {}
    assert request.model == "anthropic/claude-haiku-4-5"


async def test_options_of_its_own_are_sent_as_they_are() -> None:
    own = {"reasoning_effort": "low", "api_key": "sk-summaries"}
    assert (await sent(compaction_options=own)).options == own


@pytest.mark.parametrize(
    "model", ["openai/gpt-5-mini", "openai/o3", "gemini/gemini-2.5-pro", "deepseek/deepseek-reasoner"]
)
async def test_reasoning_has_headroom_beyond_the_summary(model: str) -> None:
    request = await sent(model=model)
    assert request.max_output_tokens is not None
    assert request.max_output_tokens >= REASONING_HEADROOM_TOKENS


async def test_headroom_stays_within_the_models_own_limit() -> None:
    request = await sent(overrides={"context_limit": 30_000, "max_output_tokens": 3_000})
    assert request.max_output_tokens == 3_000


@pytest.mark.parametrize("model", ["ollama/llama3.1", "ollama_chat/qwen3"])
async def test_ollama_is_told_how_long_a_request_of_the_summariser_may_be(model: str) -> None:
    request = await sent(model=model, overrides={"context_limit": 30_000})
    assert request.options["num_ctx"] == 30_000


async def test_a_summariser_on_ollama_gets_the_limit_of_its_own_model() -> None:
    request = await sent(compaction_model="ollama/mistral-nemo")
    assert request.options["num_ctx"] > 0


def answers(text_of: Callable[[LLMRequest], str], **fields: Any) -> ScriptedLLM:
    return ScriptedLLM(lambda request: LLMReply(text=text_of(request), **fields), repeat_last=True)


@pytest.mark.parametrize("finish_reason", ["length", "max_tokens"])
async def test_an_answer_cut_by_its_limit_is_rejected(finish_reason: str) -> None:
    async with opened(answers(acceptable_summary, finish_reason=finish_reason)) as session:
        result = await compact(session)
    assert result.level_used == 3
    assert all("cut off" in str(attempt.rejection) for attempt in result.attempts if attempt.level < 3)


async def test_an_answer_withheld_by_the_provider_is_rejected() -> None:
    async with opened(answers(acceptable_summary, finish_reason="content_filter")) as session:
        assert (await compact(session)).level_used == 3


@pytest.mark.parametrize("opening", ["<think>Let me list the orders.</think>\n\n", "Orders, orders.\n</think>\n\n"])
async def test_thinking_in_front_of_a_summary_is_not_part_of_it(opening: str) -> None:
    async with opened(answers(lambda request: opening + acceptable_summary(request))) as session:
        assert (await compact(session)).level_used == 1
        (summary,) = await session.summaries()
    assert summary.text.startswith("They spoke about")


async def test_thinking_that_never_ends_is_not_a_summary() -> None:
    async with opened(answers(lambda request: "<think>" + acceptable_summary(request))) as session:
        result = await compact(session)
    assert result.level_used == 3
    assert result.attempts[0].rejection == "it is empty"


async def test_attempts_report_tokens_cost_and_time_also_when_rejected() -> None:
    usage = TokenUsage(input=900, output=30, total=930)
    llm = ScriptedLLM(
        [LLMReply(text="OK.", usage=usage, cost=0.25), lambda request: LLMReply(text=acceptable_summary(request), usage=usage, cost=0.5)]
    )  # fmt: skip
    async with opened(llm) as session:
        result = await compact(session)
    assert [(a.level, a.usage, a.cost) for a in result.attempts] == [(1, usage, 0.25), (2, usage, 0.5)]
    assert all(attempt.seconds > 0 for attempt in result.attempts)
    assert "acknowledgement" in str(result.attempts[0].rejection)
    assert (result.usage, result.cost) == (usage + usage, 0.75)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


async def test_over_the_wire_the_summariser_asks_only_for_a_summary(server: OpenAIServer) -> None:
    """litellm really sends these arguments; the provider's answer is cut, so the extract takes over."""
    server.answer(Reply(["<think>So the user"], finish_reason="length"))
    options = {**TURN_OPTIONS, **server.options}
    async with Engine(":memory:") as engine:
        config = MnesisConfig(session=SessionConfig(llm_options=options))
        async with MnesisSession.open(model="openai/gpt-5-mini", engine=engine, config=config) as session:
            result = await compact(session)
    assert result.level_used == 3
    assert "cut off" in str(result.attempts[0].rejection)
    body = server.requests[0]
    assert not {"tools", "tool_choice", "response_format", "reasoning_effort", "temperature", "stop"} & set(body)
    assert body.get("max_completion_tokens", body.get("max_tokens")) >= REASONING_HEADROOM_TOKENS


async def test_the_compaction_model_is_called_with_a_bound_client_too(
    server: OpenAIServer,
) -> None:
    """`llm="openai/other"` calls that model whatever a request names, and a session without a model calls none."""
    for settings in ({"model": "openai/test", "llm": "openai/other"}, {"model": None}):
        async with MnesisSession.open(
            db_path=":memory:",
            config=MnesisConfig(
                compaction=CompactionConfig(compaction_model="openai/cheap", compaction_options=server.options)
            ),
            **settings,  # type: ignore[arg-type]  # names of parameters
        ) as session:
            await compact(session)
    assert {body["model"] for body in server.requests} == {"cheap"}
    assert len(server.requests) >= 2
