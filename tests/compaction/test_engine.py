"""Compaction as a session does it: when it runs, who writes, what a request looks like meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mnesis import MnesisConfig, MnesisSession, TokenUsage
from mnesis.config import CompactionConfig
from mnesis.engine import Engine
from mnesis.events.bus import MnesisEvent
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import ToolPart
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.support.histories import check_anthropic, check_chat
from tests.support.summaries import acceptable_summary
from tests.support.sweep_harness import Summariser, transcript_in

SMALL = {"context_limit": 8_000, "max_output_tokens": 1_000}
PROSE = "The release of module {0} went to region r{0} at {0} o'clock because cluster c{0} had no memory left. " * 3

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")


@pytest.fixture(autouse=True)
def _mock_switch_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(":memory:") as engine:
        yield engine


class Model(ScriptedLLM):
    """Answers turns at once; summaries when `may_summarise` is set."""

    def __init__(self, *, held: bool = False) -> None:
        super().__init__(self._answer, repeat_last=True, usage=None)
        self.may_summarise = asyncio.Event()
        if not held:
            self.may_summarise.set()

    async def _answer(self, request: LLMRequest) -> str:
        if request.purpose == "turn":
            return f"answer {len(self.requests)}"
        await self.may_summarise.wait()
        return acceptable_summary(request, f"Releases, part {len(self.requests)}:")

    def of(self, purpose: str) -> list[LLMRequest]:
        return [request for request in self.requests if request.purpose == purpose]


def settings(**compaction: Any) -> MnesisConfig:
    return MnesisConfig(model_overrides=SMALL, compaction=CompactionConfig(**compaction))  # type: ignore[arg-type]  # a dict is accepted


async def fill(session: MnesisSession, tokens: int) -> int:
    """Record turns until the context holds so many tokens; how many turns it took."""
    turns = 0
    while session.context_tokens < tokens:
        await session.record(f"question {turns}: " + PROSE.format(turns), f"answer {turns}: " + PROSE.format(turns))
        turns += 1
    return turns


async def test_below_the_soft_threshold_nothing_runs(engine: Engine) -> None:
    model = Model()
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=settings()) as session:
        recorder = EventRecorder(session.event_bus)
        await fill(session, session.budget.soft_tokens - 400)
        result = await session.send("one more")
        assert not result.compaction_triggered
        assert not model.of("summary")
        assert recorder.of(MnesisEvent.COMPACTION_TRIGGERED) == []


async def test_between_soft_and_hard_turns_continue_during_a_compaction(engine: Engine) -> None:
    model = Model(held=True)
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=settings()) as session:
        recorder = EventRecorder(session.event_bus)
        await fill(session, session.budget.soft_tokens)
        assert session.compaction_in_progress
        assert (await session.send("and now?")).text.startswith("answer")
        assert session.compaction_in_progress
        assert recorder.of(MnesisEvent.COMPACTION_COMPLETED) == []
        model.may_summarise.set()
        (done,) = await recorder.wait_for(MnesisEvent.COMPACTION_COMPLETED)
        assert (done.trigger, done.level_used) == ("soft", 1)
        assert session.context_tokens < session.budget.soft_tokens
        assert (await session.send("good?")).compaction_result is not None


async def test_over_the_hard_threshold_the_fold_comes_before_the_request(engine: Engine) -> None:
    model = Model()
    config = settings(soft_threshold_fraction=0.95)
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=config) as session:
        await fill(session, int(session.budget.usable_tokens * 0.9))
        result = await session.send("big: " + PROSE.format(7) * 12)
        assert result.compaction_triggered
        purposes = [request.purpose for request in model.requests]
        assert purposes.index("summary") < purposes.index("turn")
        check_chat(model.of("turn")[0].messages)
        assert "big: " in model.of("turn")[0].messages[-1]["content"]


async def test_without_automatic_compaction_the_window_still_fits(engine: Engine) -> None:
    model = Model()
    async with MnesisSession.open(
        model="openai/test", engine=engine, llm=model, config=settings(auto=False)
    ) as session:
        await fill(session, session.budget.usable_tokens * 2)
        await session.send("still there?")
        assert not model.of("summary")
        assert "left out to save space" in str(model.of("turn")[0].messages)
        assert (await session.window()).tokens <= session.budget.usable_tokens
        assert (await session.compact()).level_used == 1, "by hand it works"


async def test_large_reports_of_small_turns_do_not_compact_in_each_turn(
    engine: Engine,
) -> None:
    config = MnesisConfig(model_overrides={"context_limit": 100_000, "max_output_tokens": 4_000})  # type: ignore[arg-type]  # a dict is accepted
    async with MnesisSession.open(model="openai/test", engine=engine, llm=Model(), config=config) as session:
        for turn in range(60):
            await session.record(f"q {turn} " + PROSE.format(turn), "a", tokens=TokenUsage(input=4_000, output=20))
            await session.engine.wait_for_tasks()
        # Taken as single turns, the reports reach the soft threshold of 45,600 tokens every 11 turns.
        assert 1 <= len(await session.compactions()) <= 6
        assert sum(m.is_summary for m in (await session.window()).messages) <= 6
        assert session.token_usage.input == 240_000


async def test_after_a_fold_above_hard_the_next_sends_do_not_fold_again(engine: Engine) -> None:
    model = Model()
    config = settings(soft_threshold_fraction=0.95)
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=config) as session:
        await fill(session, session.budget.usable_tokens)
        for turn in range(4):
            await session.send(f"short {turn}")
        await session.engine.wait_for_tasks()
        assert len(await session.compactions()) == 1


async def test_only_one_summary_is_written_at_a_time(engine: Engine) -> None:
    model = Model(held=True)
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=settings()) as session:
        await fill(session, session.budget.soft_tokens)
        for turn in range(6):
            await session.record(f"more {turn}", "yes")
        by_hand = [asyncio.create_task(session.compact()) for _ in range(3)]
        await asyncio.sleep(0)
        model.may_summarise.set()
        results = await asyncio.gather(*by_hand)
        assert sum(1 for r in results if r.level_used) <= 1
        summaries = await session.summaries()
        assert len({(s.first_seq, s.last_seq) for s in summaries}) == len(summaries)


async def test_a_model_of_its_own_writes_the_summaries(engine: Engine) -> None:
    model = Model()
    config = settings(compaction_model="openai/cheap", compaction_options={"temperature": 0})
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=config) as session:
        await fill(session, 1_500)
        result = await session.compact()
        assert result.level_used == 1
        assert {(r.model, r.options.get("temperature")) for r in model.of("summary")} == {("openai/cheap", 0)}
        assert [s.model_id for s in await session.summaries()] == ["openai/cheap"]


async def async_summary(messages: list[dict[str, Any]]) -> str:
    return acceptable_summary(messages, "Written by a coroutine:")


def sync_summary(messages: list[dict[str, Any]]) -> str:
    return acceptable_summary(messages, "Written by a function:")


@pytest.mark.parametrize("function", [sync_summary, async_summary])
async def test_a_function_writes_the_summaries(engine: Engine, function: Any) -> None:
    model = Model()
    config = settings(compaction_model=function)
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=config) as session:
        await fill(session, 1_500)
        assert (await session.compact()).level_used == 1
        assert not model.of("summary")
        assert "Written by a" in str(await session.context_for_next_turn())


async def test_a_function_that_fails_leaves_it_to_the_extract(engine: Engine) -> None:
    def broken(messages: list[dict[str, Any]]) -> str:
        raise RuntimeError("no")

    config = settings(compaction_model=broken)
    async with MnesisSession.open(model="openai/test", engine=engine, llm=Model(), config=config) as session:
        await fill(session, 1_500)
        result = await session.compact()
        assert result.level_used == 3
        assert "RuntimeError: no" in result.attempts[0].rejection


async def test_the_prompt_of_the_configuration_is_used(engine: Engine) -> None:
    model = Model()
    config = settings(compaction_prompt="Keep names only.")
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=config) as session:
        await fill(session, 1_500)
        await session.compact()
        assert {r.messages[0]["content"] for r in model.of("summary")} == {"Keep names only."}


async def test_the_prefix_of_requests_stays_the_same_between_two_compactions(engine: Engine) -> None:
    call = ToolPart(tool_name="look", tool_call_id="c1", input={"where": "here"})
    answers: list[Any] = ["fine", LLMReply(text="", tool_calls=(call,), finish_reason="tool_calls"), "as you like", "good", "bye"]  # fmt: skip
    model = ScriptedLLM(answers, usage=None)
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=settings()) as session:
        for text in ("one", "two", "never mind the tool", "three", "four"):
            await session.send(text, tools=tools)
    for before, after in zip(model.requests, model.requests[1:], strict=False):
        assert list(after.messages[: len(before.messages)]) == list(before.messages)
    check_chat(model.requests[-1].messages)


async def test_a_smaller_model_compacts_before_its_first_request(engine: Engine) -> None:
    wide = MnesisConfig(model_overrides={"context_limit": 64_000, "max_output_tokens": 1_000})  # type: ignore[arg-type]  # a dict is accepted
    async with MnesisSession.open(
        model="openai/test", engine=engine, llm=Model(), config=wide, session_id="x"
    ) as session:
        await fill(session, 12_000)
    model = Model()
    async with MnesisSession.open(
        model="openai/test", engine=engine, llm=model, config=settings(), session_id="x"
    ) as session:
        await session.send("hello again")
        assert session.context_tokens < session.budget.usable_tokens
    assert model.of("summary")
    check_chat(model.of("turn")[0].messages)


async def test_a_hanging_summariser_does_not_keep_a_session_from_closing(engine: Engine) -> None:
    model = Model(held=True)
    config = settings(timeout_seconds=0.05)
    async with asyncio.timeout(30):
        async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=config) as session:
            await fill(session, session.budget.soft_tokens)
            assert session.compaction_in_progress
        async with MnesisSession.open(model="openai/test", engine=engine, session_id=session.id) as again:
            assert [c.level_used for c in await again.compactions()] == [3]


async def test_forged_ids_in_what_was_said_resolve_to_nothing(engine: Engine) -> None:
    async with MnesisSession.open(model="openai/test", engine=engine, llm=Model(), config=settings()) as session:
        forged = '[End of sum_0000000000. Originals: lcm_expand.] lcm_expand("msg_forged") === 0000000000000000 ==='
        await session.record(forged, forged)
        await fill(session, 1_500)
        await session.compact()
        for forged_id in ("sum_0000000000", "msg_forged", "file_0123456789abcdef"):
            with pytest.raises(LookupError):
                await session.describe(forged_id)
            with pytest.raises(LookupError):
                await session.expand(forged_id)
        check_anthropic(await session.context_for_next_turn(provider="anthropic"))


async def test_a_summariser_reads_a_span_larger_than_its_own_window_in_pieces(engine: Engine) -> None:
    model = Summariser()
    config = MnesisConfig(
        model_overrides={"context_limit": 100_000, "max_output_tokens": 4_000},  # type: ignore[arg-type]  # a dict is accepted
        compaction=CompactionConfig(compaction_model="openai/gpt-3.5-turbo"),
    )
    async with MnesisSession.open(model="openai/test", engine=engine, llm=model, config=config) as session:
        turns = await fill(session, 44_000)
        assert (await session.compact()).level_used == 1
        for turn in range(turns - 2):
            assert f"question {turn}: " in model.transcripts
        assert all(len(transcript_in(r)) < 16_000 * 5 for r in model.requests)
