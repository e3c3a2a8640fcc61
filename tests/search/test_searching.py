"""Searching a store: what is found, in what order, page by page; the index is made and kept by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnesis.errors import ConfigurationError, SessionNotFoundError, SummaryNotFoundError
from mnesis.models.context import Cover
from mnesis.models.message import Message, ToolPart, ToolResultPart, text_message
from mnesis.models.search import Search, SearchHit
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_leaf
from tests.support.searching import TOPICS, fill, ids, talk


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
