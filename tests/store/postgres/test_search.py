"""A search finds the same messages in the same order as in an SQLite database."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from mnesis.models.context import Cover
from mnesis.models.message import Message, TextPart, ToolPart
from mnesis.models.search import Search, SearchPage
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.store.sqlite import SqliteStore
from mnesis.testing.store_samples import make_compaction, make_leaf, make_message

WORDS = [
    "harbour",
    "ice",
    "closed",
    "opened",
    "ship",
    "ships",
    "shipping",
    "captain",
    "Zürich",
    "naïve",
    "straße",
    "東京",
    "大阪",
    "привет",
    "running",
    "ran",
    "run",
    "getUserName",
    "snake_case",
    "ERR_CONN_42",
    "2024-05-17",
    "1,000",
    "10.5",
    "👩",
    "'quoted'",
    "a%b",
    "c_d",
    "e\\f",
    "İstanbul",
    "OR",
    "AND",
    "NEAR",
]
QUERIES = (
    *("harbour ice", "ships", "capptain", "harbor", "naive", "strasse", "東京", "привет", "username", "get user name"),
    *("ERR_CONN_42", "1000", "10.5", "👩", '"quoted" OR AND NEAR(', "captain Ada", "a%b", "the of and", "", "zzz"),
    *(
        "what did Ada say in May about ice",
        "x" * 5_000,
        "harb",
        "İstanbul",
        "snake case",
        "ship captain harbour closed",
    ),
)
SUBSTRINGS = ("arbour", "UserN", "京", "a%b", "c_d", "e\\f", "İst", '"', "ship", "ERR_CONN_42", "zzz", "g ra")


def build_log(seed: int, count: int) -> list[Message]:
    """Build messages whose texts repeat words, with speakers, tools and times."""
    choose = random.Random(seed)
    messages: list[Message] = []
    for number in range(count):
        text = " ".join(choose.choices(WORDS, k=choose.randint(1, 30)))
        if number % 5 == 0:
            text = f"{choose.choice(['Ada', 'Bo'])}: {text}"
        message = make_message(
            choose.choice(["user", "assistant"]),
            text,
            id=f"m{seed}-{number}",
            created_at=1_715_000_000_000 + number * 3_600_000,
        )
        if number % 11 == 0:
            call = ToolPart(tool_name=choose.choice(["read", "grep"]), tool_call_id=f"c{number}", output=text)
            message = message.model_copy(update={"role": "assistant", "parts": (TextPart(text="calls"), call)})
        messages.append(message)
    return messages


@pytest.fixture
async def stores(store: Store, tmp_path: Path) -> list[Store]:
    """Two stores with the same three sessions, one of which is folded."""
    sqlite = SqliteStore(tmp_path / "s.db")
    await sqlite.open()
    for each in (sqlite, store):
        for number, session_id in enumerate("abc"):
            await each.create_session(SessionRecord(id=session_id, model="m"))
            await each.append(session_id, Append(build_log(number, 150)))
        await each.compact("a", make_compaction((), [Cover(1, 60, "sum")], [make_leaf("sum", 1, 60)]))
    yield [sqlite, store]  # type: ignore[misc]  # a fixture that yields
    await sqlite.close()


async def both(stores: list[Store], search: Search) -> SearchPage:
    """Return the page that both stores agree on."""
    first, second = [await each.search(search) for each in stores]
    assert [replace(hit, score=round(hit.score, 9)) for hit in second] == [
        replace(hit, score=round(hit.score, 9)) for hit in first
    ]
    assert second.next_cursor == first.next_cursor
    return second


async def test_the_same_hits_come_in_the_same_order(stores: list[Store]) -> None:
    found = 0
    for query in QUERIES:
        for session_id in ("a", None):
            found += len(await both(stores, Search(query, session_id, limit=50)))
    assert found > 500


async def test_logs_of_long_messages_and_of_notes_are_ordered_alike(stores: list[Store]) -> None:
    rng = random.Random(11)
    for store in stores:
        for session_id, words, pause in (("long", 300, 1_000), ("notes", 12, 86_400_000)):
            await store.create_session(SessionRecord(id=session_id, model="m"))
            rng.seed(11)
            texts = [" ".join(rng.choices([*WORDS, *["filler"] * 100], k=words)) for _ in range(60)]
            messages = [
                make_message("user", text, id=f"{session_id}-{number}", created_at=number * pause)
                for number, text in enumerate(texts)
            ]
            await store.append(session_id, Append(messages))
    for session_id in ("long", "notes"):
        for query in ("captain of the harbour ship", "getUserName ERR_CONN_42", "ships running closed ice"):
            assert await both(stores, Search(query, session_id, limit=40))


async def test_substrings_are_found_alike(stores: list[Store]) -> None:
    found = 0
    for query in SUBSTRINGS:
        for session_id in ("b", None):
            found += len(await both(stores, Search(query, session_id, limit=100, mode="substring")))
    assert found > 300


async def test_filters_and_pages_select_alike(stores: list[Store]) -> None:
    middle = 1_715_000_000_000 + 70 * 3_600_000
    for search in (
        Search("harbour ice", "a", role="user"),
        Search("ship", None, tool="grep"),
        Search("ship", "b", after=middle),
        Search("ship", "b", before=middle - 0.5),
        Search("harbour", "a", summary_id="sum"),
        Search("harbour", "a", mode="substring", role="assistant"),
    ):
        assert len(await both(stores, search)) > 0
    page = await both(stores, Search("ship harbour", limit=7))
    while page.next_cursor is not None:
        page = await both(stores, Search("ship harbour", limit=7, cursor=page.next_cursor))


async def test_a_word_of_a_megabyte_is_indexed_and_found(store: Store) -> None:
    await store.create_session(SessionRecord(id="s", model="m"))
    await store.append("s", Append([make_message("user", "x" * 1_000_000 + " harbour"), make_message("user", "other")]))
    assert (await store.search(Search("harbour", "s")))[0].seq == 1
    assert [hit.seq for hit in await store.search(Search("x" * 500, "s", mode="substring"))] == [1]


async def test_a_purge_leaves_the_index_of_other_sessions(stores: list[Store]) -> None:
    before = await both(stores, Search("harbour", "b"))
    for each in stores:
        await each.purge("a")
    assert list(await both(stores, Search("harbour", "b"))) == list(before)
    assert {hit.session_id for hit in await both(stores, Search("harbour", limit=99))} == {"b", "c"}
