"""Spans and metrics, read from OpenTelemetry's in-memory exporters."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import db_attributes, error_attributes
from opentelemetry.semconv.metrics import db_metrics
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import BaseModel

from mnesis import Engine, LLMMap, MnesisSession
from mnesis.errors import LLMBadRequestError
from mnesis.llm.base import LLMReply
from mnesis.models.message import ToolPart
from mnesis.models.usage import TokenUsage
from mnesis.sync import SyncSession
from mnesis.telemetry import instrument, uninstrument
from mnesis.telemetry.otel import ATTRIBUTES, CONTENT_ATTRIBUTES, PROVIDERS
from mnesis.testing import ScriptedLLM
from tests.support.telemetry import Recorded, attributes, parent_of

MODEL = "anthropic/claude-opus-4-6"
WRITTEN = "the wombat sleeps at noon"
KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
USAGE = TokenUsage(input=100, output=20, cache_read=300, cache_write=50, reasoning=5)


class Number(BaseModel):
    n: int


def tool_reply() -> LLMReply:
    call = ToolPart(tool_name="look", tool_call_id="call_1", input={"where": WRITTEN})
    return LLMReply(tool_calls=(call,), usage=USAGE, finish_reason="tool_calls")


def look(where: str) -> str:
    """Look."""
    trace.get_tracer("tool").start_span("inside the tool").end()
    return f"{where} {KEY}"


async def test_a_turn_has_spans_of_its_calls_and_tools(recorded: Recorded, tmp_path: Path) -> None:
    llm = ScriptedLLM([tool_reply(), LLMReply(text="done", usage=USAGE, cost=0.5, model="claude-x")])
    async with MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", session_id="ada", llm=llm) as session:
        await session.send(WRITTEN, tools=[look])
    turn, tool = recorded.one("invoke_agent default"), recorded.one("execute_tool look")
    first, second = recorded.spans("chat claude-opus-4-6")
    assert {parent_of(span) for span in (first, second, tool)} == {turn.context.span_id}
    assert (turn.kind, first.kind, tool.kind) == (SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.INTERNAL)
    assert attributes(second) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-opus-4-6",
        "gen_ai.request.max_tokens": attributes(second)["gen_ai.request.max_tokens"],
        "gen_ai.response.model": "claude-x",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 450,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 300,
        "gen_ai.usage.cache_creation.input_tokens": 50,
        "gen_ai.usage.reasoning.output_tokens": 5,
        "gen_ai.conversation.id": "ada",
        "mnesis.cost": 0.5,
        "mnesis.purpose": "turn",
    }
    assert {attributes(span)["gen_ai.conversation.id"] for span in (turn, tool)} == {"ada"}
    assert attributes(turn)["gen_ai.usage.output_tokens"] == 40
    assert attributes(tool)["gen_ai.tool.call.id"] == "call_1"


async def test_content_is_recorded_on_request_only_and_without_keys(recorded: Recorded, tmp_path: Path) -> None:
    for content in (False, True):
        instrument(content=content, tracer_provider=recorded.provider)
        llm = ScriptedLLM([tool_reply(), f"it is so: {WRITTEN}"])
        async with MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", llm=llm) as session:
            await session.send(f"{WRITTEN} {KEY}", tools=[look])
            await session.search(WRITTEN)
        exported = json.dumps([attributes(span) for span in recorded.spans()], default=str)
        assert KEY not in exported
        assert ("wombat" in exported) is content
    chat = attributes(recorded.spans("chat")[-1])
    messages = json.loads(chat["gen_ai.input.messages"])
    assert messages[0]["role"] == "system"
    assert {"type": "tool_call_response", "id": "call_1"}.items() <= messages[-1]["parts"][0].items()
    assert json.loads(chat["gen_ai.output.messages"])[0]["parts"][0]["content"] == f"it is so: {WRITTEN}"
    assert attributes(recorded.spans("retrieval")[-1])["gen_ai.retrieval.query.text"] == WRITTEN


async def test_background_compactions_belong_to_their_turn(recorded: Recorded, tmp_path: Path) -> None:
    config = {
        "model_overrides": {"context_limit": 4_000, "max_output_tokens": 500},
        "compaction": {"compaction_output_budget": 1_000, "soft_threshold_fraction": 0.2},
    }
    llm = ScriptedLLM(["word " * 120], repeat_last=True)
    async with MnesisSession.create(model=MODEL, config=config, db_path=tmp_path / "a.db", llm=llm) as session:
        for _ in range(8):
            await session.send("tell me " * 60)
    turns = {span.context.span_id for span in recorded.spans("invoke_agent")}
    compactions = recorded.spans("compaction")
    assert compactions
    assert {parent_of(span) for span in compactions} <= turns
    summaries = [span for span in recorded.spans("chat") if attributes(span)["mnesis.purpose"] == "summary"]
    assert {parent_of(span) for span in summaries} <= {span.context.span_id for span in compactions}
    assert {attributes(span)["gen_ai.conversation.id"] for span in recorded.spans()} == {session.id}
    assert attributes(compactions[0])["mnesis.compaction.trigger"] == "soft"
    points = recorded.metrics()["mnesis.compaction.duration"]
    assert sum(point.count for point in points) == len(compactions)
    assert all("mnesis.compaction.level" in point.attributes for point in points)


async def test_streams_are_observed_and_end_their_spans(recorded: Recorded, tmp_path: Path) -> None:
    llm = ScriptedLLM(["one two three", "four five"])
    async with MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", llm=llm) as session:
        with recorded.provider.get_tracer("application").start_as_current_span("request") as request:
            async for _ in session.stream("hi"):
                assert trace.get_current_span() is request
            async for _ in session.stream("hi"):
                break
    turns = recorded.spans("invoke_agent")
    assert [parent_of(span) for span in turns] == [request.get_span_context().span_id] * 2
    assert [attributes(span).get("gen_ai.request.stream") for span in recorded.spans("chat")] == [True, True]


async def test_failures_are_recorded_without_their_texts(recorded: Recorded, tmp_path: Path) -> None:
    def fail() -> None:
        """Fail."""
        raise ValueError(WRITTEN)

    call = ToolPart(tool_name="fail", tool_call_id="c", input={})
    llm = ScriptedLLM([LLMReply(tool_calls=(call,)), LLMBadRequestError(WRITTEN)])
    async with MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", llm=llm) as session:
        with pytest.raises(LLMBadRequestError):
            await session.send("hi", tools=[fail])
    for name in ("invoke_agent", "execute_tool"):
        assert recorded.one(name).status.status_code is StatusCode.ERROR
    failed = recorded.spans("chat")[-1]
    assert attributes(failed)["error.type"] == "LLMBadRequestError"
    assert "wombat" not in "".join(span.to_json() for span in recorded.spans())


def test_synchronous_calls_nest_under_the_span_of_their_thread(recorded: Recorded, tmp_path: Path) -> None:
    with (
        SyncSession.open(model=MODEL, db_path=tmp_path / "a.db", llm=ScriptedLLM("hi")) as session,
        recorded.provider.get_tracer("application").start_as_current_span("request") as request,
    ):
        session.send("hello")
    assert parent_of(recorded.one("invoke_agent")) == request.get_span_context().span_id


def test_langchain_and_llama_index_calls_nest_under_the_current_span(recorded: Recorded, tmp_path: Path) -> None:
    langchain = pytest.importorskip("langchain_mnesis")
    llama = pytest.importorskip("llama_index.memory.mnesis")
    from llama_index.core.llms import ChatMessage

    with recorded.provider.get_tracer("application").start_as_current_span("request") as request:
        history = langchain.MnesisChatMessageHistory("ada", db_path=tmp_path / "a.db")
        history.add_user_message("where is the key")
        asyncio.run(_compact(tmp_path / "a.db", "ada"))
        memory = llama.MnesisMemory.from_defaults(session_id="bob", db_path=tmp_path / "a.db")
        memory.put(ChatMessage(role="user", content="hello"))
        memory.get()
    assert {parent_of(span) for span in recorded.spans()} <= {request.get_span_context().span_id, None}
    assert recorded.spans("compaction")
    assert "db.client.operation.duration" in recorded.metrics()


async def _compact(path: Path, session_id: str) -> None:
    async with MnesisSession.load(session_id, db_path=path) as session:
        for _ in range(4):
            await session.record("a", "b")
        await session.compact()


async def test_map_items_are_spans_with_their_calls(recorded: Recorded, tmp_path: Path) -> None:
    llm = ScriptedLLM(['{"n": 1}', "nonsense", '{"n": 2}'])
    async with Engine(tmp_path / "a.db") as engine:
        batch = await LLMMap(engine=engine, llm=llm, model=MODEL).run_all(
            ["a", "b"], "{{ item }}", Number, concurrency=1
        )
    items = recorded.spans("map_item")
    assert [attributes(span)["mnesis.map.attempts"] for span in items] == [1, 2]
    assert {attributes(span)["mnesis.map.run_id"] for span in items} == {batch.run_id}
    assert {parent_of(span) for span in recorded.spans("chat")} == {span.context.span_id for span in items}


async def test_metrics_cover_tokens_context_cache_and_store(recorded: Recorded, tmp_path: Path) -> None:
    llm = ScriptedLLM([LLMReply(text="done", usage=USAGE)])
    async with MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", llm=llm) as session:
        await session.send("hi")
        size = session.context_tokens
    metrics = recorded.metrics()
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in metrics["gen_ai.client.token.usage"]}
    assert tokens == {"input": 450, "output": 20}
    assert metrics["mnesis.cache.tokens"][0].sum == 300
    assert metrics["mnesis.cache.hit_share"][0].sum == pytest.approx(300 / 450)
    assert metrics["mnesis.context.tokens"][0].sum == size
    assert metrics["gen_ai.client.operation.duration"][0].count == 1
    operations = {point.attributes["db.operation.name"] for point in metrics["db.client.operation.duration"]}
    assert "append" in operations
    assert {point.attributes["db.system.name"] for point in metrics["db.client.operation.duration"]} == {"sqlite"}


def test_names_are_those_of_the_semantic_conventions() -> None:
    modules = (gen_ai_attributes, gen_ai_metrics, db_attributes, db_metrics, error_attributes)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    names = {*ATTRIBUTES.values(), *CONTENT_ATTRIBUTES.values()}
    names |= {"gen_ai.client.operation.duration", "gen_ai.client.token.usage", "db.client.operation.duration"}
    names |= {"db.system.name", "db.operation.name", "error.type", "gen_ai.token.type", "gen_ai.operation.name"}
    names |= {f"gen_ai.usage.{each}" for each in ("input_tokens", "output_tokens", "reasoning.output_tokens")}
    names |= {"gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"}
    assert {name for name in names if not name.startswith("mnesis.")} <= known
    providers = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert set(PROVIDERS.values()) <= providers


async def test_nothing_is_recorded_after_uninstrument(recorded: Recorded, tmp_path: Path) -> None:
    uninstrument()
    async with MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", llm=ScriptedLLM("hi")) as session:
        await session.send("hello")
    assert recorded.spans() == []
