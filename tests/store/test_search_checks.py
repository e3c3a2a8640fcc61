"""The check of the search index: it sees any damage, costs little, and the next search or `reindex` mends what it sees."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from pathlib import Path

import pytest

from mnesis.models.search import Search
from mnesis.models.session import SessionRecord
from mnesis.search.vectors import encode_vectors
from mnesis.store.base import Append
from mnesis.store.sqlite import SqliteStore, check_search
from mnesis.store.sqlite.unindex import merge_step
from mnesis.testing.store_samples import make_message
from tests.support.damage import Flip, search_tables, tables

WORDS = [f"word{number}" for number in range(40)]


async def open_store(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    await store.open()
    return store


async def fill(store: SqliteStore, session_id: str, count: int) -> None:
    if not (await store.sessions()).sessions or session_id not in {s.id for s in (await store.sessions()).sessions}:
        await store.create_session(SessionRecord(id=session_id, model="m"))
    texts = (f"Ada: {WORDS[n % 40]} {WORDS[n * 7 % 40]} number{n} of {session_id}" for n in range(count))
    await store.append(session_id, Append([make_message("user", text) for text in texts]))


async def search_both(store: SqliteStore) -> None:
    await store.search(Search("word3"))
    await store.search(Search("word3", mode="substring"))


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("indexed") / "s.db"
    asyncio.run(_create_indexed(path))
    return path


async def _create_indexed(path: Path) -> None:
    store = await open_store(path)
    for session_id in ("s", "t"):
        await fill(store, session_id, 30)
    await search_both(store)
    unembedded = await store.messages_without_vectors(None, "model")
    await store.save_vectors("model", {each.key: encode_vectors([[1.0, each.key % 7]]) for each in unembedded})
    await store.close()


async def test_an_index_of_an_earlier_release_is_not_a_finding(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(Path(shutil.copy(indexed, tmp_path / "s.db")))
    monkeypatch.setattr(check_search, "ANALYSIS_VERSION", check_search.ANALYSIS_VERSION + 1)
    assert await store.check() == []
    await store.close()


async def count_statements_of_a_check(store: SqliteStore) -> int:
    statements: list[str] = []
    await store.database.query(lambda connection: connection.set_trace_callback(statements.append))
    assert await store.check() == []
    await store.database.query(lambda connection: connection.set_trace_callback(None))
    return len(statements)


@pytest.mark.parametrize("count", [20, 600])
async def test_an_index_adds_the_same_few_statements_to_a_check_of_any_log(tmp_path: Path, count: int) -> None:
    store = await open_store(tmp_path / "s.db")
    await fill(store, "s", count)
    without = await count_statements_of_a_check(store)
    await search_both(store)
    assert await count_statements_of_a_check(store) <= without + 10
    await store.close()


async def test_a_check_of_an_index_analyses_no_message(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnesis.store.sqlite.fulltext.build_index_entry", lambda message: 1 / 0)
    store = await open_store(Path(shutil.copy(indexed, tmp_path)))
    assert await store.check() == []
    await store.close()


def test_every_table_of_the_index_is_flipped(indexed: Path) -> None:
    assert set(search_tables(indexed)) == {
        *("search_rows", "search_speakers", "search_state", "search_blocks", "search_vectors"),
        *(f"{table}_{part}" for table in ("search_words", "search_trigrams") for part in ("data", "idx", "config")),
    }


@pytest.mark.parametrize("position", [0, 10**9])
async def test_a_flipped_bit_of_the_index_is_found_and_mended(indexed: Path, tmp_path: Path, position: int) -> None:
    unseen, unmended = [], []
    for table, columns in search_tables(indexed).items():
        for column in columns:
            flip = Flip(table, column, position, 9)
            path = tmp_path / "copy.db"
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            shutil.copyfile(indexed, path)
            if not flip.apply(path):
                continue
            store = await open_store(path)
            unseen += [] if await store.check() else [flip]
            await store.reindex()
            await search_both(store)
            unmended += [(flip, await store.check())] if await store.check() else []
            await store.close()
    assert unseen == []
    assert unmended == []


@pytest.mark.parametrize("table", ["search_words_data", "search_trigrams_data"])
async def test_a_search_replaces_a_damaged_index_first(
    indexed: Path, tmp_path: Path, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copy(indexed, tmp_path))
    intact = await open_store(indexed)
    mode = "words" if "words" in table else "substring"
    expected = [hit.message_id for hit in (await intact.search(Search("word3", mode=mode))).hits]
    await intact.close()
    assert Flip(table, "block", 10**9, 100).apply(path)
    store = await open_store(path)
    with caplog.at_level(logging.WARNING):
        assert [hit.message_id for hit in (await store.search(Search("word3", mode=mode))).hits] == expected
    assert "built again" in caplog.text
    assert await store.check() == []
    await store.close()


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TABLE search_rows",
        "DROP TABLE search_words_data",
        "DROP TABLE search_words_config",
        "DROP TABLE search_words",
        "DROP TABLE search_vocabulary",
        "DROP TABLE search_blocks",
        "UPDATE search_state SET words_seq = 3",
        "UPDATE search_words_config SET v = 99",
        "DELETE FROM search_words_data WHERE id = 10",
    ],
)
async def test_a_search_works_whatever_was_done_to_the_index(indexed: Path, tmp_path: Path, harm: str) -> None:
    path = Path(shutil.copy(indexed, tmp_path))
    connection = sqlite3.connect(path)
    connection.execute(harm)
    connection.commit()
    connection.close()
    store = await open_store(path)
    findings = await store.check()
    assert findings
    assert all("mnesis reindex" in finding.fix for finding in findings if finding.check in ("search", "schema"))
    assert len((await store.search(Search("word3", "s"))).hits) > 0
    await store.reindex()
    assert await store.check() == []
    await store.close()


async def test_checksums_follow_progress_purging_and_merging(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "s.db")
    for number in range(6):
        await fill(store, f"s{number}", 40 + 100 * (number % 2))
        await search_both(store)
        if number % 2:
            await store.purge(f"s{number - 1}")
        await store.database.write(merge_step, True)
        assert await store.check() == []
    for number in range(20):
        await fill(store, "s5", 2)
        await store.search(Search(f"word{number}"))
    assert await store.check() == []
    assert "search_words_data" not in tables(tmp_path / "s.db")
    await store.close()


async def test_an_index_ends_where_a_session_has_lost_its_name(indexed: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(indexed, tmp_path))
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER sessions_refuse_delete")
    connection.execute("DELETE FROM sessions WHERE id = 's'")
    connection.commit()
    connection.close()
    store = await open_store(path)
    await store.reindex()
    await search_both(store)
    assert {hit.session_id for hit in (await store.search(Search("word3"))).hits} == {"t"}
    await store.close()
