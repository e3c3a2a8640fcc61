"""Events are told to whoever listens; what listeners do never reaches the turn."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from functools import partial
from typing import Any

import pytest

from mnesis.events import payloads
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import CompactionFailedPayload, Payload, SessionClosedPayload
from mnesis.testing import EventRecorder

CLOSED = MnesisEvent.SESSION_CLOSED


def closed(session_id: str = "s") -> SessionClosedPayload:
    return SessionClosedPayload(session_id)


def test_handlers_are_called_in_order_those_of_the_event_first() -> None:
    bus, heard = EventBus(), []
    bus.subscribe_all(lambda event, payload: heard.append("all"))
    bus.subscribe(CLOSED, lambda event, payload: heard.append("first"))
    bus.subscribe(CLOSED, lambda event, payload: heard.append("second"))
    bus.subscribe(MnesisEvent.SESSION_CREATED, lambda event, payload: heard.append("other"))
    bus.publish(CLOSED, closed())
    assert heard == ["first", "second", "all"]


def test_a_handler_that_raises_is_logged_and_the_others_still_run(caplog: pytest.LogCaptureFixture) -> None:
    bus, heard = EventBus(), []

    def broken(event: MnesisEvent, payload: Any) -> None:
        raise TypeError("handler bug")

    bus.subscribe(CLOSED, broken)
    bus.subscribe(CLOSED, lambda event, payload: heard.append(payload.session_id))
    bus.publish(CLOSED, closed())
    assert heard == ["s"]
    assert "handler bug" in caplog.text


async def test_a_coroutine_that_raises_is_logged_and_drained(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(event: MnesisEvent, payload: Any) -> None:
        await asyncio.sleep(0)
        raise TypeError("async handler bug")

    bus = EventBus()
    bus.subscribe(CLOSED, broken)
    bus.publish(CLOSED, closed())
    await bus.drain()
    assert "async handler bug" in caplog.text


async def test_coroutines_run_beside_the_publisher_and_drain_waits_for_them() -> None:
    bus, heard, go = EventBus(), [], asyncio.Event()

    async def slow(event: MnesisEvent, payload: Any) -> None:
        await go.wait()
        heard.append(event)

    bus.subscribe(CLOSED, slow)
    bus.publish(CLOSED, closed())
    assert heard == []
    go.set()
    await bus.drain()
    assert heard == [CLOSED]


async def test_a_handler_that_never_ends_is_cancelled_after_its_time() -> None:
    bus, ended = EventBus(), asyncio.Event()

    async def endless(event: MnesisEvent, payload: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    bus.subscribe(CLOSED, endless)
    bus.publish(CLOSED, closed())
    await asyncio.sleep(0)
    await bus.drain(timeout_seconds=0.01)
    await asyncio.wait_for(ended.wait(), 10)


def test_an_async_handler_without_a_loop_is_left_out_quietly(recwarn: pytest.WarningsRecorder) -> None:
    async def handler(event: MnesisEvent, payload: Any) -> None: ...

    bus = EventBus()
    bus.subscribe(CLOSED, handler)
    bus.publish(CLOSED, closed())
    assert not recwarn.list


@pytest.mark.parametrize("how", ["returned function", "unsubscribe", "clear"])
def test_whoever_unsubscribes_hears_no_more_and_doing_it_twice_is_quiet(how: str) -> None:
    bus, heard = EventBus(), []

    def handler(event: MnesisEvent, payload: Any) -> None:
        heard.append(event)

    end = bus.subscribe(CLOSED, handler)
    for _ in range(2):
        {"returned function": end, "unsubscribe": lambda: bus.unsubscribe(CLOSED, handler), "clear": bus.clear}[how]()
    bus.publish(CLOSED, closed())
    assert heard == []
    assert not bus.has_handlers(CLOSED)


def test_a_handler_may_unsubscribe_or_subscribe_while_it_is_called() -> None:
    bus, heard = EventBus(), []

    def once(event: MnesisEvent, payload: Any) -> None:
        heard.append("once")
        bus.unsubscribe(CLOSED, once)
        bus.subscribe(CLOSED, lambda event, payload: heard.append("later"))

    bus.subscribe(CLOSED, once)
    bus.publish(CLOSED, closed())
    bus.publish(CLOSED, closed())
    assert heard == ["once", "later"]


def test_a_view_hears_its_session_and_the_bus_hears_all() -> None:
    bus = EventBus()
    one, same, other = bus.for_session("1"), bus.for_session("1"), bus.for_session("2")
    heard: list[tuple[str, str]] = []

    def hear(name: str, event: MnesisEvent, payload: Any) -> None:
        heard.append((name, payload.session_id))

    for name, listener in (("bus", bus), ("one", one), ("other", other)):
        listener.subscribe_all(partial(hear, name))
    same.publish(CLOSED, closed("1"))
    other.publish(CLOSED, closed("2"))
    bus.publish(CLOSED, closed("0"))
    assert heard == [("one", "1"), ("bus", "1"), ("other", "2"), ("bus", "2"), ("bus", "0")]
    one.clear()
    assert not one.has_handlers(CLOSED) or bus.has_handlers(CLOSED)
    heard.clear()
    same.publish(CLOSED, closed("1"))
    assert heard == [("bus", "1")]


def test_something_that_cannot_be_called_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"handler\(event, payload\)"):
        EventBus().subscribe(CLOSED, "print")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match=r"no\.such\.event"):
        EventBus().subscribe("no.such.event", print)  # type: ignore[arg-type]  # wrong on purpose


def test_publishing_from_many_threads_loses_nothing() -> None:
    bus, heard = EventBus(), []
    bus.subscribe(CLOSED, lambda event, payload: heard.append(payload.session_id))

    def work(number: int) -> None:
        for i in range(200):
            end = bus.subscribe(CLOSED, lambda event, payload: None)
            bus.publish(CLOSED, closed(f"{number}-{i}"))
            end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == sorted(f"{number}-{i}" for number in range(4) for i in range(200))


PAYLOADS: list[Any] = [
    c for c in vars(payloads).values() if isinstance(c, type) and issubclass(c, Payload) and c is not Payload
]


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_payload_is_an_object_and_a_read_only_mapping(kind: Any) -> None:
    names = [f.name for f in dataclasses.fields(kind)]
    payload = kind(**{name: f"value of {name}" for name in names})
    assert dict(payload) == {name: getattr(payload, name) for name in names}
    assert payload[names[0]] == f"value of {names[0]}"
    assert len(payload) == len(names)
    assert payload.get("no such field") is None
    with pytest.raises(KeyError):
        payload["_secret"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(payload, names[0], "other")


def test_there_is_a_payload_for_every_event() -> None:
    def camel(event: MnesisEvent) -> str:
        return "".join(word.capitalize() for word in event.name.split("_")) + "Payload"

    assert {camel(event) for event in MnesisEvent} == {kind.__name__ for kind in PAYLOADS}
    assert len(set(map(str, MnesisEvent))) == len(MnesisEvent)


def test_payloads_tell_numbers_and_ids_and_never_what_was_said() -> None:
    said = {"text", "content", "message", "parts", "prompt", "output", "summary_text"}
    for kind in PAYLOADS:
        assert not said & {f.name for f in dataclasses.fields(kind)}, kind


async def test_the_recorder_waits_for_what_is_still_to_come() -> None:
    bus = EventBus()
    with EventRecorder(bus) as recorder:
        waiting = asyncio.create_task(recorder.wait_for(CLOSED, count=2))
        await asyncio.sleep(0)
        bus.publish(CLOSED, closed("a"))
        bus.publish(CLOSED, closed("b"))
        assert [p.session_id for p in await waiting] == ["a", "b"]
        with pytest.raises(TimeoutError, match="within"):
            await recorder.wait_for(MnesisEvent.COMPACTION_FAILED, timeout_seconds=0.01)
    bus.publish(MnesisEvent.COMPACTION_FAILED, CompactionFailedPayload("s", "e", "E"))
    assert recorder.of(MnesisEvent.COMPACTION_FAILED) == []
