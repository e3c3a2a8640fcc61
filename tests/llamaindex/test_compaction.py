"""Who writes the summaries, where, and what happens when nobody can."""

from __future__ import annotations

import asyncio
import threading

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import Settings
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.memory.mnesis import MnesisCompacted, MnesisMemory, MnesisSessionEvent
from llama_index.memory.mnesis.events import DISPATCHER_NAME

from mnesis import Engine, MnesisEvent, concurrency
from mnesis.models.results import CompactionResult
from mnesis.testing import ScriptedLLM
from tests.support.llamaindex_fakes import MakeMemory, SummaryLLM, turns
from tests.support.summaries import acceptable_summary


async def compactions(memory: MnesisMemory) -> list[CompactionResult]:
    return await (await memory.asession()).compactions()


def levels(memory: MnesisMemory) -> set[int]:
    """How the summaries were made, once everything but the newest turns is folded."""
    memory.compact()
    return {result.level_used for result in concurrency.run(compactions(memory))}


def test_summaries_for_sync_callers_run_off_the_serving_loop(make_memory: MakeMemory) -> None:
    llm = SummaryLLM()
    memory = make_memory(llm=llm, token_limit=3_000)
    memory.put_messages(turns(40))
    assert levels(memory) == {1}
    assert llm.answer in str(memory.get()[0].content)
    assert "mnesis-sync" not in llm.threads
    for asked in llm.asked:
        assert [message.role.value for message in asked] == ["system", "user"]


async def test_an_async_caller_has_its_summaries_written_on_its_own_loop(make_memory: MakeMemory) -> None:
    llm = SummaryLLM()
    memory = make_memory(llm=llm, token_limit=3_000)
    await memory.aput_messages(turns(40))
    await memory.acompact()
    assert threading.current_thread().name in llm.threads
    assert "mnesis-sync" not in llm.threads
    assert await memory.aget_all() == turns(40)
    await memory.aclose()


def test_without_a_model_summaries_are_extracts(make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    class Untouchable:
        @property
        def llm(self) -> None:
            raise AssertionError("Settings.llm was asked for")

    monkeypatch.setattr(type(Settings), "llm", Untouchable.llm)
    memory = make_memory(token_limit=2_000)
    memory.put_messages(turns(40))
    assert levels(memory) == {3}
    assert "[Summary" in str(memory.get()[0].content)


def test_a_failing_model_costs_no_message(make_memory: MakeMemory) -> None:
    memory = make_memory(llm=SummaryLLM(fails=True), token_limit=2_000)
    said = turns(60)
    for message in said:
        memory.put(message)
    view = memory.get()
    assert view[-1] == said[-1]
    assert levels(memory) == {3}
    assert memory.get_all() == said


def test_the_model_of_an_engine_is_used_where_the_memory_has_none(make_memory: MakeMemory) -> None:
    llm = ScriptedLLM(acceptable_summary)
    memory = make_memory(engine=Engine(":memory:", llm=llm), token_limit=2_000)
    memory.put_messages(turns(40))
    assert levels(memory) == {1}
    assert llm.requests


def test_the_initial_tokens_of_a_request_are_made_room_for_by_folding(make_memory: MakeMemory) -> None:
    memory = make_memory(llm=SummaryLLM(), token_limit=4_000)
    memory.put_messages(turns(40))
    view = memory.get(initial_token_count=3_000)
    assert "[Summary" in str(view[0].content)
    assert view[-1] == turns(40)[-1]


def test_compactions_reach_the_bus_and_the_instrumentation(make_memory: MakeMemory) -> None:
    seen: list[MnesisSessionEvent] = []

    class Keep(BaseEventHandler):
        def handle(self, event: object, **kwargs: object) -> None:
            if isinstance(event, MnesisSessionEvent):
                seen.append(event)

    dispatcher = get_dispatcher(DISPATCHER_NAME)
    before = list(dispatcher.event_handlers)
    dispatcher.event_handlers = [*before, Keep()]
    told: list[str] = []
    try:
        memory = make_memory(token_limit=2_000)
        memory.events.subscribe(
            MnesisEvent.COMPACTION_COMPLETED, lambda event, payload: told.append(payload.session_id)
        )
        memory.put_messages(turns(20))
        memory.compact()
    finally:
        dispatcher.event_handlers = before
    folded = [event for event in seen if isinstance(event, MnesisCompacted)]
    done = concurrency.run(compactions(memory))
    assert told == [memory.session_id] * len(done)
    assert [(e.session_id, e.tokens_before, e.tokens_after, e.level_used) for e in folded] == [
        (memory.session_id, each.tokens_before, each.tokens_after, 3) for each in done
    ]
    names = [event.event for event in seen]
    assert names.count("message.created") == 40
    assert "compaction.triggered" in names


def test_a_background_fold_continues_after_its_loop_ends(make_memory: MakeMemory) -> None:
    memory = make_memory(token_limit=2_000)
    said = turns(40)
    for start in range(0, len(said), 2):
        asyncio.run(memory.aput_messages(said[start : start + 2]))
    assert memory.get_all() == said
    concurrency.run(memory.acompact())
    assert memory.get_all() == said
