"""The thread that listens reads the next changes before it wakes a follower, and for nobody only a few times."""

from __future__ import annotations

from typing import Any

import pytest

from mnesis.models.session import SessionRecord
from mnesis.store.base import Store
from mnesis.testing.store_samples import make_turn

pytest.importorskip("psycopg")


class Pages:
    """Answers like a transaction: each page is the number of pages that were read."""

    def __init__(self) -> None:
        self.count = 0

    def rows(self, name: str, parameters: dict[str, Any]) -> list[Any]:
        self.count += 1
        return [(self.count,)]


def test_a_page_is_used_once_and_only_for_what_was_expected() -> None:
    from mnesis.store.postgres.read_ahead import ReadAhead

    ahead, pages = ReadAhead(), Pages()
    ahead.load(pages)  # type: ignore[arg-type]  # only `rows` is used
    assert (pages.count, ahead.take(0, 10)) == (0, None)
    ahead.expect(5, 10)
    ahead.load(pages)  # type: ignore[arg-type]
    assert ahead.take(4, 10) is None
    ahead.expect(5, 10)
    assert ahead.take(5, 10) is None
    ahead.load(pages)  # type: ignore[arg-type]
    ahead.load(pages)  # type: ignore[arg-type]
    assert ahead.take(5, 10) == [(3,)]
    assert ahead.take(5, 10) is None


def test_nothing_is_read_for_a_follower_that_has_gone() -> None:
    from mnesis.store.postgres.read_ahead import MAX_UNUSED_PAGES, ReadAhead

    ahead, pages = ReadAhead(), Pages()
    ahead.expect(5, 10)
    for _ in range(3 * MAX_UNUSED_PAGES):
        ahead.load(pages)  # type: ignore[arg-type]
    assert pages.count == MAX_UNUSED_PAGES
    assert ahead.take(5, 10) is None
    ahead.expect(5, 10)
    ahead.load(pages)  # type: ignore[arg-type]
    assert ahead.take(5, 10) == [(MAX_UNUSED_PAGES + 1,)]


async def test_a_follower_that_is_woken_has_its_page_already(
    store: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnesis.store.postgres import PostgresStore
    from mnesis.store.postgres.database import PostgresDatabase

    writer: Store = PostgresStore(url)
    await writer.open()
    await writer.create_session(SessionRecord(id="s", model="m"))
    last = await store.last_change()
    version = await store.change_version()
    assert await store.changes(after=last, limit=10) == []
    asked: list[object] = []
    read = PostgresDatabase.read_one_statement

    def note(self: PostgresDatabase, *arguments: Any) -> Any:
        if arguments[-1] is None:  # with a horizon, a transaction of another test made it look again
            asked.append(arguments)
        return read(self, *arguments)

    monkeypatch.setattr(PostgresDatabase, "read_one_statement", note)
    await writer.append("s", make_turn(1))
    found: list[Any] = []
    looks = 0
    while not found:
        looks += 1
        await store.wait_for_change(version, 60)
        version = await store.change_version()
        found = await store.changes(after=last, limit=10)
    assert len(asked) < looks  # on a slow machine, another notification may come between a page and its use
    assert {event.name for change in found for event, _ in change.events} >= {"MESSAGE_CREATED", "SESSION_UPDATED"}
    await writer.close()
