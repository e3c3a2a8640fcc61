"""Forks cost nothing where there are none, read no more than they show, and hold while others write."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from mnesis.errors import CorruptStoreError, SessionForkedError
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore, context, log
from mnesis.store.sqlite.salvage import salvage
from mnesis.testing.store_samples import make_message, make_turn, store_conversation


@pytest.fixture
async def store(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    return store


async def traced(store: SqliteStore, verb: object, *args: object) -> list[str]:
    """Return the statements that one transaction of the store runs."""
    statements: list[str] = []

    def run(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(statements.append)
        try:
            verb(connection, *args)  # type: ignore[operator]  # a transaction of the store
        finally:
            connection.set_trace_callback(None)

    await store.database.write(run)
    return statements


async def test_a_session_without_forks_runs_no_statement_of_forks(store: SqliteStore) -> None:
    from mnesis.store.codec import encode_message

    await store_conversation(store, 3)
    turn = make_turn(9)
    encoded = [encode_message(message) for message in turn.messages]
    appended = await traced(store, log.append, "s", turn, encoded)
    read = await traced(store, context.active_context, "s", False)
    for statement in (*appended, *read):
        assert "segments" not in statement
        assert "inherited" not in statement
    await store.fork_session("s", SessionRecord(id="f", model="m"), last_seq=4)
    await store.append("s", make_turn(7))  # so that both appends follow one of the same connection
    again = [encode_message(message.model_copy(update={"id": f"x{message.id}"})) for message in turn.messages]
    assert len(await traced(store, log.append, "s", Append(make_turn(8).messages, ends_turn=True), again)) == len(
        appended
    )
    # The second read finds what the first one decoded.
    assert len(await traced(store, context.active_context, "s", False)) <= len(read)
    await store.close()


async def test_no_message_is_copied(store: SqliteStore, tmp_path: Path) -> None:
    await store_conversation(store, 20)
    for number in range(5):
        await store.fork_session("s", SessionRecord(id=f"f{number}", model="m"), last_seq=30 + number)
    await store.close()
    connection = sqlite3.connect(tmp_path / "s.db")
    assert connection.execute("SELECT count(*) FROM messages").fetchone() == (40,)
    assert connection.execute("SELECT count(*) FROM segments").fetchone() == (5,)
    connection.close()


async def test_appends_and_forks_from_two_stores_keep_every_log(store: SqliteStore, tmp_path: Path) -> None:
    other = SqliteStore(tmp_path / "s.db")
    await other.open()
    await store_conversation(store, 1)

    async def append() -> None:
        for number in range(25):
            await other.append("s", make_turn(number))

    async def fork() -> None:
        for number in range(25):
            end = (await store.session("s")).last_seq
            await store.fork_session("s", SessionRecord(id=f"f{number}", model="m"), last_seq=end)
            await store.append(f"f{number}", make_turn(100 + number))

    await asyncio.gather(append(), fork())
    whole = [message.id for message in await store.messages("s")]
    assert len(whole) == 52
    for number in range(25):
        ids = [message.id for message in await store.messages(f"f{number}")]
        assert ids[:-2] == whole[: len(ids) - 2]
    assert await store.check() == []
    await other.close()
    await store.close()


async def test_damage_in_a_shared_message_is_reported_for_both(store: SqliteStore, tmp_path: Path) -> None:
    await store_conversation(store, 3)
    await store.fork_session("s", SessionRecord(id="f", model="m"), last_seq=4)
    await store.close()
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("DROP TRIGGER messages_refuse_update")
    connection.execute("UPDATE messages SET parts = '\"changed\"' WHERE seq = 2")
    connection.commit()
    connection.close()
    await store.open()
    damaged = [f.detail for f in await store.check() if f.check == "content"]
    assert ["'f'" in damaged[1], "'s'" in damaged[0], len(damaged)] == [True, True, 2]
    marked = await store.messages("f", on_damage="mark")
    assert [message.damage is not None for message in marked] == [False, True, False, False]
    await store.fork_session("s", SessionRecord(id="g", model="m"), last_seq=3)
    with pytest.raises(CorruptStoreError):
        await store.messages("g")
    assert [message.seq for message in await store.messages("g", after_seq=2)] == [3]
    await store.close()


async def test_a_log_that_does_not_lead_to_its_head_is_not_forked(store: SqliteStore, tmp_path: Path) -> None:
    await store_conversation(store, 3)
    await store.close()
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("DROP TRIGGER messages_refuse_update")
    connection.execute("UPDATE messages SET hash = zeroblob(32) WHERE seq = 2")
    connection.commit()
    connection.close()
    await store.open()
    with pytest.raises(CorruptStoreError):
        await store.fork_session("s", SessionRecord(id="f", model="m"), last_seq=3)
    await store.close()


async def test_salvage_keeps_forks_with_what_is_left_of_their_log(store: SqliteStore, tmp_path: Path) -> None:
    log = await store_conversation(store, 3)
    await store.fork_session("s", SessionRecord(id="f", model="m", title="t"), last_seq=4)
    await store.append("f", Append([make_message("user", "own", id="own")]))
    await store.close()
    connection = sqlite3.connect(tmp_path / "s.db")
    connection.execute("DROP TRIGGER messages_refuse_update")
    connection.execute("UPDATE messages SET parts = '\"changed\"' WHERE seq = 2 AND session_pk = 1")
    connection.commit()
    connection.close()
    result = await salvage(tmp_path / "s.db", tmp_path / "new.db")
    assert [(each.session_id, each.message_count, each.gaps) for each in result.sessions] == [
        ("s", 5, ((2, 2),)),
        ("f", 1, ((2, 2),)),
    ]
    salvaged = SqliteStore(tmp_path / "new.db")
    await salvaged.open()
    ids = [message.id for message in await salvaged.messages("f")]
    assert ids == [log[0].id, log[2].id, log[3].id, "own"]
    record = await salvaged.session("f")
    assert (record.title, record.forked_from is not None and record.forked_from.seq) == ("t", 3)
    assert await salvaged.check() == []
    with pytest.raises(SessionForkedError):
        await salvaged.purge("s")
    await salvaged.close()
