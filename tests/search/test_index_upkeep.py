"""The search index is kept up to date, checked and rebuilt."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mnesis.errors import ConfigurationError, ReadOnlyStoreError
from mnesis.models.message import text_message
from mnesis.models.search import Search
from mnesis.store.base import Append, Store
from mnesis.store.sqlite import SqliteStore, candidates, fulltext, ranked_search
from mnesis.store.sqlite.search import merge_index
from mnesis.store.sqlite.search_blocks import level_count
from mnesis.store.sqlite.search_scope import key_of
from mnesis.testing.store_samples import make_message
from tests.support.searching import fill, ids, talk


def bytes_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm"))


async def test_a_purged_session_is_found_no_more_and_leaves_no_word(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", ["the unmistakable xylotomist"] * 3)
    await fill(store, "t", ["hello"])
    for mode in ("words", "substring"):
        assert len(await store.search(Search("xylotomist", mode=mode))) == 3  # type: ignore[arg-type]  # given as text
    await store.purge("s")
    assert await ids(store, Search("xylotomist")) == []
    assert await ids(store, Search("hello")) == ["t-1"]
    assert b"xylotom" not in bytes_in(tmp_path)
    await store.close()


async def test_appending_never_touches_the_index(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", talk(100))
    await store.close()
    connection = sqlite3.connect(tmp_path / "s.db")
    assert connection.execute("SELECT count(*) FROM search_rows").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM search_state").fetchone() == (0,)
    connection.close()


async def test_the_doctor_sees_an_index_that_differs_and_reindexing_mends_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", talk(100))
    before = await store.search(Search("harbour", "s"))
    assert await store.check() == []
    await store.database.write(
        lambda c: c.execute("UPDATE search_rows SET words = 99 WHERE key & 0xffffffff = 7") and None
    )
    (finding,) = await store.check()
    assert (finding.severity, finding.check) == ("warning", "search")
    await store.reindex()
    assert await store.check() == []
    await store.database.write(
        lambda c: c.execute("INSERT INTO search_words (search_words) VALUES ('delete-all')") and None
    )
    assert [finding.check for finding in await store.check()] == ["search"]
    await store.reindex()
    assert await store.search(Search("harbour", "s")) == before
    await store.close()


@pytest.mark.parametrize(
    "harm",
    [
        "INSERT INTO search_trigrams (search_trigrams) VALUES ('delete-all')",
        "UPDATE search_state SET words_seq = 1000000000000000",
        "UPDATE search_state SET trigrams_seq = 101",
        "DELETE FROM search_rows WHERE key & 0xffffffff = 100",
    ],
)
async def test_the_doctor_looks_at_every_part_of_the_index(tmp_path: Path, harm: str) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", [*talk(98), "会議は来週の火曜日です", "\U0001f680 \0 ÄÖÜ ſ İ"])
    await store.search(Search("harbour", "s"))
    before = await store.search(Search("HARBOUR", "s", mode="substring"))
    assert await store.check() == []
    await store.database.write(lambda c: c.execute(harm) and None)
    assert [finding.check for finding in await store.check()] == ["search"]
    await store.reindex()
    assert await store.check() == []
    assert await store.search(Search("HARBOUR", "s", mode="substring")) == before
    assert await store.check() == []
    await store.close()


@pytest.mark.parametrize(
    "text",
    [
        "straßeSTRASSE",
        "café crème",
        "e\u0301clair",
        "ſession ﬀoffice",
        "abcẞdef",
        "①②abc Ⅷabc",
        "ab\u212acdefg",
        "x İstanbul",
    ],
)
async def test_the_doctor_finds_nothing_wrong_with_words_of_any_language(tmp_path: Path, text: str) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", [text, f"{text} and {text}"])
    for mode in ("words", "substring"):
        await store.search(Search("harbour", "s", mode=mode))  # type: ignore[arg-type]  # one of the two
    assert await store.check() == []
    for query in (text, text.lower()):
        assert len(await store.search(Search(query, "s", mode="substring"))) == 2
    await store.close()


async def test_what_stands_after_a_nul_is_found(store: Store) -> None:
    await fill(store, "s", ["a\0b zebra crossing", "nothing here"])
    assert (await ids(store, Search("zebra", "s")))[0] == "s-1"
    assert await ids(store, Search("zebra", "s", mode="substring")) == ["s-1"]
    assert await ids(store, Search("b zebra", "s", mode="substring")) == ["s-1"]
    assert await ids(store, Search("a\0b zebra", "s", mode="substring")) == ["s-1"]


async def test_an_index_of_other_rules_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", talk(100))
    before = await store.search(Search("harbour", "s"))
    monkeypatch.setattr(fulltext, "ANALYSIS_VERSION", fulltext.ANALYSIS_VERSION + 1)
    assert await store.search(Search("harbour", "s")) == before
    await store.close()


async def test_large_logs_are_ranked_in_part_and_still_find_what_is_rare(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = talk(400)
    texts[333] = "the lighthouse keeper spoke of small talk"
    await fill(store, "s", texts)
    monkeypatch.setattr(ranked_search, "MAX_MESSAGES_RANKED_WHOLE", 10)
    monkeypatch.setattr(candidates, "MAX_BLOCKS", 2)
    monkeypatch.setattr(ranked_search, "MAX_KEYS_PER_WORD", 50)
    monkeypatch.setattr(candidates, "MAX_KEYS_PER_WORD", 50)
    page = await store.search(Search("what did the lighthouse keeper say in the small talk", "s", limit=100))
    assert page[0].message_id == "s-334"
    assert len({hit.seq >> 5 for hit in page}) <= 2
    assert set(await ids(store, Search("small talk", "s", role="user", limit=5))) <= {
        f"s-{n}" for n in range(1, 401, 2)
    }


async def test_a_read_only_database_is_searched_as_far_as_it_is_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", talk(100))
    await store.search(Search("harbour", "s"))
    await store.append("s", Append([text_message("user", "a zeppelin over the harbour", id="new")]))

    async def refused(*_: object) -> None:
        raise ReadOnlyStoreError("no", db_path="s.db")

    monkeypatch.setattr(store.database, "write", refused)
    found = await ids(store, Search("harbour", "s"))
    assert "s-11" in found
    assert "new" not in found
    await store.close()


async def test_a_damaged_message_is_passed_over_and_the_others_are_found(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", talk(100))
    await store.close()
    raw = sqlite3.connect(tmp_path / "s.db")
    trigger = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'messages_refuse_update'").fetchone()[0]
    raw.execute("DROP TRIGGER messages_refuse_update")
    raw.execute("UPDATE messages SET parts = '\"changed\"' WHERE seq = 3")
    raw.execute(trigger)
    raw.commit()
    raw.close()
    await store.open()
    assert (await ids(store, Search("harbour", "s")))[0] == "s-11"
    await store.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"query": 1},
        {"query": None},
        {"query": b"x"},
        {"query": "x", "mode": "fuzzy"},
        {"query": "x", "role": 5},
        {"query": "x", "tool": ["read"]},
        {"query": "x", "tool": "\ud800"},
        {"query": "x", "after": "yesterday"},
        {"query": "x", "after": 2**70},
        {"query": "x", "before": -(2**70)},
        {"query": "x", "before": float("nan")},
    ],
)
async def test_what_is_no_search_is_refused(store: Store, wrong: dict[str, object]) -> None:
    await fill(store, "s", ["hello"])
    with pytest.raises(ConfigurationError):
        await store.search(Search(session_id="s", **wrong))  # type: ignore[arg-type]  # wrong on purpose


async def test_many_searches_at_once_beside_appends_index_everything_once(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "s.db") for _ in range(2)]
    for store in stores:
        await store.open()
    await fill(stores[0], "s", talk(700))
    searches = [store.search(Search("harbour", "s")) for store in stores for _ in range(5)]
    appends = [stores[n % 2].append("s", Append([text_message("user", f"late harbour {n}")])) for n in range(10)]
    await asyncio.gather(*searches, *appends)
    found = [hit.seq for hit in await stores[1].search(Search("harbour", "s", limit=100))]
    assert set(range(701, 711)) <= set(found)
    assert await stores[0].check() == []
    for store in stores:
        await store.close()


async def test_a_damaged_index_does_not_stop_a_purge(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "gone", talk(100))
    await fill(store, "kept", talk(100))
    before = [hit.message_id for hit in await store.search(Search("harbour", "kept"))]
    await store.search(Search("harbour", "gone"))
    await store.database.write(
        lambda c: c.execute("UPDATE search_words_data SET block = x'ffffffff' WHERE id > 10") and None
    )
    await store.purge("gone")
    assert [hit.message_id for hit in await store.search(Search("harbour", "kept"))] == before
    assert await store.check() == []
    await store.close()


async def test_any_number_of_merges_leaves_a_working_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each merge adds levels to the index, and SQLite 3.40 calls an index of more than 2,000 levels malformed."""
    monkeypatch.setattr("mnesis.store.sqlite.unindex.MAX_LEVELS", 20)

    def add(connection: sqlite3.Connection, key: int) -> int:
        connection.execute("INSERT INTO search_words (rowid, text) VALUES (?, 'a word')", (key,))
        return level_count(connection)

    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", talk(600))
    before = [hit.message_id for hit in await store.search(Search("harbour", "s"))]
    await store.save_vectors("m", {key_of(1, 1): b"v" * 8})
    levels = []
    for number in range(60):
        levels.append(await store.database.write(add, 9_000_000_000_000 + number))
        await merge_index(store.database)
        assert [hit.message_id for hit in await store.search(Search("harbour", "s"))] == before
    assert max(levels) < 30
    assert max(levels) > 20 or sqlite3.sqlite_version_info > (3, 40, 1)  # newer ones may add fewer
    assert await store.database.read(lambda c: c.execute("SELECT count(*) FROM search_vectors").fetchone()[0]) == 1
    assert not caplog.records  # nothing was damaged
    await store.close()


async def test_the_index_of_many_new_messages_is_merged(tmp_path: Path) -> None:
    def read_number(statement: str) -> int:
        with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
            return int(connection.execute(statement).fetchone()[0])

    segments = "SELECT count(DISTINCT segid) FROM search_words_idx"

    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", talk(1_500))
    assert len(await store.search(Search("harbour", "s"))) > 1
    assert read_number(segments) == 1
    assert read_number("PRAGMA freelist_count") == 0, "pages that the merge left are returned to the file system"
    await store.append("s", Append([make_message("user", f"number {n}") for n in range(300)]))
    await store.search(Search("harbour", "s"))
    assert read_number(segments) == 3
    assert await store.check() == []
    await store.close()
