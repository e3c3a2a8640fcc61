"""A salvage restores what forks show: covers, summaries of their own and of the session that they continue, pins and prunes."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from mnesis.models.context import Cover
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite.salvage import salvage
from mnesis.testing.store_samples import make_compaction, make_condensed, make_leaf, make_message, store_conversation

SESSIONS = ("s", "f", "g", "old", "side")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.open()
    yield store
    await store.close()


async def fold(store: SqliteStore, session_id: str, spans: list[Summary], new: list[Summary]) -> None:
    """Show `spans` in place of what they cover, keeping the other covers."""
    read = (await store.active_context(session_id)).covers
    outside = [c for c in read if not any(s.first_seq <= c.first_seq <= s.last_seq for s in spans)]
    covers = sorted([*outside, *(Cover(s.first_seq, s.last_seq, s.id) for s in spans)], key=lambda c: c.first_seq)
    await store.compact(session_id, make_compaction(read, covers, new))


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A session, a fork that condensed inherited summaries, a fork of the fork, and a fork before the second summary.

    A last one was made of a fork at a message of the first session: it shows the summary of the fork.
    """
    path = tmp_path / "s.db"
    async with opened(path) as store:
        await store_conversation(store, 6)
        await store.hide("s", 2, 2)
        one, two = make_leaf("one", 1, 3, count=2), make_leaf("two", 4, 6)
        await fold(store, "s", [one, two], [one, two])
        await store.pin("s", 8)
        await store.fork_session("s", SessionRecord(id="f", model="m"), last_seq=10)
        await store.append("f", Append([make_message("user", "own", id="own"), make_message("assistant", "yes")]))
        three = make_leaf("three", 9, 10)
        top = make_condensed("top", [one, two])
        await fold(store, "f", [top, three], [top, three])
        await store.fork_session("f", SessionRecord(id="g", model="m"), last_seq=12)
        await store.append("g", Append([make_message("user", "last", id="last")]))
        await store.fork_session("s", SessionRecord(id="old", model="m"), last_seq=4)
        await store.fork_session("g", SessionRecord(id="side", model="m"), last_seq=8)
    return path


async def contexts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with opened(path) as store:
        assert await store.check() == []
        for name in SESSIONS:
            context = await store.active_context(name)
            summaries = await store.summaries(name)
            covered = {each.id: await store.covered_messages(name, each.id) for each in summaries}
            texts = [m.text_content() for m in await store.messages(name)]
            found[name] = (context.covers, context.pins, {each.id: each for each in summaries}, covered, texts)
    return found


async def test_forks_come_back_with_their_contexts(path: Path, tmp_path: Path) -> None:
    result = await salvage(path, tmp_path / "new.db")
    assert result.is_complete, result
    assert await contexts(tmp_path / "new.db") == await contexts(path)


async def test_a_lost_summary_is_lost_in_each_fork_that_inherits_it(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER summaries_refuse_update")
        connection.execute("UPDATE summaries SET body = '{}' WHERE id = 'two'")
        connection.commit()
    result = await salvage(path, tmp_path / "new.db")
    lost = {each.session_id: set(each.lost_summaries) for each in result.sessions}
    assert lost == {"s": {"two"}, "f": {"two", "top"}, "g": {"two", "top"}, "old": set(), "side": {"two", "top"}}
    found = await contexts(tmp_path / "new.db")
    assert {name: set(each[2]) for name, each in found.items()} == {
        "s": {"one"},
        "f": {"one", "three"},
        "g": {"one", "three"},
        "old": {"one"},
        "side": {"one"},
    }
    assert [cover.summary_id for cover in found["g"][0] if cover.summary_id] == ["one", "three"]
