"""Every event, told once, after the commit, to whoever listens; handlers never reach the turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisConfig, MnesisEvent, MnesisSession, RetryConfig, SessionConfig, TokenUsage, ToolPart
from mnesis.errors import LLMServerError
from mnesis.events import payloads
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, calls, roles, small, talk
from tests.support.summaries import acceptable_summary

MAPS = {MnesisEvent.MAP_STARTED, MnesisEvent.MAP_ITEM_COMPLETED, MnesisEvent.MAP_COMPLETED}


def payload_class(event: MnesisEvent) -> type:
    return getattr(payloads, "".join(word.title() for word in event.name.split("_")) + "Payload")  # type: ignore[no-any-return]  # a class


@pytest.fixture
async def everything(db: Path) -> list[tuple[MnesisEvent, Any]]:
    """What is told during the life of a session in which everything happens."""

    def answer(request: Any) -> Any:
        if request.purpose == "summary":
            return acceptable_summary(request)
        if len(model.requests) == 1:
            return LLMServerError("busy")
        # The first request leaves 1,900 tokens in the cache, and the second reads none of them.
        cached = 1_900 if len(model.requests) == 2 else 0
        return replace(calls(("look", {})), usage=TokenUsage(input=2_000 - cached, cache_write=cached))

    model = ScriptedLLM(answer)
    config = small(
        session=SessionConfig(retry=RetryConfig(max_retries=1, base_delay=0.0), doom_loop_threshold=2),
        prune_protect_tokens=100,
        prune_minimum_tokens=50,
    )
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    async with Engine(db, llm=model) as engine:
        seen = EventRecorder(engine.events)
        session = await MnesisSession.create(model=MODEL, engine=engine, config=config)
        await session.send("first", tools=[tool])
        await session.send("again", tools=[tool])
        long = ToolPart(tool_name="read", tool_call_id="c", output="line of output\n" * 400)
        await session.record("read it", [long, "done"])
        await talk(session, 3)
        await session.record("and", "on", tokens=TokenUsage(input=session.budget.soft_tokens, output=5))
        await seen.wait_for(MnesisEvent.PRUNE_COMPLETED)
        await talk(session, 3)
        await session.compact()

        async def fails(*_: Any) -> Any:
            raise OSError("disk")

        compact = engine.store.compact
        engine.store.compact = fails  # type: ignore[method-assign]  # a store that fails once
        await talk(session, 4)
        with pytest.raises(OSError, match="disk"):
            await session.compact()
        engine.store.compact = compact  # type: ignore[method-assign]  # as before
        await session.close()
        await engine.purge(session.id)
        return seen.events


async def test_every_event_is_published_with_its_typed_payload(everything: list[tuple[MnesisEvent, Any]]) -> None:
    # The breaker of a summariser has its own tests.
    assert {kind for kind, _ in everything} == set(MnesisEvent) - MAPS - {MnesisEvent.SUMMARIZER_BREAKER_CHANGED}
    for kind, payload in everything:
        assert isinstance(payload, payload_class(kind))


async def test_a_payload_reads_as_attributes_and_as_a_mapping(everything: list[tuple[MnesisEvent, Any]]) -> None:
    for _, payload in everything:
        assert isinstance(payload, Mapping)
        assert dict(payload) == {name: getattr(payload, name) for name in payload}
        assert len(payload) == len(list(payload))
        assert payload["session_id"] == payload.session_id
        assert payload.get("no such field") is None
        with pytest.raises(KeyError):
            payload["no such field"]
        with pytest.raises((AttributeError, TypeError)):
            payload.session_id = "other"


async def test_payloads_never_hold_what_was_said(everything: list[tuple[MnesisEvent, Any]]) -> None:
    assert "line of output" not in str(everything)
    assert "drawer" not in str(everything)


async def test_events_come_in_the_order_of_what_happened(everything: list[tuple[MnesisEvent, Any]]) -> None:
    kinds = [kind for kind, _ in everything]
    assert kinds[0] == MnesisEvent.SESSION_CREATED
    assert kinds[-2:] == [MnesisEvent.SESSION_CLOSED, MnesisEvent.SESSION_DELETED]
    assert kinds.count(MnesisEvent.SESSION_CREATED) == kinds.count(MnesisEvent.SESSION_CLOSED) == 1
    created = [payload for kind, payload in everything if kind == MnesisEvent.MESSAGE_CREATED]
    assert [payload.seq for payload in created] == list(range(1, len(created) + 1))
    assert kinds.index(MnesisEvent.COMPACTION_TRIGGERED) < kinds.index(MnesisEvent.COMPACTION_COMPLETED)
    failed = next(payload for kind, payload in everything if kind == MnesisEvent.COMPACTION_FAILED)
    assert (failed.error, failed.error_type) == ("disk", "OSError")


async def test_the_compaction_payload_has_the_fields_of_its_result(everything: list[tuple[MnesisEvent, Any]]) -> None:
    completed = next(payload for kind, payload in everything if kind == MnesisEvent.COMPACTION_COMPLETED)
    for name in ("tokens_before", "tokens_after", "level_used", "summary_message_id", "pruned_tool_outputs"):
        assert completed[name] == getattr(completed.result, name)
    assert completed["tokens_after"] < completed["tokens_before"]


async def test_what_an_event_tells_of_is_already_stored(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine")) as session:
        found: list[str] = []

        async def look(event: MnesisEvent, payload: Any) -> None:
            found.append((await session.message(payload.message_id)).role)

        session.subscribe(MnesisEvent.MESSAGE_CREATED, look)
        await session.send("hello")
        await session.record("a", "b")
        await session.event_bus.drain(10)
    assert found == ["user", "assistant", "user", "assistant"]


async def test_handlers_that_raise_do_not_affect_the_turn(db: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def broken(event: MnesisEvent, payload: Any) -> None:
        raise TypeError("mine")

    async def broken_later(event: MnesisEvent, payload: Any) -> None:
        raise TypeError("mine, later")

    def too_few() -> None:
        raise AssertionError("never called")

    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine")) as session:
        for handler in (broken, broken_later, too_few, lambda e, p: heard.append(str(e))):
            session.subscribe(MnesisEvent.MESSAGE_CREATED, handler)  # type: ignore[arg-type]  # one is wrong on purpose
        with caplog.at_level(logging.ERROR):
            await session.send("hello")
            await session.record("a", "b")
        assert await roles(session) == "uaua"
    assert heard == ["message.created"] * 4
    assert "mine, later" in caplog.text


async def test_async_handlers_are_finished_before_the_session_is_closed(db: Path) -> None:
    done: list[str] = []

    async def slow(event: MnesisEvent, payload: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        done.append(str(event))

    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine")) as session:
        session.subscribe_all(slow)
        await session.send("hello")
    assert done.count("message.created") == 2
    assert done[-1] == "session.closed"


async def test_a_slow_handler_does_not_hold_up_the_turn(db: Path) -> None:
    release = asyncio.Event()

    async def slow(event: MnesisEvent, payload: Any) -> None:
        await release.wait()

    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine")) as session:
        session.subscribe_all(slow)
        assert (await asyncio.wait_for(session.send("hello"), 5)).text == "fine"
        release.set()


async def test_a_handler_that_never_ends_is_cut_off_when_the_session_is_closed(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnesis.session.session.HANDLER_GRACE_SECONDS", 0.05)
    cut = []

    async def never(event: MnesisEvent, payload: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.append(event)
            raise

    session = await MnesisSession.create(model=MODEL, db_path=db)
    session.subscribe(MnesisEvent.MESSAGE_CREATED, never)
    await session.record("a", "b")
    await asyncio.wait_for(session.close(), 5)
    await asyncio.sleep(0)
    assert len(cut) == 2


async def test_a_handler_may_unsubscribe_itself_and_subscribe_others(db: Path) -> None:
    heard: list[str] = []
    async with MnesisSession.open(model=MODEL, db_path=db) as session:

        def once(event: MnesisEvent, payload: Any) -> None:
            heard.append("once")
            session.unsubscribe(MnesisEvent.MESSAGE_CREATED, once)
            session.subscribe(MnesisEvent.MESSAGE_CREATED, lambda e, p: heard.append("late"))

        session.subscribe(MnesisEvent.MESSAGE_CREATED, once)
        stop = session.subscribe(MnesisEvent.MESSAGE_CREATED, lambda e, p: heard.append("steady"))
        await session.record("a", "b")
        assert heard == ["once", "steady", "steady", "late"]
        stop()
        stop()
        session.unsubscribe(MnesisEvent.MESSAGE_CREATED, once)
        heard.clear()
        await session.record("a", "b")
        assert heard == ["late", "late"]


async def test_a_handler_may_use_the_session_it_hears_of(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM("fine")) as session:
        reentered: list[str] = []

        async def once(event: MnesisEvent, payload: Any) -> None:
            if not reentered:
                reentered.append("asked")
                reentered.append((await session.send("from a handler")).text)

        session.subscribe(MnesisEvent.MESSAGE_CREATED, once)
        await session.send("hello")
        await session.event_bus.drain(10)
        assert reentered == ["asked", "fine"]
        assert await roles(session) == "uaua"


async def test_a_session_hears_only_itself_and_the_engine_hears_all(db: Path) -> None:
    async with Engine(db) as engine:
        everybody = EventRecorder(engine.events)
        one = await MnesisSession.create(model=MODEL, engine=engine, session_id="one")
        two = await MnesisSession.create(model=MODEL, engine=engine, session_id="two")
        ones, views = EventRecorder(one.event_bus), []
        one.subscribe_all(lambda e, p: views.append(p.session_id))
        await one.record("a", "b")
        await two.record("a", "b")
        assert {payload.session_id for _, payload in ones.events} == {"one"} == set(views)
        assert {payload.session_id for _, payload in everybody.events} == {"one", "two"}
        await one.close()
        await two.close()


async def test_two_objects_of_one_session_hear_each_other_until_closed(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, session_id="shared") as first:
        second = await MnesisSession.load("shared", db_path=db)
        heard: list[str] = []
        second.subscribe(MnesisEvent.MESSAGE_CREATED, lambda e, p: heard.append(p.message_id))
        stored = await first.record("a", "b")
        assert heard == [stored.user_message_id, stored.assistant_message_id]
        assert second.token_usage == first.token_usage
        assert second.context_tokens == first.context_tokens
        await second.close()
        await first.record("c", "d")
        assert len(heard) == 2


async def test_the_creation_of_a_session_can_be_heard(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, session_id="new") as session:
        heard: list[tuple[str, str]] = []
        finished: list[str] = []

        async def later(event: MnesisEvent, payload: Any) -> None:
            await asyncio.sleep(0)
            finished.append(payload.session_id)

        session.subscribe(MnesisEvent.SESSION_CREATED, lambda e, p: heard.append((p.session_id, p["model"])))
        session.subscribe(MnesisEvent.SESSION_CREATED, later)
        assert heard == [("new", MODEL)]
        again = await MnesisSession.load("new", db_path=db)
        again.subscribe(MnesisEvent.SESSION_CREATED, lambda e, p: heard.append(("again", "")))
        await again.close()
    assert len(heard) == 1
    assert finished == ["new"]


async def test_a_changed_setting_is_told(db: Path) -> None:
    async with Engine(db) as engine:
        await (await MnesisSession.create(model=MODEL, engine=engine, session_id="x")).close()
        seen = EventRecorder(engine.events)
        await (await MnesisSession.create(model="openai/gpt-4o-mini", engine=engine, session_id="x")).close()
        assert MnesisEvent.SESSION_UPDATED in [kind for kind, _ in seen.events]


async def test_only_events_that_exist_and_handlers_that_can_be_called_are_taken(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db) as session:
        with pytest.raises(ValueError, match="no such"):
            session.subscribe("no such", print)  # type: ignore[arg-type]  # the point of the test
        with pytest.raises(TypeError):
            session.subscribe(MnesisEvent.MESSAGE_CREATED, None)  # type: ignore[arg-type]  # the point of the test
        session.subscribe("message.created", lambda e, p: None)  # type: ignore[arg-type]  # the name on the wire


def test_an_event_is_its_name() -> None:
    assert str(MnesisEvent.COMPACTION_COMPLETED) == "compaction.completed" == MnesisEvent.COMPACTION_COMPLETED
    assert {event.value for event in MnesisEvent} == {str(event) for event in MnesisEvent}


async def test_a_retry_is_told_to_the_session_that_waits(db: Path) -> None:
    config = MnesisConfig(session=SessionConfig(retry=RetryConfig(max_retries=3, base_delay=0.001, jitter=False)))
    script = [LLMServerError("a"), LLMServerError("b"), LLMServerError("c"), "fine"]
    async with MnesisSession.open(model=MODEL, db_path=db, config=config, llm=ScriptedLLM(script)) as session:
        seen = EventRecorder(session.event_bus)
        await session.send("hello")
        assert [p.delay_seconds for p in seen.of(MnesisEvent.LLM_RETRY)] == [0.001, 0.002, 0.004]


@pytest.mark.parametrize("event", [MnesisEvent.MESSAGE_CREATED, MnesisEvent.SESSION_CLOSED])
async def test_a_handler_may_close_its_session(event: MnesisEvent, db: Path) -> None:
    session = await MnesisSession.create(model=MODEL, db_path=db)
    closed: list[MnesisEvent] = []

    async def close(event: MnesisEvent, payload: Any) -> None:
        await session.close()
        closed.append(event)

    session.subscribe(event, close)
    await session.record("a", "b")
    await asyncio.wait_for(session.close(), 5)
    assert session.engine.closed
    await asyncio.sleep(0)
    assert closed
