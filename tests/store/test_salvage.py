"""Damage stays where it is: lists, reading and copying go around it, and nothing is left out silently."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from mnesis import Engine, MnesisSession
from mnesis.errors import ConfigurationError, CorruptStoreError, MnesisStoreError
from mnesis.models.context import Cover
from mnesis.models.run import MapRun
from mnesis.models.search import Search
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.salvage import salvage
from mnesis.testing.store_samples import store_conversation
from tests.store.children import read_bytes
from tests.support.damage import flips, store_every_kind

READ_BY_LISTS = ("sessions", "accounts", "messages", "summaries", "context_covers", "turns", "compactions")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with rows in every table. Tests work on copies."""
    path = tmp_path_factory.mktemp("complete") / "s.db"
    asyncio.run(store_every_kind(path))
    return path


@pytest.fixture
def copy(complete: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy.db"
    shutil.copyfile(complete, path)
    return path


def fresh_copy(source: Path, path: Path) -> None:
    """Copy a database to a path without the files of another one that was there."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    shutil.copyfile(source, path)


def change(path: Path, *statements: str) -> None:
    """Run statements behind the back of every trigger."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for _, sql in triggers:
        connection.execute(sql)
    connection.commit()
    connection.close()


async def test_an_intact_database_is_copied_whole(copy: Path, tmp_path: Path) -> None:
    result = await salvage(copy, tmp_path / "new.db")
    assert result.is_complete
    assert {each.session_id: each.message_count for each in result.sessions} == {"s": 11, "t": 11, "child": 0}
    old, new = SqliteStore(copy), SqliteStore(tmp_path / "new.db")
    await old.open()
    await new.open()
    assert await new.messages("s") == await old.messages("s")
    assert (await new.verify()).heads == (await old.verify()).heads
    assert [turn.seq for turn in new.turns("s")] == [turn.seq for turn in old.turns("s")]
    assert await new.interruptions("s") == await old.interruptions("s")
    for name in ("s", "t"):
        ours, theirs = await new.active_context(name), await old.active_context(name)
        assert (ours.covers, ours.pins, ours.prunes) == (theirs.covers, theirs.pins, theirs.prunes)
        assert ours.session.usage == theirs.session.usage
        assert (ours.session.cost, ours.session.turn_count) == (theirs.session.cost, theirs.session.turn_count)
        assert await new.summaries(name) == await old.summaries(name)
        assert await new.file_references(session_id=name) == await old.file_references(session_id=name)
        assert await new.covered_messages(name, "top") == await old.covered_messages(name, "top")
    assert [_outcomes(run) for run in await new.runs()] == [_outcomes(run) for run in await old.runs()]
    for run in ("r", "q"):
        assert await new.run_plan(run) == await old.run_plan(run) == '{"template": "t"}'
        items = [(item.index, item.input, item.outcome) for item in await new.run_items(run)]
        assert items == [(item.index, item.input, item.outcome) for item in await old.run_items(run)]
    assert await new.check() == []
    settings = [(r.title, r.system_prompt, r.metadata, r.parent_id) for r in (await old.sessions()).sessions]
    assert sorted(settings, key=str) == sorted(
        ((r.title, r.system_prompt, r.metadata, r.parent_id) for r in (await new.sessions()).sessions), key=str
    )
    await old.close()
    await new.close()
    with pytest.raises(ConfigurationError, match="never replaces"):
        await salvage(copy, tmp_path / "new.db")


def _outcomes(run: MapRun) -> tuple[object, ...]:
    return run.id, run.total, run.item_count, run.done, run.failed, run.usage, run.cost, run.model, run.fingerprint


async def test_what_depends_on_damage_is_left_out_and_named(copy: Path, tmp_path: Path) -> None:
    change(
        copy,
        "DELETE FROM messages WHERE session_pk = 1 AND seq IN (3, 6)",
        "UPDATE accounts SET cost = 99 WHERE session_pk = 1",
        "DELETE FROM pins WHERE session_pk = 2 AND seq = 6",
        "UPDATE summaries SET body = '{}' WHERE session_pk = 2 AND id = 'one'",
        "UPDATE run_items SET outcome = '\"forged\"' WHERE run_pk = 1 AND item_index = 0",
        "UPDATE run_inputs SET input = '\"forged\"' WHERE run_pk = 2 AND item_index = 3",
    )
    result = await salvage(copy, tmp_path / "new.db")
    by_id = {each.session_id: each for each in result.sessions}
    assert (by_id["s"].summary_count, by_id["s"].lost_summaries) == (1, ("two", "top"))
    assert by_id["s"].damaged_records == ("usage",)
    assert (by_id["t"].summary_count, by_id["t"].lost_summaries) == (1, ("one", "top"))
    assert by_id["t"].damaged_records == ("pins",)
    assert not result.is_complete
    assert [(run.run_id, run.is_copied, run.pending_items) for run in result.runs] == [
        ("r", True, (0,)),
        ("q", False, ()),
    ]
    store = SqliteStore(tmp_path / "new.db")
    await store.open()
    assert await store.check() == []
    context = await store.active_context("s")
    assert context.covers == (Cover(1, 2, "one"), Cover(4, 4, None))
    assert (context.session.cost, context.pins) == (0.0, frozenset({5}))
    assert [summary.id for summary in await store.summaries("t")] == ["two"]
    assert (await store.active_context("t")).covers == (Cover(3, 4, "two"), Cover(5, 5, None))
    assert (await store.session("s")).metadata["salvage"]["lost_summaries"] == ["two", "top"]
    run = await store.run("r")
    assert (run.done, run.failed, run.pending) == (0, 1, 3)
    await store.close()


async def test_gaps_are_listed_and_everything_else_is_copied(copy: Path, tmp_path: Path) -> None:
    change(
        copy,
        "DELETE FROM messages WHERE session_pk = 1 AND seq IN (3, 4, 11)",
        "UPDATE messages SET parts = '\"forged\"' WHERE session_pk = 1 AND seq = 7",
        "UPDATE sessions SET profile = '{broken' WHERE id = 't'",
    )
    before = read_bytes(copy)
    result = await salvage(copy, tmp_path / "new.db")
    assert read_bytes(copy) == before
    by_id = {each.session_id: each for each in result.sessions}
    assert by_id["s"].gaps == ((3, 4), (7, 7), (11, 11))
    assert (by_id["s"].message_count, by_id["t"].message_count) == (7, 11)
    assert not by_id["t"].settings_are_intact
    assert not result.is_complete
    async with Engine(tmp_path / "new.db") as engine:
        assert (await engine.verify()).findings == ()
        record = await engine.store.session("s")
        assert record.metadata["salvage"]["gaps"] == [[3, 4], [7, 7], [11, 11]]
        assert record.metadata["k"] == [1]
        assert [message.seq for message in await engine.store.messages("s")] == list(range(1, 8))


@pytest.mark.parametrize("where", ["messages", "sqlite_autoindex_messages_1", "sqlite_autoindex_messages_2", "turns"])
async def test_a_zeroed_page_costs_only_what_was_on_it(tmp_path: Path, where: str) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.open()
    for name in ("s", "t"):
        await store_conversation(store, 100, name)
    await store.close()
    connection = sqlite3.connect(path)
    page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    pages = [
        n for (n,) in connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'", (where,))
    ]
    connection.close()
    data = bytearray(path.read_bytes())
    page = pages[len(pages) // 2]
    data[(page - 1) * page_size : page * page_size] = bytes(page_size)
    path.write_bytes(data)
    result = await salvage(path, tmp_path / "new.db")
    kept = sum(each.message_count for each in result.sessions)
    assert kept == 400 if where != "messages" else 340 < kept < 400
    lost = sum(last - first + 1 for each in result.sessions for first, last in each.gaps)
    assert kept + lost == 400
    damaged = SqliteStore(path)
    await damaged.open()
    assert (await damaged.check()) != []
    for name in ("s", "t"):
        marked = await damaged.messages(name, on_damage="mark")
        assert [message.seq for message in marked] == list(range(1, 201))
    await damaged.close()


async def test_a_truncated_file_gives_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteStore(path)
    await store.open()
    await store_conversation(store, 1_000)
    await store.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    result = await salvage(path, tmp_path / "new.db")
    assert 0 < result.sessions[0].message_count < 2_000
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(CorruptStoreError, match="backup"):
        await salvage(path, tmp_path / "other.db")
    assert not [name for name in os.listdir(tmp_path) if name.startswith((".", "other"))]


async def test_a_damaged_place_of_a_message_does_not_lengthen_the_log(copy: Path, tmp_path: Path) -> None:
    """One bit makes a seq of 2**38; the salvage does not look for the messages before it."""
    change(copy, "UPDATE messages SET seq = seq + (1 << 38) WHERE session_pk = 1 AND seq = 11")
    result = await salvage(copy, tmp_path / "new.db")
    assert [(each.session_id, each.message_count, each.gaps) for each in result.sessions] == [
        ("s", 10, ((11, 11),)),
        ("t", 11, ()),
        ("child", 0, ()),
    ]


async def test_a_missing_message_is_never_passed_over(copy: Path) -> None:
    change(copy, "DELETE FROM messages WHERE session_pk = 1 AND seq IN (3, 7)")
    store = SqliteStore(copy)
    await store.open()
    for reading in (store.messages("s"), store.active_context("s"), store.covered_messages("s", "top")):
        with pytest.raises(CorruptStoreError, match="missing"):
            await reading
    with pytest.raises(CorruptStoreError, match="missing"):
        await store.search(Search("question 3", session_id="s"))
    assert len(await store.messages("s", until_seq=2)) == 2
    assert len(await store.messages("t")) == 11
    marked = await store.messages("s", on_damage="mark")
    assert [message.seq for message in marked] == list(range(1, 12))
    assert [message.seq for message in marked if message.damage is not None] == [3, 7]
    assert "cannot be shown" in marked[2].text_content()
    await store.close()
    async with Engine(copy) as engine, await MnesisSession.load("s", engine=engine) as session:
        assert len(await session.messages(on_damage="mark")) == 11
        with pytest.raises(CorruptStoreError):
            await session.messages()


@pytest.mark.parametrize("table", READ_BY_LISTS)
async def test_no_flipped_bit_hides_another_session(complete: Path, tmp_path: Path, table: str) -> None:
    path = tmp_path / "copy.db"
    for flip in flips(complete, table):
        fresh_copy(complete, path)
        flip.apply(path)
        store = SqliteStore(path)
        await store.open()
        listed = (await store.sessions()).sessions
        assert len(listed) >= 2, flip
        readable = 0
        for record in listed:
            try:
                await store.session(record.id)
                await store.active_context(record.id)
                await store.messages(record.id)
                readable += 1
            except MnesisStoreError:
                continue
        # A row that moves to another session is noticed in both.
        assert readable >= (1 if flip.column == "session_pk" else 2), flip
        await store.close()


async def test_sessions_without_accounts_are_listed_as_damaged(copy: Path) -> None:
    change(
        copy,
        "DELETE FROM accounts WHERE session_pk = 1",
        "UPDATE sessions SET profile = CAST(X'FF' AS TEXT) WHERE id = 't'",
    )
    store = SqliteStore(copy)
    await store.open()
    listed = {record.id: record.damage for record in (await store.sessions()).sessions}
    assert listed["child"] is None
    assert "accounts are missing" in str(listed["s"])
    assert "damaged" in str(listed["t"])
    assert len(await store.messages("s")) == 11
    for name in ("s", "t"):
        with pytest.raises(MnesisStoreError):
            await store.session(name)
    await store.close()
