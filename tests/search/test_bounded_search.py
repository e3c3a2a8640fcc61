"""The cost of a search is bounded: by statements and rows, not by clocks. So it is for bad questions and bad logs."""

from __future__ import annotations

import base64
import random
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mnesis import MnesisSession
from mnesis.models.search import Search
from mnesis.search import hits, passage_order, snippets
from mnesis.search.analysis import MAX_QUERY_CHARS, MAX_QUERY_TERMS, REPETITIONS, query_terms
from mnesis.store.base import Store
from mnesis.store.memory_index import InMemoryIndex
from mnesis.store.sqlite import SqliteStore, candidates, fulltext, ranked_search
from mnesis.store.sqlite.search_scope import LogRange, SearchScope
from mnesis.testing.store_samples import make_message
from tests.support.searching import fill, ids

WORDS = [f"word{number}" for number in range(2_000)]
QUESTIONS = {
    "rare": "word1999 word1998 word1900 word1800",
    "common": "word0 word1 word2 word3 word4 word5",
    "absent": "zebra quagga okapi giraffe gnu kudu eland oryx bongo",
    "100 kB": "word7 " * 17_000,
    "100 kB of other words": " ".join(f"other{number}" for number in range(10_000)),
    "stop words only": "what is it that the of and to be or not to be",
    "mixed scripts": "where is 東京 Москва القاهرة ירושלים กรุงเทพ ΑΘΗΝΑ word7 😀",
    "syntax": "word7 NEAR(word8, 2) AND NOT \"word9* ^ {a b} : word1 OR ( - + \\ ' ; --",
    "controls": "\x00\x1b[31m \ud800 \u202e \ufeff word7",
    "base64": base64.b64encode(bytes(range(256)) * 200).decode(),
}
MAX_STATEMENTS = 320
"""Eight words that match nothing are looked up in up to 40 other ways each; all words of a question are looked up together."""
MAX_INDEX_BYTES = 8_000_000
"""Of memory, for the keys and rows of one search: 128 words with 3,000 messages each would be the most."""


def big_index(count: int) -> InMemoryIndex:
    """An index of `count` messages whose words follow Zipf's law."""
    rng = random.Random(1)
    weights = [1 / (rank + 1) for rank in range(len(WORDS))]
    index = InMemoryIndex()
    messages = (make_message("user", " ".join(rng.choices(WORDS, weights, k=12))) for _ in range(count))
    fulltext.add_words(
        index._open_connection(), 1, (each.model_copy(update={"seq": n}) for n, each in enumerate(messages, 1)), count
    )
    return index


@pytest.fixture(scope="module")
def indexes() -> dict[int, InMemoryIndex]:
    return {count: big_index(count) for count in (5_000, 10_000)}


