"""Searching a store: what is found, in what order, page by page; the index is made and kept by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from mnesis.errors import ConfigurationError, ReadOnlyStoreError, SessionNotFoundError, SummaryNotFoundError
from mnesis.models.context import Cover
from mnesis.models.message import Message, ToolPart, ToolResultPart, text_message
from mnesis.models.search import Search, SearchHit
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore, fulltext
from mnesis.testing.store_suite import make_compaction, make_leaf

TOPICS = ["the harbour was closed by ice", "my sister bakes bread", "the parser drops commas", "we walked to 東京都庁"]


async def fill(store: Store, session_id: str, texts: list[str]) -> None:
    await store.create_session(SessionRecord(id=session_id, model="m"))
    messages = [
        text_message("user" if n % 2 == 0 else "assistant", text, id=f"{session_id}-{n + 1}", created_at=n * 1_000)
        for n, text in enumerate(texts)
    ]
    await store.append(session_id, Append(messages))


def talk(count: int) -> list[str]:
    """Small talk, with a topic at every 25th message."""
    texts = [f"number {n} of the small talk, nothing of interest" for n in range(count)]
    for place, topic in enumerate(TOPICS):
        texts[10 + 25 * place] = topic
    return texts


async def ids(store: Store, search: Search) -> list[str]:
    return [hit.message_id for hit in await store.search(search)]


async def test_a_question_finds_the_original_in_other_forms_of_its_words(store: Store) -> None:
    await fill(store, "s", talk(100))
    page = await store.search(Search("Which harbours are closing?", "s"))
    hit = page[0]
    assert isinstance(hit, SearchHit)
    assert (hit.message_id, hit.session_id, hit.seq, hit.role, hit.created_at) == ("s-11", "s", 11, "user", 10_000)
    assert hit.excerpt == TOPICS[0]
    assert hit.score > page[-1].score > 0
    assert hit.summary_id is None


async def test_scripts_without_spaces_are_found(store: Store) -> None:
    await fill(store, "s", talk(100))
    assert (await ids(store, Search("東京", "s")))[0] == "s-86"


async def test_what_is_appended_after_a_search_is_found_by_the_next(store: Store) -> None:
    await fill(store, "s", talk(100))
    assert await ids(store, Search("zeppelin", "s")) == []
    await store.append("s", Append([text_message("user", "a zeppelin!", id="new")]))
    assert (await ids(store, Search("zeppelin", "s")))[0] == "new"


async def test_folding_changes_no_ranking_and_hits_say_what_covers_them(store: Store) -> None:
    await fill(store, "s", talk(100))
    before = await store.search(Search("bread of the harbour", "s", limit=20))
    await store.compact("s", make_compaction((), [Cover(1, 40, "sum")], [make_leaf("sum", 1, 40)]))
    after = await store.search(Search("bread of the harbour", "s", limit=20))
    assert [(h.message_id, h.score) for h in before] == [(h.message_id, h.score) for h in after]
    assert {h.summary_id for h in after if h.seq <= 40} == {"sum"}
    assert all(h.summary_id is None for h in after if h.seq > 40)


async def test_other_sessions_change_nothing(store: Store) -> None:
    await fill(store, "s", talk(100))
    before = await store.search(Search("harbour ice", "s"))
    await fill(store, "t", ["harbour ice " * 5] * 50)
    await store.search(Search("harbour ice", "t"))
    assert await store.search(Search("harbour ice", "s")) == before


async def test_a_search_through_every_session_finds_hits_in_each(store: Store) -> None:
    await fill(store, "s", talk(100))
    await fill(store, "t", ["nothing here", "an icy harbour"])
    found = await store.search(Search("harbour"))
    assert {hit.session_id for hit in found[:4]} == {"s", "t"}
    with pytest.raises(SummaryNotFoundError):
        await store.search(Search("harbour", summary_id="sum"))


async def test_pages_join_to_the_whole_also_while_the_log_grows(store: Store) -> None:
    await fill(store, "s", talk(100))
    whole = await ids(store, Search("small talk number interest", "s", limit=1_000))
    assert len(whole) > 90
    pages: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.search(Search("small talk number interest", "s", limit=7, cursor=cursor))
        pages += [hit.message_id for hit in page]
        cursor = page.next_cursor
        if cursor is None:
            break
        await store.append("s", Append([text_message("user", "more small talk of interest")]))
    assert pages == whole


@pytest.mark.parametrize("limit", [0, -1, True, "3", None])
async def test_a_limit_below_one_is_refused(store: Store, limit: int) -> None:
    await fill(store, "s", ["hello"])
    with pytest.raises(ConfigurationError, match="limit"):
        await store.search(Search("hello", "s", limit=limit))


async def test_a_huge_limit_gives_a_page(store: Store) -> None:
    await fill(store, "s", ["hello"] * 30)
    assert len(await store.search(Search("hello", "s", limit=10**9))) == 30


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1.2", "1.2.3", "-1.2.abc", "١.2.abc", "9" * 40 + ".1.x", "1.1." + "0" * 12]
)
async def test_a_tampered_cursor_is_refused(store: Store, cursor: str) -> None:
    await fill(store, "s", ["hello"])
    with pytest.raises(ConfigurationError, match="cursor"):
        await store.search(Search("hello", "s", cursor=cursor))


async def test_a_cursor_of_another_question_is_refused(store: Store) -> None:
    await fill(store, "s", ["hello there"] * 5)
    cursor = (await store.search(Search("hello", "s", limit=2))).next_cursor
    with pytest.raises(ConfigurationError, match="cursor"):
        await store.search(Search("there", "s", limit=2, cursor=cursor))


HOSTILE = [
    '"', '""', "'", "(", ")", "a AND", "NOT", "OR OR", "NEAR(a b)", "a NEAR/2 b", "text:hello", "*", "hello*", "^hello",
    "{", "-", "+", "\\", "\x00", "hello\x00", "\ud800", "🎉", "; DROP TABLE messages; --", "%", "_", " ", "a" * 100_000,
    "hello " * 20_000, "'" * 1_000, "the of and", "\u202e", "rowid", "search_words",
]  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE)
@pytest.mark.parametrize("mode", ["words", "substring"])
async def test_no_question_is_taken_for_syntax(store: Store, query: str, mode: str) -> None:
    await fill(store, "s", ["hello", "there"])
    await store.search(Search(query, "s", mode=mode))  # type: ignore[arg-type]  # given as text
    assert (await ids(store, Search("hello", "s")))[0] == "s-1"


async def test_an_unknown_session_is_not_found(store: Store) -> None:
    await fill(store, "s", ["hello"])
    for query in ("hello", ""):
        with pytest.raises(SessionNotFoundError):
            await store.search(Search(query, "other"))


async def test_a_summary_of_another_session_is_not_found(store: Store) -> None:
    await fill(store, "s", talk(100))
    await fill(store, "t", talk(100))
    await store.compact("t", make_compaction((), [Cover(1, 40, "sum")], [make_leaf("sum", 1, 40)]))
    with pytest.raises(SummaryNotFoundError):
        await store.search(Search("harbour", "s", summary_id="sum"))


async def test_filters_narrow_a_search(store: Store) -> None:
    await fill(store, "s", [f"the word {n}" for n in range(20)])
    call = ToolPart(tool_name="read_file", tool_call_id="c", input={"path": "word"})
    result = ToolResultPart(tool_call_id="c", tool_name="read_file", output="the word again")
    await store.append(
        "s",
        Append(
            [Message(id="call", role="assistant", parts=(call,)), Message(id="result", role="tool", parts=(result,))]
        ),
    )
    await store.compact("s", make_compaction((), [Cover(3, 6, "sum")], [make_leaf("sum", 3, 6)]))
    for mode in ("words", "substring"):

        def asked(mode: str = mode, **filters: object) -> Search:
            return Search("word", "s", limit=100, mode=mode, **filters)  # type: ignore[arg-type]  # given by name

        assert set(await ids(store, asked(role="tool"))) == {"result"}
        assert set(await ids(store, asked(tool="read_file"))) == {"call", "result"}
        assert await ids(store, asked(tool="read")) == []
        assert set(await ids(store, asked(after=3_000, before=5_000))) == {"s-4", "s-5"}
        assert set(await ids(store, asked(summary_id="sum"))) == {"s-3", "s-4", "s-5", "s-6"}
        assert set(await ids(store, asked(summary_id="sum", role="user"))) == {"s-3", "s-5"}


@pytest.mark.parametrize("query", ["Foo_bar(", "o_b", "r(", "京都", "庁", "é"])
async def test_substrings_are_found_as_they_stand_newest_first(store: Store, query: str) -> None:
    texts = ["nothing", "def foo_bar(x)", "foo bar", "it has 東京都庁 in it", "CAFÉ", "FOO_BAR(1) again"]
    await fill(store, "s", texts)
    wanted = [f"s-{n + 1}" for n, text in enumerate(texts) if query.lower() in text.lower()]
    assert await ids(store, Search(query, "s", mode="substring")) == wanted[::-1] != []


async def test_both_stores_rank_alike(tmp_path: Path) -> None:
    stores = SqliteStore(tmp_path / "a.db"), MemoryStore()
    found = []
    for store in stores:
        await store.open()
        await fill(store, "s", talk(100))
        found.append(
            [await store.search(Search(query, "s")) for query in ("harbour", "bread", "parser commas", "talk")]
        )
        await store.close()
    assert found[0] == found[1]


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
    await store._database.write(
        lambda c: c.execute("UPDATE search_rows SET words = 99 WHERE key & 0xffffffff = 7") and None
    )
    (finding,) = await store.check()
    assert (finding.severity, finding.check) == ("warning", "search")
    await store.reindex()
    assert await store.check() == []
    await store._database.write(
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
    await store._database.write(lambda c: c.execute(harm) and None)
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
    monkeypatch.setattr(fulltext, "MAX_MESSAGES_RANKED_WHOLE", 10)
    monkeypatch.setattr(fulltext, "MAX_BLOCKS", 2)
    monkeypatch.setattr(fulltext, "MAX_KEYS_PER_WORD", 50)
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

    monkeypatch.setattr(store._database, "write", refused)
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
