"""When the model fails: typed errors, nothing stored as if it had been said, retries as configured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import LLMError, MnesisConfig, MnesisEvent, MnesisSession, RetryConfig, SessionConfig, TokenUsage
from mnesis.errors import (
    ContextOverflowError,
    LLMAuthenticationError,
    LLMBadRequestError,
    LLMConnectionError,
    LLMRateLimitError,
    LLMResponseError,
    LLMServerError,
    LLMTimeoutError,
)
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.testing import EventRecorder, FailAfter, ScriptedLLM
from tests.session.support import MODEL, roles, small, talk
from tests.support.openai_server import OpenAIServer, Reply, cut, error
from tests.support.summaries import acceptable_summary

RETRIED = [LLMRateLimitError, LLMTimeoutError, LLMConnectionError, LLMServerError]
NOT_RETRIED = [LLMAuthenticationError, LLMBadRequestError, LLMResponseError, LLMError]


def retrying(retries: int, **retry: Any) -> MnesisConfig:
    retry = {"base_delay": 0.0, **retry}
    return MnesisConfig(session=SessionConfig(retry=RetryConfig(max_retries=retries, **retry)))


def opened(db: Path, script: Any, config: MnesisConfig | None = None) -> Any:
    return MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM(script), config=config)


@pytest.mark.parametrize("kind", [*RETRIED, *NOT_RETRIED])
async def test_a_failure_is_raised_as_its_type_and_never_stored_as_an_answer(kind: type[LLMError], db: Path) -> None:
    async with opened(db, [kind("no luck sk-abcdefghijklmnop1234", status_code=418), "fine"]) as session:
        seen = EventRecorder(session.event_bus)
        with pytest.raises(kind) as caught:
            await session.send("hello")
        assert caught.value.status_code == 418
        assert await roles(session) == "u"
        (interruption,) = await session.interruptions()
        assert (interruption.kind, interruption.error_type, interruption.after_seq) == ("failed", kind.__name__, 1)
        assert "sk-abcdefghijklmnop1234" not in interruption.error
        assert len(seen.of(MnesisEvent.MESSAGE_CREATED)) == 1
        assert session.token_usage == TokenUsage()
        assert (await session.send("again")).text == "fine"
        assert await roles(session) == "uua"
        assert "no luck" not in str(await session.context_for_next_turn())


class Broken:
    """A client that does not keep to the port's errors."""

    async def complete(self, request: LLMRequest) -> LLMReply:
        raise RuntimeError("boom")

    async def stream(self, request: LLMRequest) -> AsyncIterator[Any]:
        for _ in ():
            yield
        raise RuntimeError("boom")


async def test_any_error_of_a_client_object_becomes_an_llm_error(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, llm=Broken()) as session:
        with pytest.raises(LLMError, match="boom") as caught:
            await session.send("hello")
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(LLMError, match="boom"):
            async for _ in session.stream("hello"):
                pass
        assert len(await session.interruptions()) == 2


@pytest.mark.parametrize("answer", [None, 5, {"text": "x"}])
async def test_a_function_that_gives_no_text_is_a_typed_failure(answer: Any, db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, llm=lambda messages: answer) as session:
        with pytest.raises(LLMResponseError):
            await session.send("hello")
        assert await roles(session) == "u"


async def test_without_retries_configured_a_passing_failure_is_raised_at_once(db: Path) -> None:
    async with opened(db, [LLMServerError("down"), "fine"]) as session:
        with pytest.raises(LLMServerError):
            await session.send("hello")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", RETRIED)
async def test_a_passing_failure_is_retried_and_each_retry_is_told(
    kind: type[LLMError], streamed: bool, db: Path
) -> None:
    async with opened(db, [kind("one"), kind("two"), "fine"], retrying(2)) as session:
        seen = EventRecorder(session.event_bus)
        if streamed:
            events = [event async for event in session.stream("hello")]
            assert events[-1].result.text == "fine"
        else:
            assert (await session.send("hello")).text == "fine"
        told = seen.of(MnesisEvent.LLM_RETRY)
        assert [(p.attempt, p.max_retries, p.error_type, p.error_message) for p in told] == [
            (1, 2, kind.__name__, "one"),
            (2, 2, kind.__name__, "two"),
        ]
        assert await roles(session) == "ua"
        assert await session.interruptions() == []


@pytest.mark.parametrize("kind", [*NOT_RETRIED])
async def test_a_lasting_failure_is_not_retried(kind: type[LLMError], db: Path) -> None:
    async with opened(db, [kind("no"), "fine"], retrying(5)) as session:
        with pytest.raises(kind):
            await session.send("hello")


async def test_the_last_error_is_raised_when_the_retries_are_used_up(db: Path) -> None:
    async with opened(db, [LLMServerError(str(n)) for n in range(4)], retrying(3)) as session:
        with pytest.raises(LLMServerError, match="3"):
            await session.send("hello")
        assert len(await session.interruptions()) == 1


async def test_nothing_is_retried_once_a_piece_of_the_answer_was_handed_out(db: Path) -> None:
    async with opened(db, [FailAfter("half"), "never asked for"], retrying(5)) as session:
        with pytest.raises(LLMConnectionError) as caught:
            await session.send("hello", on_part=lambda part: None)
        assert caught.value.partial_text == "half"
        assert await roles(session) == "u"


async def test_a_wait_the_provider_asks_for_that_is_too_long_is_not_waited(db: Path) -> None:
    asked = LLMRateLimitError("later", retry_after_seconds=3_600.0)
    async with opened(db, [asked, "fine"], retrying(5, max_delay=1.0)) as session:
        with pytest.raises(LLMRateLimitError):
            await asyncio.wait_for(session.send("hello"), 10)


