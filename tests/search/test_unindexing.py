"""Purging a session removes it from the search index, and nothing else."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from mnesis.models.message import ToolResultPart, text_message
from mnesis.models.search import Search
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.store.sqlite import search as search_index

SESSIONS = ("a", "b", "c")


async def fill(store: Store, session_id: str, count: int = 30) -> None:
    await store.create_session(SessionRecord(id=session_id, model="m"))
    messages = []
    for n in range(count):
        text = f"Ada{n % 3}: {session_id}word{n} shared ledger number {n} of {session_id} über"
        message = text_message("user" if n % 2 else "assistant", text, id=f"{session_id}-{n}", token_count=5)
        if n % 7 == 0:
            part = ToolResultPart(tool_call_id="c", tool_name="grep", output=f"{session_id}tool{n} \0 end")
            message = message.model_copy(update={"role": "tool", "parts": (part,)})
        messages.append(message)
    await store.append(session_id, Append(messages))


async def search_everything(store: Store) -> list[tuple[str, list[str]]]:
    queries = [
        Search("ledger", limit=100),
        Search("ledger nu", limit=100, mode="substring"),
        Search("grep tool7", limit=100),
    ]
    return [(search.query, sorted(hit.message_id for hit in (await store.search(search)).hits)) for search in queries]


def bytes_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm"))


def index_content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every word and trigram with its number of messages, and all other rows of the index."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'search_words', 'instance')")
    connection.execute("CREATE VIRTUAL TABLE temp.trigrams USING fts5vocab('main', 'search_trigrams', 'instance')")
    content = {
        table: connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2").fetchall()
        for table, columns in {
            "words": "term, doc",
            "trigrams": "term, doc",
            "search_rows": "*",
            "search_speakers": "*",
            "search_state": "*",
        }.items()
    }
    connection.close()
    return content


@pytest.mark.parametrize("with_trigrams", [True, False])
@pytest.mark.parametrize("purged", SESSIONS)
async def test_the_index_after_a_purge_is_that_of_the_other_sessions(
    purged: str, with_trigrams: bool, tmp_path: Path
) -> None:
    paths = {"purged": tmp_path / "1" / "s.db", "never": tmp_path / "2" / "s.db"}
    found = {}
    for name, path in paths.items():
        store = SqliteStore(path)
        await store.open()
        for session_id in SESSIONS:
            await fill(store, session_id)
        if name == "never":
            await store.purge(purged)
        await store.search(Search("ledger"))
        if with_trigrams:
            await store.search(Search("ledger", mode="substring"))
        if name == "purged":
            await store.purge(purged)
        found[name] = index_content(path)
        assert await store.check() == []
        await store.close()
    assert found["purged"] == found["never"]
    assert len(found["purged"]["search_state"]) == 2


@pytest.mark.parametrize("make", [MemoryStore, SqliteStore])
async def test_the_others_are_found_as_before_without_indexing_again(
    make: type[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Store = MemoryStore() if make is MemoryStore else SqliteStore(tmp_path / "s.db")
    await store.open()
    for session_id in SESSIONS:
        await fill(store, session_id)
    before = await search_everything(store)
    await store.purge("b")
    monkeypatch.setattr("mnesis.store.sqlite.fulltext.build_index_entry", lambda message: pytest.fail("indexed again"))
    after = await search_everything(store)
    assert after == [(query, [each for each in ids if not each.startswith("b-")]) for query, ids in before]
    assert any(ids for _, ids in after)
    await store.close()


async def test_no_word_of_a_purged_session_stays_in_the_files(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    for session_id in SESSIONS:
        await fill(store, session_id)
    await search_everything(store)
    await fill(store, "xylotomist")
    await search_everything(store)
    await store.purge("xylotomist")
    assert b"xylotom" not in bytes_in(tmp_path)
    await store.close()


async def test_a_purge_of_a_damaged_session_leaves_no_word(tmp_path: Path) -> None:
    """What was indexed for a damaged message is unknown, so the whole index goes and is built again by the next search."""
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "a")
    await fill(store, "xylotomist")
    await search_everything(store)
    await store.close()
    connection = sqlite3.connect(tmp_path / "s.db")
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type='trigger' AND tbl_name='messages'"
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE messages SET parts = replace(parts, 'number 12', 'number 99')")
    for _, sql in triggers:
        connection.execute(sql)
    connection.commit()
    connection.close()
    await store.open()
    await store.purge("xylotomist")
    assert b"xylotom" not in bytes_in(tmp_path)
    assert len((await store.search(Search("ledger", limit=100))).hits) == 24
    await store.close()


async def test_a_purge_that_is_cancelled_in_the_index_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "MAX_BATCH_MESSAGES", 7)
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    for session_id in SESSIONS:
        await fill(store, session_id)
    before = await search_everything(store)
    step, steps = search_index.remove_newest, []

    def interrupted(*arguments: object) -> bool:
        steps.append(1)
        if len(steps) == 3:
            task.cancel()
        return step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(search_index, "remove_newest", interrupted)
    task = asyncio.create_task(store.purge("b"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await search_everything(store) == before
    assert await store.check() == []
    monkeypatch.setattr(search_index, "remove_newest", step)
    await store.purge("b")
    assert await store.check() == []
    await store.close()


async def test_a_purge_returns_the_space_to_the_file_system(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "small", 5)
    small = os.stat(tmp_path / "s.db").st_size
    await store.create_session(SessionRecord(id="large", model="m"))
    large = [text_message("user", f"{n} " * 20_000, id=f"l{n}", token_count=5) for n in range(60)]
    await store.append("large", Append(large))
    await store.search(Search("7"))
    await store.purge("large")
    assert os.stat(tmp_path / "s.db").st_size < small + 500_000
    assert (await store.messages("small"))[4].id == "small-4"
    assert await store.check() == []
    await store.close()
