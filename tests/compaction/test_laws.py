"""Random lives of a session against a plain list: everything comes back, the window fits, the store is sound."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mnesis import MnesisConfig, MnesisSession
from mnesis.config import CompactionConfig, SessionConfig
from mnesis.engine import Engine
from mnesis.errors import LLMConnectionError
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import FileRefPart, Message, TextPart, ToolPart, ToolResultPart
from mnesis.models.summary import Summary
from mnesis.testing import ScriptedLLM
from tests.support.histories import chat_tokens, check_anthropic, check_chat, histories, text_message
from tests.support.samples import sampled

WINDOW = {"context_limit": 4_000, "max_output_tokens": 500}
CONFIG = MnesisConfig(
    model_overrides=WINDOW,  # type: ignore[arg-type]  # a dict is accepted
    compaction=CompactionConfig(prune_protect_tokens=600, prune_minimum_tokens=200),
    session=SessionConfig(max_tool_rounds=3),
)
PROSE = "Module {0} was released to region r{0} at {0} o'clock because cluster c{0} had no memory left. "

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")


class Fickle(ScriptedLLM):
    """Checks every request it gets; answers with what `mood` says."""

    def __init__(self) -> None:
        super().__init__(self._answer, repeat_last=True)
        self.mood = "good"

    def _answer(self, request: LLMRequest) -> Any:
        if request.purpose == "turn":
            check_chat(request.messages)
            assert chat_tokens(request.messages) <= 4_000 - 500
        if self.mood == "down":
            return LLMConnectionError("no route")
        if request.purpose == "summary":
            return {"good": f"Modules were released, part {len(self.requests)}.", "empty": ""}.get(
                self.mood, "the " * 900
            )
        if self.mood == "calls":
            calls = tuple(ToolPart(tool_name="look", tool_call_id=i, input={"at": i}) for i in ("a", "b", ""))
            return LLMReply(text="", tool_calls=calls, finish_reason="tool_calls")
        return f"answer {len(self.requests)}: " + PROSE.format(len(self.requests))


class SessionLife(RuleBasedStateMachine):
    """Any order of turns, sweeps and failures on one session."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.llm = Fickle()
        self.said: list[str] = []
        self.stored: list[Message] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def make_engine(self) -> Engine:
        return Engine(":memory:", llm=self.llm)

    @initialize()
    def begin(self) -> None:
        self.engine = self.make_engine()
        self.session: MnesisSession = self.run(
            MnesisSession.create(model="openai/gpt-4o", engine=self.engine, config=CONFIG)
        )

    @rule(mood=st.sampled_from(["good", "good", "down", "empty", "long", "calls"]))
    def change_mood(self, mood: str) -> None:
        self.llm.mood = mood

    @rule(number=st.integers(0, 999), times=st.sampled_from([1, 1, 3, 10, 150]))
    def send(self, number: int, times: int) -> None:
        text = f"q{len(self.said)}: " + PROSE.format(number) * times
        self.said.append(text)
        try:
            self.run(self.session.send(text))
        except LLMConnectionError:
            assert self.llm.mood == "down"

    @rule(number=st.integers(0, 999), times=st.integers(1, 12), turns=st.integers(1, 6))
    def record(self, number: int, times: int, turns: int) -> None:
        for turn in range(turns):
            text = f"r{len(self.said)}: " + PROSE.format(number + turn) * times
            self.said.append(text)
            call = ToolPart(tool_name="look", tool_call_id="x", input={"n": number}, output=PROSE.format(turn) * times)
            self.run(self.session.record(text, [TextPart(text="looking"), call, TextPart(text="seen")]))

    @rule(messages=histories(max_size=5))
    def append(self, messages: list[Message]) -> None:
        fresh = [m.model_copy(update={"id": f"x{len(self.stored)}_{i}", "seq": 0}) for i, m in enumerate(messages)]
        self.said += [m.text_content() for m in fresh if m.role == "user"]
        self.run(self.session.append(fresh))

    @rule()
    def answer_calls(self) -> None:
        results = [ToolResultPart(tool_call_id=i, output="here " * 40) for i in ("b", "a", "zz")]
        try:
            self.run(self.session.send(results))
        except LLMConnectionError:
            assert self.llm.mood == "down"

    @rule()
    def refer_to_a_file(self) -> None:
        part = FileRefPart(content_id="file-1", path="a.csv", exploration_summary="two columns")
        self.run(self.session.append([Message(id=f"f{len(self.stored)}", role="user", parts=(part,))]))
        self.said.append("")

    @rule()
    def compact(self) -> None:
        before = self.session.context_tokens
        result = self.run(self.session.compact())
        assert result.tokens_after <= max(before, result.tokens_before)
        again = self.run(self.session.compact())
        assert again.level_used == 0, "the second time there is nothing left to do"

    @rule()
    def reopen(self) -> None:
        self.run(self.session.close())
        self.session = self.run(MnesisSession.load(self.session.id, CONFIG, engine=self.engine))

    @invariant()
    def everything_holds(self) -> None:
        if hasattr(self, "session"):
            self.run(self._everything_holds())

    async def _everything_holds(self) -> None:
        await self.engine.wait_for_tasks()
        log = await self.session.messages()
        assert log[: len(self.stored)] == self.stored, "what was stored never changes"
        self.stored = log
        assert [m.text_content() for m in log if m.role == "user"] == self.said
        await self._originals_are_reachable(log)
        assert await self.engine.store.check() == []
        state = await self.engine.store.session(self.session.id)
        assert state.context_tokens >= state.stored_tokens
        await self._window_holds(log)

    async def _originals_are_reachable(self, log: list[Message]) -> None:
        context = await self.engine.store.active_context(self.session.id)
        seen: list[Message] = []
        for item in context.items:
            seen += await self._behind(item) if isinstance(item, Summary) else [item]
        assert seen == log
        files = {p.content_id for m in log for p in m.parts if isinstance(p, FileRefPart)}
        for item in context.items:
            if isinstance(item, Summary):
                behind = {p.content_id for m in await self._behind(item) for p in m.parts if isinstance(p, FileRefPart)}
                assert set(item.file_ids) == behind <= files

    async def _behind(self, summary: Summary) -> list[Message]:
        found: list[Message] = []
        cursor: str | None = None
        while True:
            page = await self.session.expand(summary.id, cursor=cursor, limit=7)
            found += page.messages
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _window_holds(self, log: list[Message]) -> None:
        window = await self.session.window()
        assert window.tokens <= window.budget_tokens <= self.session.budget.usable_tokens
        check_chat(await self.session.context_for_next_turn())
        check_anthropic(await self.session.context_for_next_turn(provider="anthropic"))
        newest = [m for m in log if m.role == "user"][-1:]
        assert {m.id for m in newest} <= {m.id for m in window.messages}

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.run(self.session.close())
            self.run(self.engine.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


SessionLife.TestCase.settings = settings(
    max_examples=sampled(25),
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestSessionLife = SessionLife.TestCase


class SessionLifeOnDisk(SessionLife):
    """The same on a file that is closed and opened again."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()

    def make_engine(self) -> Engine:
        return Engine(f"{self.directory.name}/a.db", llm=self.llm)

    @rule()
    def reopen(self) -> None:
        self.run(self.session.close())
        self.run(self.engine.close())
        self.engine = self.make_engine()
        self.session = self.run(MnesisSession.load(self.session.id, CONFIG, engine=self.engine))

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


SessionLifeOnDisk.TestCase.settings = settings(SessionLife.TestCase.settings, max_examples=sampled(6))
TestSessionLifeOnDisk = SessionLifeOnDisk.TestCase


async def test_the_newest_user_message_is_never_folded_by_any_sweep() -> None:
    llm = Fickle()
    async with (
        Engine(":memory:", llm=llm) as engine,
        MnesisSession.open(model="openai/gpt-4o", engine=engine, config=CONFIG) as session,
    ):
        await session.append([text_message("user", "the question is 42").model_copy(update={"id": "q"})])
        for i in range(60):
            call = ToolPart(tool_name="look", tool_call_id="c", input={"i": i}, output=PROSE.format(i) * 5)
            await session.append([Message(id=f"a{i}", role="assistant", parts=(call,))])
            assert "the question is 42" in str(await session.context_for_next_turn())
        assert await session.summaries()