async def test_an_overflow_is_answered_with_one_compaction_and_one_more_try(db: Path) -> None:
    asked: list[LLMRequest] = []

    def answer(request: LLMRequest) -> Any:
        if request.purpose == "summary":
            return acceptable_summary(request)
        asked.append(request)
        return ContextOverflowError("too long") if len(asked) == 1 else "fine"

    async with opened(db, answer, small()) as session:
        await talk(session, 8)
        seen = EventRecorder(session.event_bus)
        result = await session.send("still there?")
        assert result.text == "fine"
        assert result.compaction_triggered
        assert result.compaction_result is not None
        assert result.compaction_result.trigger == "overflow"
        assert len(seen.of(MnesisEvent.COMPACTION_COMPLETED)) == 1
        assert len(str(asked[1].messages)) < len(str(asked[0].messages))
        assert asked[1].messages[-1]["content"] == "still there?"
        assert await session.interruptions() == []


async def test_a_second_overflow_is_raised(db: Path) -> None:
    def answer(request: LLMRequest) -> Any:
        return acceptable_summary(request) if request.purpose == "summary" else ContextOverflowError("too long")

    async with opened(db, answer, small()) as session:
        await talk(session, 8)
        with pytest.raises(ContextOverflowError):
            await session.send("still there?")
        assert len(await session.interruptions()) == 1
        assert (await session.messages())[-1].text_content() == "still there?"


async def test_an_overflow_that_cannot_shrink_is_the_providers_error(db: Path) -> None:
    model = ScriptedLLM(ContextOverflowError("too long for this one"))
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model) as session:
        with pytest.raises(ContextOverflowError, match="too long for this one"):
            await session.send("hi")
        assert len(await session.interruptions()) == 1


async def test_an_overflow_with_nothing_to_fold_does_not_claim_a_compaction(db: Path) -> None:
    script = [ContextOverflowError("too long"), "fine"]
    async with opened(db, script, small()) as session:
        result = await session.send("word " * 1_000)
        assert (result.text, result.compaction_triggered, result.compaction_result) == ("fine", False, None)


def on_wire(server: OpenAIServer, **retry: Any) -> MnesisConfig:
    return MnesisConfig(
        session=SessionConfig(
            llm_options=server.options, retry=RetryConfig(base_delay=0.0, **retry), request_timeout_seconds=20.0
        ),
        model_overrides={"context_limit": 32_768, "max_output_tokens": 1_024},
    )


async def test_the_real_client_sends_streams_retries_and_fails_as_promised(db: Path) -> None:
    with OpenAIServer() as server:
        config = on_wire(server, max_retries=1)
        async with MnesisSession.open(model="openai/test-model", db_path=db, config=config) as session:
            result = await session.send("hello")
            assert (result.text, result.tokens.input, result.tokens.output) == ("Hello world", 100, 20)
            server.answer(error(500, "down"), Reply(("one ", "two")))
            events = [event async for event in session.stream("stream")]
            assert "".join(event.text for event in events[:-1]) == "one two"  # type: ignore[union-attr]  # deltas
            assert events[-1].result.tokens.input == 100  # type: ignore[union-attr]  # the last is complete
            server.answer(error(401, "bad key sk-test-secret-0123456789"))
            with pytest.raises(LLMAuthenticationError) as caught:
                await session.send("refused")
            assert "sk-test-secret-0123456789" not in str(caught.value)
            server.answer(cut("half of "))
            with pytest.raises(LLMError) as broken:
                async for _ in session.stream("broken"):
                    pass
            assert broken.value.partial_text == "half of "
            assert await roles(session) == "uauauu"


async def test_a_streamed_delta_arrives_before_the_answer_is_finished(db: Path) -> None:
    import threading

    release = threading.Event()
    with OpenAIServer(Reply(("first ", "second"), release=release)) as server:
        async with MnesisSession.open(model="openai/test-model", db_path=db, config=on_wire(server)) as session:
            events = session.stream("go")
            first = await asyncio.wait_for(anext(events), 30)
            assert first.text == "first "  # type: ignore[union-attr]  # a delta
            assert await roles(session) == "u"
            release.set()
            rest = [event async for event in events]
            assert rest[-1].result.text == "first second"  # type: ignore[union-attr]  # the last is complete


async def test_without_a_key_send_says_so_and_compaction_still_works(db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, config=small()) as session:
        await talk(session, 8)
        result = await session.compact()
        assert result.level_used == 3
        with pytest.raises(LLMAuthenticationError):
            await session.send("hello")


class Junk:
    """A client whose answers are no answers."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def complete(self, request: LLMRequest) -> Any:
        return self.answer

    async def stream(self, request: LLMRequest) -> AsyncIterator[Any]:
        yield self.answer


@pytest.mark.parametrize("answer", [None, "text", 5, {"text": "x"}])
async def test_a_client_object_that_gives_something_else_is_a_typed_failure(answer: Any, db: Path) -> None:
    async with MnesisSession.open(model=MODEL, db_path=db, llm=Junk(answer)) as session:
        with pytest.raises(LLMResponseError):
            await session.send("hello")
        with pytest.raises(LLMResponseError):
            await session.send("hello", on_part=lambda part: None)
        assert await roles(session) == "uu"
        assert len(await session.interruptions()) == 2


async def test_an_answer_without_a_finish_reason_is_an_answer(db: Path) -> None:
    reply = LLMReply(text="fine", finish_reason=None)  # type: ignore[arg-type]  # as some clients do
    async with MnesisSession.open(model=MODEL, db_path=db, llm=ScriptedLLM(reply)) as session:
        assert (await session.send("hello")).finish_reason == "stop"
