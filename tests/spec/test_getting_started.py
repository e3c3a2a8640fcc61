"""Every example and promise of the page "Installation & Quick Start", as it is printed there."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, SessionClosedError, TextDelta, TurnComplete
from mnesis.events.bus import MnesisEvent
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, chatter, roles, small, talk

CLAUDE = "anthropic/claude-opus-4-6"


@pytest.fixture(autouse=True)
def _mock_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")


def test_your_first_session(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        async with MnesisSession.open(
            model="anthropic/claude-opus-4-6",
            system_prompt="You are a helpful assistant.",
        ) as session:
            result = await session.send("Explain the GIL in Python.")
            print(result.text)
            print(f"Tokens used: {result.tokens.effective_total()}")

    asyncio.run(main())
    printed = capsys.readouterr().out
    assert "Explain the GIL in Python." in printed
    assert int(printed.rsplit("Tokens used: ", 1)[1]) > 0


async def test_open_closes_the_session_at_the_end_of_the_block() -> None:
    async with MnesisSession.open(model=CLAUDE) as session:
        await session.send("hello")
    with pytest.raises(SessionClosedError):
        await session.send("hello again")


async def test_open_closes_the_session_when_the_block_raises() -> None:
    with pytest.raises(KeyError):
        async with MnesisSession.open(model=CLAUDE) as session:
            raise KeyError("mine")
    assert session.engine.closed


async def test_open_awaits_a_pending_background_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM")
    gate = asyncio.Event()
    async with MnesisSession.open(
        model=MODEL, db_path=tmp_path / "a.db", config=small(), llm=ScriptedLLM("Briefly: codes were noted.", gate=gate)
    ) as session:
        number = 0
        while not session.compaction_in_progress:
            await session.record(*chatter(number))
            number += 1
        seen = EventRecorder(session.engine.events)
        asyncio.get_running_loop().call_later(0.02, gate.set)
    kinds = [kind for kind, _ in seen.events]
    assert kinds.index(MnesisEvent.COMPACTION_COMPLETED) < kinds.index(MnesisEvent.SESSION_CLOSED)


async def test_create_gives_a_session_that_is_a_context_manager() -> None:
    async with await MnesisSession.create(
        model="anthropic/claude-opus-4-6",
        system_prompt="You are a helpful assistant.",
    ) as session:
        result = await session.send("Explain the GIL in Python.")
        assert result.text
    with pytest.raises(SessionClosedError):
        await session.messages()


async def test_create_without_a_context_manager_and_close() -> None:
    session = await MnesisSession.create(model="anthropic/claude-opus-4-6")
    result = await session.send("Explain the GIL in Python.")
    await session.close()
    assert result.text
    await session.close()


async def test_a_session_is_shared_between_coroutines() -> None:
    async with MnesisSession.open(model=CLAUDE) as session:
        await asyncio.gather(*(session.send(f"question {number}") for number in range(4)))
        assert await roles(session) == "uauauaua"


async def test_the_model_is_sent_what_was_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM")
    model = ScriptedLLM(["Hello Alice.", "Alice.", "A poem."])
    async with MnesisSession.open(model="anthropic/claude-opus-4-6", llm=model) as session:
        await session.send("My name is Alice.")
        await session.send("What's my name?")
        await session.send("Write a poem about context management.")
    sent = [message["content"] for message in model.requests[-1].messages]
    assert sent == [
        "You are a helpful assistant.",
        "My name is Alice.",
        "Hello Alice.",
        "What's my name?",
        "Alice.",
        "Write a poem about context management.",
    ]


async def test_a_session_is_resumed_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM")

    def answer(messages: list[dict[str, str]]) -> str:
        known = any("the secret code is 42" in message["content"] for message in messages[:-1])
        return "The secret code is 42." if known else "I do not know."

    session = await MnesisSession.create(model="anthropic/claude-opus-4-6", llm=answer)
    session_id = session.id
    await session.send("Remember: the secret code is 42.")
    await session.close()

    session = await MnesisSession.load(session_id, llm=answer)
    result = await session.send("What was the secret code?")
    assert result.text == "The secret code is 42."
    await session.close()


async def test_sessions_are_kept_in_the_home_directory_by_default() -> None:
    async with MnesisSession.open(model=CLAUDE) as session:
        await session.send("hello")
    assert Path(os.environ["HOME"], ".mnesis", "sessions.db").is_file()  # noqa: ASYNC240 - a test may look at its own files


async def test_compaction_triggered_tells_when_compaction_fired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM")
    model = ScriptedLLM("I will keep it in mind. " * 15)
    async with MnesisSession.open(model=MODEL, db_path=tmp_path / "a.db", config=small(), llm=model) as session:
        results = [await session.send(chatter(number)[0]) for number in range(45)]
        fired = [result for result in results if result.compaction_triggered]
        assert 1 <= len(fired) <= 5
        assert not results[0].compaction_triggered
        assert any(result.compaction_result for result in results)


async def test_subscribe_with_a_lambda_hears_of_compaction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with MnesisSession.open(model=CLAUDE, db_path=tmp_path / "a.db", config=small()) as session:
        session.subscribe(MnesisEvent.COMPACTION_COMPLETED, lambda e, p: print("Compacted!", p))
        await talk(session, 8)
        await session.compact()
    printed = capsys.readouterr().out
    assert printed.count("Compacted!") == 1
    assert "tokens_after" in printed


async def test_streaming_prints_text_then_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    async with MnesisSession.open(model="anthropic/claude-opus-4-6") as session:
        async for event in session.stream("Explain the GIL in Python."):
            if event.type == "text_delta":
                print(event.text, end="", flush=True)
            elif event.type == "turn_complete":
                print()
                print(f"Tokens: {event.result.tokens.effective_total()}")
        stored = (await session.messages())[-1].text_content()
    text, _, total = capsys.readouterr().out.rpartition("\nTokens: ")
    assert text == stored
    assert int(total) > 0


async def test_a_stream_is_text_deltas_then_one_turn_complete() -> None:
    async with MnesisSession.open(model=CLAUDE) as session:
        events = [event async for event in session.stream("hello there")]
        last = events[-1]
        assert all(isinstance(event, TextDelta) for event in events[:-1])
        assert len(events) > 2
        assert isinstance(last, TurnComplete)
        assert "".join(event.text for event in events[:-1] if isinstance(event, TextDelta)) == last.result.text
        assert last.result.finish_reason == "stop"
        assert last.result.tokens == session.token_usage


async def test_a_stream_left_by_break_is_still_stored() -> None:
    session = await MnesisSession.create(model=CLAUDE)
    async for event in session.stream("Long response..."):
        if event.type == "text_delta" and "Mock" in event.text:
            break
    await session.close()
    session = await MnesisSession.load(session.id)
    assert await roles(session) == "ua"
    assert session.token_usage.effective_total() > 0
    assert len(session.history()) == 1
    await session.close()


async def test_a_stream_left_by_an_exception_is_still_stored() -> None:
    session = await MnesisSession.create(model=CLAUDE)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the loop is what raises
        async for _ in session.stream("Long response..."):
            raise ZeroDivisionError
    await session.close()
    session = await MnesisSession.load(session.id)
    assert await roles(session) == "ua"
    await session.close()


async def test_an_abandoned_stream_compacts_above_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM")
    config = MnesisConfig(
        compaction=CompactionConfig(
            compaction_output_budget=1_024, soft_threshold_fraction=0.3, low_water_fraction=0.1
        ),
        model_overrides={"context_limit": 8_192, "max_output_tokens": 1_024},
    )
    model = ScriptedLLM("It is a long answer indeed. " * 200)
    session = await MnesisSession.create(model=MODEL, db_path=tmp_path / "a.db", config=config, llm=model)
    await talk(session, 6)
    seen = EventRecorder(session.engine.events)
    async for _ in session.stream("Long response..."):
        break
    await session.close()
    assert seen.of(MnesisEvent.COMPACTION_COMPLETED)


def test_the_package_promises_python_3_11_and_newer() -> None:
    import mnesis

    assert sys.version_info >= (3, 11)
    assert mnesis.__version__
