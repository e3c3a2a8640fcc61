"""Concurrent sends, callbacks and wrong input keep the log in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mnesis import (
    ConfigurationError,
    MnesisError,
    MnesisSession,
    TextPart,
    ToolResultPart,
)
from mnesis.llm.base import LLMReply
from mnesis.models.message import Message, MessagePart
from mnesis.testing import ScriptedLLM
from tests.session.support import calls, roles
from tests.support.opened_session import opened


async def test_odd_texts_come_back_exactly(db: Path) -> None:
    texts = [
        "\0",
        "a\0b",
        "🙂" * 50,
        "‮rtl‬",
        "\ud800",
        "\udc00\ud800",
        "e\u0301",
        "<|endoftext|>",
        "x" * 300_000,
        " \n\t",
    ]
    async with opened(db) as session:
        for text in texts:
            await session.send(text)
            await session.record(text, text)
    async with await MnesisSession.load(session.id, db_path=db) as session:
        said = [message.text_content() for message in await session.messages() if message.role == "user"]
        assert said == [text for text in texts for _ in range(2)]


async def test_on_part_sees_pieces_in_order_and_may_be_async(db: Path) -> None:
    reply = LLMReply(text="one two three", reasoning="hm", tool_calls=calls(("look", {})).tool_calls)
    for is_async in (False, True):
        seen: list[MessagePart] = []

        async def later(part: MessagePart, seen: list[MessagePart] = seen) -> None:
            await asyncio.sleep(0)
            seen.append(part)

        async with opened(db, ScriptedLLM(reply)) as session:
            tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
            await session.send("go", tools=[tool], on_part=later if is_async else seen.append)
        assert [part.type for part in seen] == ["reasoning", "text", "text", "text", "tool"]
        assert "".join(part.text for part in seen if isinstance(part, TextPart)) == "one two three"


async def test_an_on_part_that_raises_does_not_cost_the_answer(db: Path) -> None:
    def broken(part: MessagePart) -> None:
        raise RuntimeError("mine")

    async def broken_later(part: MessagePart) -> None:
        raise RuntimeError("mine")

    async with opened(db, ScriptedLLM("the real answer")) as session:
        for handler in (broken, broken_later):
            result = await session.send("go", on_part=handler)
            assert result.text == "the real answer"
        assert [m.text_content() for m in await session.messages()][1::2] == ["the real answer"] * 2


@pytest.mark.parametrize("verb", ["send", "record", "close", "clear_context", "compact"])
async def test_a_callback_that_calls_its_own_session_is_refused(verb: str, db: Path) -> None:
    outcomes: list[object] = []
    async with opened(db, ScriptedLLM("fine")) as session:

        async def reenter(part: MessagePart) -> None:
            arguments = {"send": ("again",), "record": ("a", "b")}.get(verb, ())
            try:
                outcomes.append(await getattr(session, verb)(*arguments))
            except MnesisError as error:
                outcomes.append(error)
                raise

        result = await asyncio.wait_for(session.send("go", on_part=reenter), 5)
        assert result.text == "fine"
        if verb != "compact":  # a compaction needs nothing that the turn holds
            assert isinstance(outcomes[0], MnesisError)
        assert await roles(session) == "ua"


async def test_concurrent_sends_are_taken_one_after_the_other_in_order(db: Path) -> None:
    async def answer(request: Any) -> str:
        await asyncio.sleep(0)
        return f"re: {request.messages[-1]['content']}"

    model = ScriptedLLM(answer)
    async with opened(db, model) as session:
        await asyncio.gather(*(session.send(f"q{n}") for n in range(5)))
        assert [m.text_content() for m in await session.messages()] == [
            text for n in range(5) for text in (f"q{n}", f"re: q{n}")
        ]
    assert [len(request.messages) for request in model.requests] == [2, 4, 6, 8, 10]


async def test_sends_records_and_streams_mix_without_interleaving(db: Path) -> None:
    async with opened(db, ScriptedLLM("fine")) as session:

        async def stream(n: int) -> None:
            async for _ in session.stream(f"s{n}"):
                await asyncio.sleep(0)

        await asyncio.gather(
            *(session.send(f"q{n}") for n in range(3)),
            *(session.record(f"r{n}", "ok") for n in range(3)),
            *(stream(n) for n in range(3)),
        )
        assert await roles(session) == "ua" * 9
        assert [snapshot.turn_index for snapshot in session.history()] == list(range(9))


async def test_the_log_can_be_read_in_pages_while_it_grows(db: Path) -> None:
    async with opened(db) as session:
        for n in range(6):
            await session.record(f"q{n}", "a")
        seqs = [message.seq async for message in session.iter_messages(page=5)]
        assert seqs == list(range(1, 13))
        assert [m.seq async for m in session.iter_messages(after_seq=10, page=1)] == [11, 12]


async def test_messages_with_ids_of_their_own_are_stored_once(db: Path) -> None:
    async with opened(db) as session:
        question: Any = [ToolResultPart(tool_call_id="c", output="x"), TextPart(text="hi")]
        for _ in range(3):
            result = await session.record(question, "yo", user_message_id="u1", assistant_message_id="a1")
            assert (result.user_message_id, result.assistant_message_id) == ("u1", "a1")
        assert await roles(session) == "tua"
        assert len(session.history()) == 1
        for _ in range(2):
            await session.append([Message(id="m1", role="user", parts=(TextPart(text="x"),))])
        assert await roles(session) == "tuau"


WRONG_ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    ("send", {"system_prompt": 5}),
    ("send", {"on_part": 5}),
    ("send", {"llm_options": 5}),
    ("record", {"tokens": 5}),
    ("record", {"tokens": {"input": 1}}),
    ("record", {"cost": -1.0}),
    ("record", {"cost": float("nan")}),
    ("record", {"finish_reason": 5}),
    ("record", {"user_message_id": 5}),
    ("record", {"assistant_message_id": "\ud800"}),
]


@pytest.mark.parametrize(("verb", "wrong"), WRONG_ARGUMENTS)
async def test_an_argument_of_the_wrong_kind_stores_nothing(verb: str, wrong: dict[str, Any], db: Path) -> None:
    async with opened(db) as session:
        given = ("a",) if verb == "send" else ("a", "b")
        with pytest.raises((ValueError, TypeError)):
            await getattr(session, verb)(*given, **wrong)
        assert await session.messages() == []
        assert session.cost == 0.0


@pytest.mark.parametrize("page", [0, -1])
async def test_a_page_holds_at_least_one_message(page: int, db: Path) -> None:
    async with opened(db) as session:
        await session.record("a", "b")
        with pytest.raises(ConfigurationError, match="page"):
            await anext(session.iter_messages(page=page))
