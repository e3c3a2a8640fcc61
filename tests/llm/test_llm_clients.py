"""The clients that need no provider, and the choice among all of them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.errors import ConfigurationError, LLMError, LLMRateLimitError, LLMResponseError, LLMTimeoutError
from mnesis.llm.base import LLM, Delta, LLMReply, LLMRequest
from mnesis.llm.function import CallableLLM
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.mock import MockLLM, split_words
from mnesis.llm.resolve import SwitchedLLM, resolve
from mnesis.models.usage import TokenUsage
from mnesis.testing import ScriptedLLM

REST = (
    "This is a simulated response for demonstration purposes. "
    "Set MNESIS_MOCK_LLM=0 and provide an API key to use a real LLM."
)


def asking(*contents: Any, **fields: Any) -> LLMRequest:
    return LLMRequest(model="m", messages=[{"role": "user", "content": content} for content in contents], **fields)


async def pieces_of(llm: LLM, request: LLMRequest) -> list[Delta | LLMReply]:
    return [piece async for piece in llm.stream(request)]


async def test_the_mock_repeats_the_newest_user_message() -> None:
    request = LLMRequest(
        model="m",
        messages=[
            {"role": "user", "content": "older"},
            {"role": "user", "content": "x" * 150},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
        ],
    )
    reply = await MockLLM().complete(request)
    assert reply.text == f"[Mock LLM response to: {'x' * 100}]\n{REST}"
    assert (reply.finish_reason, reply.model, reply.cost) == ("stop", "m", 0.0)


async def test_the_mock_reads_messages_made_of_blocks() -> None:
    blocks = [
        {"type": "text", "text": "look "},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "here"},
    ]
    assert (await MockLLM().complete(asking(blocks))).text.startswith("[Mock LLM response to: look here]")


async def test_a_client_may_delegate_its_methods_to_another() -> None:
    class Wrapper:
        """Its methods are found by `hasattr`, but from Python 3.12 on not by `isinstance` with a protocol."""

        def __getattr__(self, name: str) -> Any:
            return getattr(ScriptedLLM("hello"), name)

    assert (await resolve(Wrapper()).complete(asking("hi"))).text == "hello"


async def test_the_mock_counts_usage_from_the_text() -> None:
    reply = await MockLLM().complete(asking("a" * 40))
    answered = len(reply.text) // 4
    assert reply.usage == TokenUsage(input=10, output=answered, total=10 + answered)
    assert (await MockLLM().complete(LLMRequest(model="m", messages=[]))).usage is not None


async def test_the_mocks_pieces_add_up_to_its_text() -> None:
    *deltas, reply = await pieces_of(MockLLM(), asking("  two\n\nlines\t"))
    assert isinstance(reply, LLMReply)
    assert "".join(delta.text for delta in deltas) == reply.text
    assert len(deltas) > 5
    assert reply == await MockLLM().complete(asking("  two\n\nlines\t"))


@given(st.text())
def test_words_joined_are_the_text_again(text: str) -> None:
    assert "".join(split_words(text)) == text


async def test_the_mocks_summary_is_a_frame_with_lines_of_its_input() -> None:
    transcript = "\n\n".join(f"User: fact number {number} is worth keeping" for number in range(40))
    text = (await MockLLM().complete(asking(transcript, purpose="summary"))).text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Goal", "## Completed Work", "## In Progress", "## Remaining Work"]
    assert "fact number 0" in text
    assert "fact number 7" in text


async def test_the_mocks_summary_leaves_out_what_fences_the_record() -> None:
    record = "\n".join(f"User: fact number {number} is worth keeping" for number in range(40))
    asked = f"=== 12ab ===\n{record}\n=== 12ab ===\n\nUse at most 100 words."
    text = (await MockLLM().complete(asking(asked, purpose="summary"))).text
    assert text.startswith("## Goal\n- User: fact number 0 ")
    assert "12ab" not in text


@given(st.text(min_size=1, max_size=3000), st.none() | st.integers(1, 2000))
def test_the_mocks_summary_is_always_shorter_than_its_input(text: str, limit: int | None) -> None:
    reply = asyncio.run(MockLLM().complete(asking(text, purpose="summary", max_output_tokens=limit)))
    assert len(reply.text) < len(text)
    assert limit is None or len(reply.text) <= 4 * limit


async def test_a_function_answers_with_text_or_a_whole_reply() -> None:
    async def later(messages: list[dict[str, Any]]) -> str:
        return messages[-1]["content"].upper()

    whole = LLMReply(text="x", usage=TokenUsage(input=3, output=1))
    assert await CallableLLM(later).complete(asking("hi")) == LLMReply(text="HI", model="m")
    assert (await CallableLLM(lambda messages: f"{len(messages)}").complete(asking("a", "b"))).text == "2"
    assert await CallableLLM(lambda messages: whole).complete(asking("hi")) is whole
    assert (await CallableLLM(lambda messages: later(messages)).complete(asking("hi"))).text == "HI"


async def test_a_callable_object_may_be_async() -> None:
    class Later:
        async def __call__(self, messages: list[dict[str, Any]]) -> str:
            assert threading.current_thread() is threading.main_thread()
            return "later"

    assert (await CallableLLM(Later()).complete(asking("hi"))).text == "later"


async def test_a_plain_function_does_not_run_in_the_loop() -> None:
    loop_thread = threading.get_ident()
    reply = await CallableLLM(lambda messages: str(threading.get_ident() != loop_thread)).complete(asking("hi"))
    assert reply.text == "True"


async def test_a_functions_answer_streams_as_one_piece() -> None:
    llm = CallableLLM(lambda messages: "a b c")
    assert await pieces_of(llm, asking("hi")) == [Delta(text="a b c"), LLMReply(text="a b c", model="m")]


async def test_what_a_function_raises_is_an_llm_error_with_its_cause() -> None:
    cause = KeyError("lost")

    def broken(messages: object) -> str:
        raise cause

    with pytest.raises(LLMError, match=r"broken raised KeyError") as caught:
        await CallableLLM(broken).complete(asking("hi"))
    assert caught.value.__cause__ is cause
    assert not caught.value.retryable


async def test_an_llm_error_of_a_function_passes_as_it_is() -> None:
    limit = LLMRateLimitError("slow down", retry_after_seconds=2)

    async def limited(messages: object) -> str:
        raise limit

    with pytest.raises(LLMRateLimitError) as caught:
        await CallableLLM(limited).complete(asking("hi"))
    assert caught.value is limit


async def test_a_function_that_hangs_times_out() -> None:
    release, ended = threading.Event(), threading.Event()

    def hangs(messages: object) -> str:
        release.wait(30)
        ended.set()
        return ""

    try:
        with pytest.raises(LLMTimeoutError):
            await CallableLLM(hangs).complete(asking("hi", timeout_seconds=0.05))
        assert not ended.is_set(), "the call waited for the function all the same"
    finally:
        release.set()


async def test_a_function_that_returns_something_else_is_no_answer() -> None:
    with pytest.raises(LLMResponseError, match="returned int"):
        await CallableLLM(lambda messages: 7).complete(asking("hi"))  # type: ignore[arg-type,return-value]  # the point


async def test_cancelling_a_functions_call_stays_a_cancellation() -> None:
    async def hangs(messages: object) -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await CallableLLM(hangs).complete(asking("hi"))


def inner(llm: object) -> LLM:
    resolved = resolve(llm)
    assert isinstance(resolved, SwitchedLLM)
    return resolved.inner


def test_each_thing_that_names_a_model_has_its_client() -> None:
    scripted = ScriptedLLM(["x"])
    nothing, named = inner(None), inner("openai/gpt-4o")
    assert isinstance(nothing, LiteLLM)
    assert nothing.model is None
    assert isinstance(named, LiteLLM)
    assert named.model == "openai/gpt-4o"
    assert inner(scripted) is scripted
    assert isinstance(inner(lambda messages: "x"), CallableLLM)


def test_resolving_twice_changes_nothing() -> None:
    once = resolve(ScriptedLLM(["x"]))
    assert resolve(once) is once


@pytest.mark.parametrize(
    "wrong", ["", "  ", 7, object(), ScriptedLLM, str], ids=["empty", "blank", "number", "object", "class", "type"]
)
def test_anything_else_is_refused_with_what_would_do(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="model string"):
        resolve(wrong)


async def test_the_switch_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = resolve(lambda messages: "real")
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)
    assert (await llm.complete(asking("hi"))).text == "real"
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    assert (await llm.complete(asking("hi"))).text.startswith("[Mock LLM response to: hi]")
    assert (await pieces_of(llm, asking("hi")))[0] == Delta(text="[Mock ")
    monkeypatch.setenv("MNESIS_MOCK_LLM", "true")
    assert (await llm.complete(asking("hi"))).text == "real"


async def test_closing_a_resolved_stream_closes_the_inner_one() -> None:
    closed = asyncio.Event()

    class Endless:
        async def complete(self, request: LLMRequest) -> LLMReply:
            raise NotImplementedError

        async def stream(self, request: LLMRequest) -> Any:
            try:
                while True:
                    yield Delta(text="x")
            finally:
                closed.set()

    pieces = resolve(Endless()).stream(asking("hi"))
    await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined]  # a resolved stream is a generator
    assert closed.is_set()
