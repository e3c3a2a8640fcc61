"""Damage is seen when it is read and when it is looked for, and reaches no further than it goes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mnesis.errors import CorruptStoreError
from mnesis.models.context import Cover
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_condensed, make_leaf, store_conversation
from tests.store.children import patch, read_bytes, replace_bytes


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, 5)
    one, two = make_leaf("one", 1, 2), make_leaf("two", 3, 4)
    await store.compact("s", make_compaction((), [Cover(1, 4, "top")], [one, two, make_condensed("top", [one, two])]))
    await store.close()
    return path


@pytest.mark.parametrize("byte", [b"Q", b"\xff", b"\x00", b'"'])
async def test_a_flipped_byte_of_a_message_is_seen_and_the_others_stay_readable(path: Path, byte: bytes) -> None:
    replace_bytes(path, b"question 3", byte + b"uestion 3")
    store = SqliteStore(path)
    await store.open()
    damaged = (await store.database.read(lambda c: c.execute("SELECT id FROM messages WHERE seq = 7").fetchone()))[0]
    for reading in (store.message("s", damaged), store.messages("s"), store.active_context("s")):
        with pytest.raises(CorruptStoreError, match=r"mnesis doctor") as caught:
            await reading
        assert damaged in str(caught.value)
        assert "'s'" in str(caught.value)
    assert len(await store.messages("s", until_seq=6)) == 6
    assert len(await store.messages("s", after_seq=7)) == 3
    findings = await store.check()
    assert [(finding.check, finding.ids) for finding in findings] == [("content", (damaged,))]
    assert findings == await store.check(session_id="s")
    await store.close()


async def test_a_flipped_byte_of_a_summary_is_seen(path: Path) -> None:
    replace_bytes(path, b"summary two", b"summary tvo")
    store = SqliteStore(path)
    await store.open()
    with pytest.raises(CorruptStoreError, match="two"):
        await store.summary("s", "two")
    assert (await store.summary("s", "one")).id == "one"
    assert [finding.check for finding in await store.check()] == ["content"]
    await store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO context_covers SELECT pk, 1, 2, NULL FROM sessions",
        "INSERT INTO pins SELECT pk, 1 FROM sessions",
    ],
)
async def test_a_record_inserted_where_there_was_none_is_refused(tmp_path: Path, statement: str) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await store_conversation(store, 5)
    await store.database.write(_sql(statement))
    with pytest.raises(CorruptStoreError, match=r"the list of (covers|pins)"):
        await store.active_context("s")
    assert await store.check()
    await store.close()


def _sql(*statements: str) -> Callable[[sqlite3.Connection], None]:
    def run(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return run


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (_sql("UPDATE accounts SET message_tokens = 0"), {"accounts"}),
        (_sql("UPDATE accounts SET tool_tokens = 3"), {"accounts"}),
        (_sql("UPDATE accounts SET summary_tokens = 3"), {"accounts"}),
        (_sql("UPDATE accounts SET context_tokens = 3"), {"accounts"}),
        (_sql("UPDATE accounts SET turn_count = 3"), {"turns"}),
        (_sql("UPDATE accounts SET last_seq = 12"), {"log"}),
        (
            _sql("DROP TRIGGER messages_refuse_delete", "DELETE FROM messages WHERE seq = 6"),
            {"schema", "log", "accounts"},
        ),
        (
            _sql("DROP TRIGGER messages_refuse_delete", "DELETE FROM messages WHERE seq = 2"),
            {"schema", "log", "references"},
        ),
        (_sql("DROP TRIGGER turns_refuse_update"), {"schema"}),
        (_sql("CREATE TRIGGER evil AFTER INSERT ON messages BEGIN SELECT 1; END"), {"schema"}),
        (_sql("DELETE FROM context_covers"), {"accounts"}),
        (_sql("UPDATE context_covers SET last_seq = 5"), {"covers", "accounts"}),
        (_sql("UPDATE context_covers SET summary_pk = NULL"), {"covers", "accounts"}),
        (_sql("UPDATE context_covers SET summary_pk = 99"), {"covers", "accounts", "references"}),
        (_sql("INSERT INTO context_covers VALUES (1, 3, 4, 2)"), {"covers", "accounts"}),
        (
            _sql("DROP TRIGGER summary_messages_refuse_delete", "DELETE FROM summary_messages WHERE seq = 3"),
            {"schema", "summaries", "covers"},
        ),
        (
            _sql("DROP TRIGGER summary_children_refuse_delete", "DELETE FROM summary_children WHERE position = 1"),
            {"schema", "summaries", "covers"},
        ),
        (_sql("INSERT INTO summary_children VALUES (1, 0, 3)"), {"summaries", "covers"}),
    ],
)
async def test_a_check_finds_what_does_not_fit(
    path: Path, damage: Callable[[sqlite3.Connection], None], found: set[str]
) -> None:
    intruder = sqlite3.connect(path)
    damage(intruder)
    intruder.commit()
    intruder.close()
    before = read_bytes(path)
    store = SqliteStore(path)
    await store.open()
    findings = await store.check()
    await store.close()
    assert {finding.check for finding in findings} >= found
    assert all(finding.fix for finding in findings)
    assert read_bytes(path) == before


async def test_a_page_that_is_gone_is_a_finding_not_an_exception(path: Path) -> None:
    raw = sqlite3.connect(path)
    root = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()[0]
    size = raw.execute("PRAGMA page_size").fetchone()[0]
    raw.close()
    patch(path, (root - 1) * size, b"\x00" * size)
    store = SqliteStore(path)
    await store.open()
    with pytest.raises(CorruptStoreError, match="doctor"):
        await store.messages("s")
    assert "file" in {finding.check for finding in await store.check()}
    await store.close()
