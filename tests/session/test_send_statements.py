"""What `send()` and windows ask of the database: few transactions, and no reading of what the connection has already."""

from __future__ import annotations

from pathlib import Path

from mnesis import Engine, MnesisSession
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_message


async def answer(messages: list[dict[str, str]]) -> str:
    return f"{len(messages)} messages, the last one is {messages[-1]['content']!r}"


async def test_a_turn_is_two_transactions_that_decode_only_its_messages(tmp_path: Path) -> None:
    async with (
        Engine(tmp_path / "s.db") as engine,
        MnesisSession.open(model="openai/gpt-4o", engine=engine, llm=answer) as session,
    ):
        assert isinstance(engine.store, SqliteStore)
        await session.send("one")
        executed: list[str] = []
        await engine.store.database.query(lambda c: c.set_trace_callback(executed.append))
        result = await session.send("two")
        await engine.store.database.query(lambda c: c.set_trace_callback(None))
        assert "'two'" in result.text
        assert [each for each in executed if each.startswith(("BEGIN", "COMMIT"))] == ["BEGIN IMMEDIATE", "COMMIT"] * 2
        assert [each for each in executed if each.startswith("SELECT")] == []


async def test_a_window_after_own_turns_asks_only_whether_others_wrote(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    other = SqliteStore(path)
    await other.open()
    async with (
        Engine(path) as engine,
        MnesisSession.open(model="openai/gpt-4o", session_id="s", engine=engine) as session,
    ):
        assert isinstance(engine.store, SqliteStore)
        await session.record("one", "two")
        await session.context_for_next_turn()
        await session.record("three", "four")
        executed: list[str] = []
        await engine.store.database.query(lambda c: c.set_trace_callback(executed.append))
        texts = [each["content"] for each in await session.context_for_next_turn()]
        again = [each["content"] for each in await session.context_for_next_turn()]
        assert texts == again == ["one", "two", "three", "four"]
        assert executed == ["BEGIN", "PRAGMA data_version", "COMMIT"] * 2
        await other.append("s", Append([make_message("user", "from another process")]))
        assert (await session.context_for_next_turn())[-1]["content"] == "from another process"
        await engine.store.database.query(lambda c: c.set_trace_callback(None))
    await other.close()


async def test_a_request_shows_what_another_process_wrote_before_the_turn(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    other = SqliteStore(path)
    await other.open()
    async with MnesisSession.open(model="openai/gpt-4o", session_id="s", db_path=path, llm=answer) as session:
        await session.send("one")
        await other.append("s", Append([make_message("user", "from another process")]))
        await other.hide("s", 1, 2)
        sent: list[list[str]] = []

        async def note(messages: list[dict[str, str]]) -> str:
            sent.append([each["content"] for each in messages if each["role"] != "system"])
            return "noted"

    async with MnesisSession.open(model="openai/gpt-4o", session_id="s", db_path=path, llm=note) as session:
        await session.send("two")
        await other.append("s", Append([make_message("user", "between the turns")]))
        await session.send("three")
    assert [" ".join(each) for each in sent] == [
        "from another process two",
        "from another process two noted between the turns three",
    ]
    await other.close()
