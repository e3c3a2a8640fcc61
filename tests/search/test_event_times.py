"""Questions that use an event as a time: the message about the event is found, and its time counts."""

from __future__ import annotations

import pytest

from mnesis.models.message import text_message
from mnesis.models.search import Search
from mnesis.models.session import SessionRecord
from mnesis.search.event_times import find_event
from mnesis.store.base import Append, Store

DAY = 86_400_000


@pytest.mark.parametrize(
    ("query", "event", "is_before"),
    [
        ("What did we eat before the trip?", "trip", True),
        ("After the trip to Rome, what did we buy?", "trip to Rome", False),
        ("Was aßen wir vor der Reise?", "Reise", True),
        ("Qu'avons-nous mangé avant le voyage ?", "voyage", True),
        ("¿Qué comimos después del viaje?", "viaje", False),
        ("旅行之前我们讨论了什么?", "旅行", True),
        ("What did we buy after signing the lease?", "signing the lease", False),
        ("Where did I live before I moved to Lisbon?", "moved to Lisbon", True),
    ],
)
def test_an_event_is_read_in_five_languages(query: str, event: str, is_before: bool) -> None:
    found = find_event(query)
    assert found is not None
    assert (found.text, found.is_before) == (event, is_before)


@pytest.mark.parametrize(
    "query",
    [
        "Who looked after the cat?",
        "before lunch",
        "after all",
        "before you go",
        "after everything in the house",
        "Wer sucht nach dem Buch?",
        "",
    ],
)
def test_what_is_no_event_is_left_alone(query: str) -> None:
    assert find_event(query) is None


async def store_talk(store: Store) -> None:
    await store.create_session(SessionRecord(id="s", model="m"))
    said = {
        "early": (1, "We cooked lentils for dinner."),
        "trip": (5, "Today the trip to Lisbon begins."),
        "late": (9, "We cooked noodles for dinner."),
        "end": (12, "The garden needs water."),
    }
    messages = tuple(text_message("user", t, id=i, created_at=d * DAY) for i, (d, t) in said.items())
    await store.append("s", Append(messages))


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("What did we cook for dinner before the trip to Lisbon?", "early"),
        ("What did we cook for dinner after the trip to Lisbon?", "late"),
    ],
)
async def test_messages_before_or_after_the_event_are_preferred(store: Store, question: str, first: str) -> None:
    await store_talk(store)
    hits = [hit.message_id for hit in await store.search(Search(question, "s"))]
    assert next(i for i in hits if i in ("early", "late")) == first


async def test_a_question_only_about_the_time_before_an_event_returns_that_time(store: Store) -> None:
    await store_talk(store)
    assert [hit.message_id for hit in await store.search(Search("What happened after the trip?", "s"))] == [
        "late",
        "end",
    ]
    assert [hit.message_id for hit in await store.search(Search("What happened before the trip?", "s"))] == ["early"]


async def test_an_event_that_nobody_mentioned_changes_nothing(store: Store) -> None:
    await store_talk(store)
    plain = [hit.message_id for hit in await store.search(Search("What about the dinner?", "s"))]
    assert [hit.message_id for hit in await store.search(Search("dinner before the coronation", "s"))] == plain