def count_work(index: InMemoryIndex, count: int, question: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Return how many statements a question sends and how many messages it ranks."""
    statements: list[str] = []
    ranked = [0]
    rank: Callable[..., list[tuple[int, float]]] = ranked_search.rank

    def count_messages(messages: list[object], *rest: object) -> list[tuple[int, float]]:
        ranked[0] += len(messages)
        return rank(messages, *rest)

    monkeypatch.setattr(ranked_search, "rank", count_messages)
    connection = index._open_connection()
    # Statements that the full-text tables send themselves are traced as comments.
    connection.set_trace_callback(lambda statement: statement.startswith("--") or statements.append(statement))
    scope = SearchScope((LogRange(1, "s", count),))
    ranked_search.rank_messages(connection, scope, Search(question), None, lambda keys: {})
    connection.set_trace_callback(None)
    return len(statements), ranked[0]


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_large_log_costs_a_search_no_more_rows(
    indexes: dict[int, InMemoryIndex], question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = [count_work(index, count, question, monkeypatch) for count, index in indexes.items()]
    for statements, ranked in work:
        assert statements <= MAX_STATEMENTS
        assert ranked <= candidates.MAX_BLOCKS << candidates.BLOCK_BITS


def test_a_question_of_a_few_words_sends_few_statements(
    indexes: dict[int, InMemoryIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    statements, ranked = count_work(indexes[10_000], 10_000, QUESTIONS["rare"], monkeypatch)
    assert statements <= 1 + len(REPETITIONS) + 2  # the words, how often they are repeated, rows and speakers
    assert ranked <= (
        (candidates.MAX_COMPLETE_BLOCKS << candidates.BLOCK_BITS)
        + candidates.MAX_SINGLE_MESSAGES
        + 2 * candidates.MAX_SINGLES_WITH_NEIGHBOURS
    )
    statements, _ = count_work(indexes[10_000], 10_000, QUESTIONS["common"], monkeypatch)
    assert (
        statements <= 2 * (1 + len(REPETITIONS)) + 2
    )  # words that are too frequent are looked up again where they count


async def test_a_search_of_an_indexed_session_reads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await fill(store, "s", ["word7 and more"] * 5)
    await store.search(Search("word7", "s"))
    reads = []
    read = store.database.read
    monkeypatch.setattr(store.database, "read", lambda step, *rest: reads.append(step) or read(step, *rest))
    assert len(await store.search(Search("word7", "s"))) == 5
    assert len(reads) == 1
    await store.close()


@pytest.mark.parametrize("mode", ["words", "substring"])
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
async def test_no_question_raises_or_floods(store: Store, question: str, mode: str) -> None:
    await fill(store, "s", [f"{WORDS[number]} alone" for number in range(40)])
    page = await store.search(Search(question, "s", limit=100, mode=mode))  # type: ignore[arg-type]  # given as text
    asked = {form for forms in query_terms(question) for form in forms}
    # A neighbour of a match is a hit too, one before and two after it, and so is what a word that matches nothing resembles.
    assert len(page) <= 4 * max(len(asked & set(WORDS[:40])), 2)


def test_the_vocabulary_is_read_once_for_all_words_that_match_nothing(indexes: dict[int, InMemoryIndex]) -> None:
    connection = indexes[5_000]._open_connection()
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    scope = SearchScope((LogRange(1, "s", 5_000),))
    ranked_search.rank_messages(connection, scope, Search(QUESTIONS["absent"]), None, lambda keys: {})
    connection.set_trace_callback(None)
    assert sum(" FROM search_vocabulary " in statement for statement in statements) == 1


def test_places_inside_words_are_bounded() -> None:
    text = "xword7" * 500_000 + " word7"
    few_terms, many_terms = [("word7",)], [("word7",), *((f"other{number}",) for number in range(127))]
    assert [match.start for match in snippets.find_matches(text[-300_000:], few_terms)] == [299_995]
    assert snippets.find_matches(text, many_terms) == []


def test_only_the_beginning_of_a_long_question_is_read() -> None:
    terms = query_terms("word7 " + "x" * 10 * MAX_QUERY_CHARS)
    assert terms[0] == ("word7",)
    assert sum(len(form) for forms in terms for form in forms) <= MAX_QUERY_CHARS
    assert len(query_terms(QUESTIONS["100 kB of other words"])) == MAX_QUERY_TERMS


async def test_base64_is_not_found_by_ordinary_words(store: Store) -> None:
    rng = random.Random(2)
    blobs = [base64.b64encode(rng.randbytes(30_000)).decode() for _ in range(6)]
    texts = [blobs[number // 2] if number % 2 else f"note {number}" for number in range(12)]
    await fill(store, "s", [*texts, *["nothing here"] * 12, "the parser drops commas"])
    assert (await ids(store, Search("Which parser drops commas?", "s")))[0] == "s-25"
    assert await ids(store, Search("unrelated question about zebras", "s")) == []
    assert (await ids(store, Search(blobs[3][:60], "s", mode="substring"))) == ["s-8"]


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_ranking_a_large_log_takes_bounded_memory(indexes: dict[int, InMemoryIndex], question: str) -> None:
    scope = SearchScope((LogRange(1, "s", 10_000),))
    connection = indexes[10_000]._open_connection()
    query_terms.cache_clear()
    tracemalloc.start()
    ranked_search.rank_messages(connection, scope, Search(question), None, lambda keys: {})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MAX_INDEX_BYTES


async def test_one_huge_message_is_searched_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"line {number} is ordinary {'=' * 150}" for number in range(60_000)]
    lines[50_000] = "line 50000 reports a cracked flange"
    text = "\n".join(lines)
    assert len(text) > 10_000_000
    examined = [0]
    find_matches = passage_order.find_matches

    def count_characters(text: str, terms: Sequence[Sequence[str]]) -> list[snippets.TermMatch]:
        examined[0] += min(len(text), snippets.MAX_SCANNED_CHARS)
        return find_matches(text, terms)

    monkeypatch.setattr(passage_order, "find_matches", count_characters)
    monkeypatch.setattr(hits, "find_matches", count_characters)
    async with MnesisSession.open(model=None, db_path=tmp_path / "s.db", system_prompt="") as session:
        await session.record("Read the log.", "Here it is.")
        await session.append([make_message("user", text)])
        await session.record("Thanks.", "Welcome.")
        await session.search("flange")  # indexes
        for question in ("Which line reports the cracked flange?", "line " * 20_000):
            examined[0] = 0
            tracemalloc.start()
            page = await session.search(question)
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert all(len(hit.excerpt) <= snippets.MAX_EXCERPT_CHARS + 2 for hit in page)
            assert peak_bytes < 6 * len(text)
            # Once for the order of the hits, and once for the excerpt.
            assert 0 < examined[0] <= passage_order.MAX_EXAMINED_CHARS + snippets.MAX_SCANNED_CHARS + 1_000
        page = await session.search("Which line reports the cracked flange?")
        assert page[0].seq == 3
        assert "flange" in page[0].excerpt or len(text) > snippets.MAX_SCANNED_CHARS


def test_excerpts_examine_a_bounded_part_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word7 " * 2_000_000
    examined = snippets.find_matches(text, [("word7",), ("word8",)])
    assert len(examined) <= 2 * snippets.MAX_MATCHES_PER_TERM
    assert all(match.start < snippets.MAX_SCANNED_CHARS for match in examined)
