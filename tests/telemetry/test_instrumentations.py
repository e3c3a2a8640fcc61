"""Spans nest under those of OpenInference's instrumentations of LangChain and LlamaIndex, in tasks, threads and background work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import MnesisSession
from mnesis.sync import SyncSession
from mnesis.testing import ScriptedLLM
from tests.support.telemetry import Recorded, attributes, parent_of

SMALL = {
    "model_overrides": {"context_limit": 4_000, "max_output_tokens": 500},
    "compaction": {"compaction_output_budget": 1_000, "soft_threshold_fraction": 0.2},
}


@pytest.fixture
def langchain_spans(recorded: Recorded) -> Iterator[Recorded]:
    pytest.importorskip("langchain_core")
    package = pytest.importorskip("openinference.instrumentation.langchain", reason="run uv sync")
    instrumentor = package.LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=recorded.provider)
    yield recorded
    instrumentor.uninstrument()


@pytest.fixture
def llama_index_spans(recorded: Recorded) -> Iterator[Recorded]:
    pytest.importorskip("llama_index.core")
    package = pytest.importorskip("openinference.instrumentation.llama_index", reason="run uv sync")
    instrumentor = package.LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=recorded.provider)
    yield recorded
    instrumentor.uninstrument()


async def test_turns_nest_under_the_runnable_that_makes_them(langchain_spans: Recorded, tmp_path: Path) -> None:
    from langchain_core.runnables import RunnableLambda

    llm = ScriptedLLM(["word " * 120], repeat_last=True)
    async with MnesisSession.create(model="openai/x", config=SMALL, db_path=tmp_path / "a.db", llm=llm) as session:

        async def step(text: str) -> str:
            for _ in range(8):
                await session.send(text)
            await session.search("word")
            return text

        await RunnableLambda(step).with_config(run_name="step").ainvoke("tell me " * 60)
    outer = langchain_spans.one("step").context.span_id
    turns = {span.context.span_id for span in langchain_spans.spans("invoke_agent")}
    assert {parent_of(span) for span in langchain_spans.spans("invoke_agent")} == {outer}
    assert parent_of(langchain_spans.one("retrieval")) == outer
    compactions = langchain_spans.spans("compaction")
    assert {parent_of(span) for span in compactions} <= turns
    assert compactions
    calls = [span for span in langchain_spans.spans("chat") if attributes(span)["mnesis.purpose"] == "turn"]
    assert {parent_of(span) for span in calls} == turns


def test_threads_of_synchronous_runnables_nest_too(langchain_spans: Recorded, tmp_path: Path) -> None:
    from langchain_core.runnables import RunnableLambda, RunnableParallel

    from langchain_mnesis import MnesisChatMessageHistory

    with SyncSession.open(model="openai/x", db_path=tmp_path / "a.db", llm=ScriptedLLM("hi")) as session:
        history = MnesisChatMessageHistory("other", db_path=tmp_path / "b.db")

        def send(text: str) -> str:
            return session.send(text).text

        def look(text: str) -> int:
            history.add_user_message(text)
            return len(history.messages)

        both = RunnableParallel(send=RunnableLambda(send), look=RunnableLambda(look))
        assert both.invoke("hello") == {"send": "hi", "look": 1}
    assert parent_of(langchain_spans.one("invoke_agent")) == langchain_spans.one("send").context.span_id


async def test_a_span_of_the_application_inside_a_runnable_is_nearer(langchain_spans: Recorded, tmp_path: Path) -> None:
    from langchain_core.runnables import RunnableLambda

    tracer = langchain_spans.provider.get_tracer("application")
    async with MnesisSession.create(model="openai/x", db_path=tmp_path / "a.db", llm=ScriptedLLM("hi")) as session:

        async def step(text: str) -> str:
            with tracer.start_as_current_span("inner"):
                return (await session.send(text)).text

        with tracer.start_as_current_span("outer"):
            await RunnableLambda(step).with_config(run_name="step").ainvoke("hello")
    assert parent_of(langchain_spans.one("invoke_agent")) == langchain_spans.one("inner").context.span_id


async def test_turns_nest_under_the_step_of_a_workflow(llama_index_spans: Recorded, tmp_path: Path) -> None:
    from llama_index.core.workflow import StartEvent, StopEvent, Workflow
    from llama_index.core.workflow import step as workflow_step

    async with MnesisSession.create(model="openai/x", db_path=tmp_path / "a.db", llm=ScriptedLLM("hi")) as session:

        class Flow(Workflow):
            @workflow_step
            async def ask(self, event: StartEvent) -> StopEvent:
                return StopEvent(result=(await session.send("hello")).text)

        result: Any = await Flow().run()
        assert result == "hi"
    (turn,) = llama_index_spans.spans("invoke_agent")
    parents = {span.context.span_id: span.name for span in llama_index_spans.spans()}
    assert parents[parent_of(turn) or 0].endswith("Flow.ask")
