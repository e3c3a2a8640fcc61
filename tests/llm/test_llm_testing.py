"""The fakes that are shipped for tests keep their word."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mnesis.errors import LLMConnectionError, LLMRateLimitError
from mnesis.events import EventBus, MnesisEvent, SessionClosedPayload
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.models.message import ToolPart
from mnesis.models.usage import TokenUsage
from mnesis.testing import EventRecorder, FailAfter, ScriptedLLM


def asking(text: str = "hi") -> LLMRequest:
    return LLMRequest(model="m", messages=[{"role": "user", "content": text}])


async def test_answers_come_in_the_order_of_the_script() -> None:
    whole = LLMReply(text="b", tool_calls=(ToolPart(tool_name="f", tool_call_id="1"),), model="other")
    llm = ScriptedLLM(["a", whole, lambda request: request.model + "!"])
    assert (await llm.complete(asking())).text == "a"
    second = await llm.complete(asking())
    assert (second.tool_calls, second.model) == (whole.tool_calls, "other")
    assert (await llm.complete(asking())).text == "m!"


async def test_an_async_callable_may_answer_with_any_other_item() -> None:
    async def fails(request: LLMRequest) -> Exception:
        return LLMRateLimitError("slow down")

    with pytest.raises(LLMRateLimitError):
        await ScriptedLLM([fails]).complete(asking())


async def test_a_single_item_answers_everything() -> None:
    for script in ("x", LLMReply(text="x"), lambda request: "x"):
        llm = ScriptedLLM(script)
        assert [(await llm.complete(asking())).text for _ in range(3)] == ["x"] * 3


async def test_a_script_that_runs_out_says_how_many_answers_it_had() -> None:
    llm = ScriptedLLM(["a", "b"])
    await llm.complete(asking())
    await llm.complete(asking())
    with pytest.raises(AssertionError, match=r"request 3 .* only 2 item"):
        await llm.complete(asking())
    with pytest.raises(AssertionError, match="only 0 item"):
        await ScriptedLLM(repeat_last=True).complete(asking())


async def test_the_last_answer_can_be_repeated() -> None:
    llm = ScriptedLLM(["a", "b"], repeat_last=True)
    assert [(await llm.complete(asking())).text for _ in range(4)] == ["a", "b", "b", "b"]


async def test_requests_are_kept_as_they_were() -> None:
    llm, request = ScriptedLLM("x"), asking("before")
    await llm.complete(request)
    request.messages[0]["content"] = "after"
    assert llm.requests[0].messages[0]["content"] == "before"


async def test_a_stream_gives_reasoning_words_and_the_reply() -> None:
    llm = ScriptedLLM([LLMReply(text="one two", reasoning="hm")], usage=None)
    pieces = [piece async for piece in llm.stream(asking())]
    assert pieces == [
        Delta(reasoning="hm"),
        Delta(text="one "),
        Delta(text="two"),
        LLMReply(text="one two", reasoning="hm", model="m"),
    ]


async def test_a_stream_can_break_off() -> None:
    pieces = ScriptedLLM([FailAfter("one two")]).stream(asking())
    assert [await anext(pieces), await anext(pieces)] == [Delta(text="one "), Delta(text="two")]
    with pytest.raises(LLMConnectionError) as caught:
        await anext(pieces)
    assert caught.value.partial_text == "one two"
    error = LLMRateLimitError("x")
    with pytest.raises(LLMRateLimitError):
        await ScriptedLLM([FailAfter("one", error)]).complete(asking())


async def test_usage_is_estimated_fixed_or_not_reported() -> None:
    fixed = TokenUsage(input=7, output=1)
    assert (await ScriptedLLM("abcdefgh").complete(asking("x" * 40))).usage == TokenUsage(input=10, output=2, total=12)
    assert (await ScriptedLLM("x", usage=fixed).complete(asking())).usage == fixed
    assert (await ScriptedLLM("x", usage=None).complete(asking())).usage is None
    assert (await ScriptedLLM(LLMReply(text="x", usage=fixed), usage=None).complete(asking())).usage == fixed


async def test_a_gate_holds_answers_back() -> None:
    gate = asyncio.Event()
    llm = ScriptedLLM("x", gate=gate)
    call = asyncio.create_task(llm.complete(asking()))
    await asyncio.sleep(0)
    assert llm.requests
    assert not call.done()
    gate.set()
    assert (await call).text == "x"


CLOSED, CREATED = MnesisEvent.SESSION_CLOSED, MnesisEvent.SESSION_CREATED


def test_the_recorder_keeps_events_in_order_until_it_is_closed() -> None:
    bus = EventBus()
    with EventRecorder(bus) as recorder:
        for name in "ab":
            bus.for_session(name).publish(CLOSED, SessionClosedPayload(session_id=name))
    bus.publish(CLOSED, SessionClosedPayload(session_id="late"))
    assert [(event, payload.session_id) for event, payload in recorder.events] == [(CLOSED, "a"), (CLOSED, "b")]
    assert [payload.session_id for payload in recorder.of(CLOSED)] == ["a", "b"]
    assert recorder.of(CREATED) == []


async def test_the_recorder_waits_for_events_from_any_thread() -> None:
    asyncio.get_running_loop().set_debug(True)  # which refuses what is not safe from another thread
    bus = EventBus()
    recorder = EventRecorder(bus)

    def publish(*names: str) -> None:
        for name in names:
            bus.publish(CLOSED, SessionClosedPayload(session_id=name))

    publish("first")
    waiting = asyncio.create_task(recorder.wait_for(CLOSED, count=3, timeout_seconds=20))
    await asyncio.sleep(0)
    thread = threading.Thread(target=publish, args=("second", "third"))
    thread.start()
    heard: list[Any] = await waiting
    thread.join()
    assert [payload.session_id for payload in heard] == ["first", "second", "third"]


async def test_the_recorder_says_what_came_instead() -> None:
    bus = EventBus()
    recorder = EventRecorder(bus)
    bus.publish(CLOSED, SessionClosedPayload(session_id="a"))
    with pytest.raises(TimeoutError, match=r"session.created .* received: session.closed"):
        await recorder.wait_for(CREATED, timeout_seconds=0.01)
