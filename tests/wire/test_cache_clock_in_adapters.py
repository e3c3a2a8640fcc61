"""Compaction by the clock in LangChain and LlamaIndex, whose own clients make the requests."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisEvent, MnesisSession
from mnesis.concurrency import run as run_sync
from mnesis.models.context import Cover
from mnesis.testing.store_samples import make_message
from tests.support.llamaindex_fakes import SummaryLLM

MODEL = "anthropic/claude-sonnet-4-5"
LIFETIME_SECONDS = 3_600
"""How long marks of an unknown client may ask for."""

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")


class Clock:
    """A clock that a test sets."""

    seconds = 1_750_000_000.0

    def __call__(self) -> float:
        return self.seconds


def new_engine(db: Path, clock: Clock) -> tuple[Engine, list[str]]:
    """Return an engine, and a list that receives the triggers of all compactions."""
    engine = Engine(db, config={"model_overrides": {"context_limit": 20_000, "max_output_tokens": 2_000}}, clock=clock)
    triggers: list[str] = []
    engine.events.subscribe(MnesisEvent.COMPACTION_TRIGGERED, lambda event, payload: triggers.append(payload.trigger))
    return engine, triggers


async def test_a_langchain_history_is_compacted_by_the_clock(tmp_path: Path) -> None:
    langchain = pytest.importorskip("langchain_mnesis")
    messages = pytest.importorskip("langchain_core.messages")
    clock = Clock()
    engine, triggers = new_engine(tmp_path / "a.db", clock)
    async with engine:
        history = langchain.MnesisChatMessageHistory("s", engine=engine, model=MODEL)
        for turn in range(6):
            question, answer = messages.HumanMessage(f"question {turn} " * 300), messages.AIMessage("OK.")
            await history.aadd_messages([question, answer])
        clock.seconds += LIFETIME_SECONDS - 1
        await history.aget_messages()
        assert triggers == []
        clock.seconds += 2
        fresh = langchain.MnesisChatMessageHistory("s", engine=engine, model=MODEL)
        shown = await fresh.aget_messages()
        assert triggers == ["expiry"]
        assert len(shown) < 12


class ClaudeOfLangChain:
    """Builds a scripted chat model of LangChain that says it is a Claude."""

    def __new__(cls) -> Any:
        fakes = importlib.import_module("tests.support.langchain_fakes")

        class Named(fakes.FakeModel):  # type: ignore[name-defined, misc]  # the import is optional
            model_name: str = MODEL

        return Named()


def ask(agent: Any, text: str, *earlier: Any) -> Any:
    return agent.invoke({"messages": [*earlier, ("user", text)]}, {"configurable": {"thread_id": "t"}})


def new_agent(engine: Engine) -> Any:
    agents = pytest.importorskip("langchain.agents")
    checkpoints = pytest.importorskip("langgraph.checkpoint.memory")
    langchain = pytest.importorskip("langchain_mnesis")
    middleware = [langchain.MnesisMiddleware(engine=engine, recall_tools=False)]
    return agents.create_agent(ClaudeOfLangChain(), [], middleware=middleware, checkpointer=checkpoints.InMemorySaver())


def test_an_agent_with_the_middleware_is_compacted_by_the_clock(tmp_path: Path) -> None:
    clock = Clock()
    engine, triggers = new_engine(tmp_path / "a.db", clock)
    agent = new_agent(engine)
    for turn in range(6):
        ask(agent, f"question {turn} " * 300)
    clock.seconds += LIFETIME_SECONDS - 1
    ask(agent, "Still there?")
    assert triggers == []
    clock.seconds += LIFETIME_SECONDS - 1
    ask(agent, "And now?")
    assert triggers == [], "the reply before used the cache"
    clock.seconds += LIFETIME_SECONDS + 1
    answered = ask(agent, "After a pause.")
    assert triggers == ["expiry"]
    assert len(answered["messages"]) == 18, "the state keeps its messages"
    run_sync(engine.close())


@pytest.mark.parametrize("verb", ["revise", "replace_covers"])
async def test_verbs_that_change_the_view_note_the_time_of_a_reply(verb: str, tmp_path: Path) -> None:
    clock = Clock()
    engine, triggers = new_engine(tmp_path / "a.db", clock)
    async with engine, MnesisSession.open(model=MODEL, session_id="s", engine=engine) as session:
        for turn in range(6):
            await session.append(
                [make_message("user", f"question {turn}", tokens=900), make_message("assistant", "OK.")]
            )
        clock.seconds += LIFETIME_SECONDS - 1
        last_seq = (await engine.store.session("s")).last_seq
        reply = [make_message("user", "Again."), make_message("assistant", "Yes.")]
        if verb == "revise":
            await session.revise(hide=[(last_seq, last_seq)], messages=reply, last_seq=last_seq)
        else:
            covers = [Cover(last_seq, last_seq, None)]
            await session.replace_covers(covers, reply, read_covers=[], last_seq=last_seq)
        clock.seconds += LIFETIME_SECONDS - 1
        await session.window()
        assert triggers == []
        clock.seconds += 2
        await session.window()
        assert triggers == ["expiry"]


class Claude(SummaryLLM):
    """A model that says which one it is."""

    @property
    def metadata(self) -> Any:
        return super().metadata.model_copy(update={"model_name": "claude-sonnet-4-5"})


@pytest.mark.parametrize(("llm", "is_compacted"), [(Claude(), True), (SummaryLLM(), False)], ids=["Claude", "unknown"])
async def test_a_llamaindex_memory_is_compacted_by_the_clock(llm: Any, is_compacted: bool, tmp_path: Path) -> None:
    mnesis = pytest.importorskip("llama_index.memory.mnesis")
    types = pytest.importorskip("llama_index.core.llms")
    clock = Clock()
    engine, triggers = new_engine(tmp_path / "a.db", clock)
    async with engine:
        memory = mnesis.MnesisMemory.from_defaults(session_id="s", engine=engine, llm=llm, token_limit=12_500)
        for turn in range(6):
            await memory.aput(types.ChatMessage(role="user", content=f"question {turn} " * 300))
            await memory.aput(types.ChatMessage(role="assistant", content="OK."))
        clock.seconds += LIFETIME_SECONDS - 1
        assert len(await memory.aget()) == 12
        clock.seconds += 2
        shown = await memory.aget()
        assert (triggers == ["expiry"], len(shown) < 12) == (is_compacted, is_compacted)
