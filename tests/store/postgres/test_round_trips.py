"""Frequent calls wait for the server once, and what they assume is checked by the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mnesis.errors import CorruptStoreError
from mnesis.models.context import Cover
from mnesis.models.message import DataPart, Message
from mnesis.models.session import SessionRecord
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import make_compaction, make_leaf, make_message, make_turn, store_conversation

pytest.importorskip("psycopg")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that transactions send, and "wait" for each answer they read."""
    from mnesis.store.postgres.transaction import Answer, Transaction

    steps: list[str] = []
    send, row, rows = Transaction.send, Answer.row, Answer.rows
    monkeypatch.setattr(Transaction, "send", lambda self, name, *a: (steps.append(name), send(self, name, *a))[1])
    monkeypatch.setattr(Answer, "row", lambda self: (steps.append("wait"), row(self))[1])
    monkeypatch.setattr(Answer, "rows", lambda self: (steps.append("wait"), rows(self))[1])
    return steps


@pytest.fixture
async def other(url: str, store: Store) -> AsyncIterator[Any]:
    """A second store of the same schema, as another process has it."""
    from mnesis.store.postgres import PostgresStore

    other = PostgresStore(url)
    await other.open()
    yield other
    await other.close()


FAST_APPEND = ["append_to_known", "notify", "wait"]


async def test_an_append_after_another_waits_for_the_server_once(store: Store, steps: list[str]) -> None:
    await store_conversation(store, 1)
    for number in range(2):
        steps.clear()
        await store.append("s", make_turn(5 + number))
        assert steps == FAST_APPEND
    assert await store.check() == []


async def test_writes_of_others_are_seen_before_an_append(store: Store, other: Store, steps: list[str]) -> None:
    await store_conversation(store, 2)
    changes: list[Any] = [
        lambda: other.append("s", make_turn(7)),
        lambda: other.pin("s", 4),
        lambda: other.update_session("s", title="t"),
        lambda: other.compact("s", make_compaction((), [Cover(1, 2, "one")], [make_leaf("one", 1, 2)])),
        lambda: store.hide("s", 3, 3),
    ]
    for number, change in enumerate(changes, 10):
        await change()
        steps.clear()
        appended = await store.append("s", make_turn(number))
        assert appended.is_new
        assert "append_messages" in steps or number == 14  # its own changes are known
    assert [message.seq for message in await store.messages("s")] == list(
        range(1, (await store.session("s")).last_seq + 1)
    )
    assert (await store.session("s")).title == "t"
    assert await store.check() == []


async def test_a_repeated_append_stores_nothing(store: Store) -> None:
    await store_conversation(store, 1)
    messages = [make_message("user", id="m1"), make_message("assistant", id="m2")]
    first = await store.append("s", Append(messages, ends_turn=True))
    again = await store.append("s", Append(messages, ends_turn=True))
    assert (first.is_new, again.is_new) == (True, False)
    assert [message.seq for message in again.messages] == [message.seq for message in first.messages]
    assert (await store.session("s")).last_seq == 4
    assert await store.check() == []


async def test_an_append_does_not_hide_that_accounts_were_changed(store: Store, admin: Any, url: str) -> None:
    from mnesis.database_url import DatabaseURL

    await store_conversation(store, 1)
    admin.execute(f"UPDATE {DatabaseURL(url).schema}.accounts SET usage_input = usage_input + 1")
    with pytest.raises(CorruptStoreError, match="accounts"):
        await store.append("s", make_turn(9))
    assert len(await store.messages("s")) == 2


async def test_a_purged_session_that_is_created_again_is_another_one(store: Store, other: Store) -> None:
    await store_conversation(store, 2)
    await other.purge("s")
    await other.create_session(SessionRecord(id="s", model="m"))
    appended = await store.append("s", make_turn(1))
    assert appended.messages[0].seq == 1
    assert len((await store.active_context("s")).items) == 2
    assert await store.check() == []


async def test_an_unchanged_context_costs_one_statement(store: Store, steps: list[str]) -> None:
    await store_conversation(store, 3)
    first = await store.active_context("s")
    steps.clear()
    assert await store.active_context("s") == first
    assert steps == ["session_since", "wait"]
    await store.append("s", make_turn(5))
    steps.clear()
    assert len((await store.active_context("s")).items) == 8
    assert steps == ["session_since", "wait"]


async def test_a_kept_context_shows_what_others_wrote(store: Store, other: Store) -> None:
    await store_conversation(store, 3)
    changes: list[Any] = [
        lambda: other.append("s", make_turn(7)),
        lambda: other.pin("s", 5),
        lambda: other.compact("s", make_compaction((), [Cover(1, 2, "one")], [make_leaf("one", 1, 2)])),
        lambda: other.hide("s", 3, 3),
        lambda: other.pin("s", 5, False),
        lambda: store.append("s", make_turn(8)),
    ]
    for change in changes:
        await store.active_context("s")
        await change()
        shown = await store.active_context("s")
        assert shown == await other.active_context("s")


async def test_readers_cannot_change_a_kept_context(store: Store) -> None:
    await store_conversation(store, 1)
    part = DataPart(kind="k", data={"n": [1]})
    await store.append("s", Append([Message(id="m", role="user", parts=(part,), extra={"e": [1]})]))
    shown = (await store.active_context("s")).items[-1]
    assert isinstance(shown, Message)
    shown.extra["e"].append(2)
    shown.parts[0].data["n"].append(2)  # type: ignore[union-attr]  # a DataPart
    again = (await store.active_context("s")).items[-1]
    assert isinstance(again, Message)
    assert again.extra == {"e": [1]}
    assert again.parts[0].data == {"n": [1]}  # type: ignore[union-attr]  # a DataPart


async def test_followers_read_new_turns_with_one_statement(store: Store, other: Store, steps: list[str]) -> None:
    await store_conversation(store, 1)
    position = await other.last_change()
    await store.append("s", make_turn(5))
    steps.clear()
    (change,) = await other.changes(after=position, limit=10)
    # A transaction of another test, which still runs, makes the store look for those that matter.
    assert steps[:2] == ["changes_page", "wait"]
    assert set(steps) <= {"changes_page", "wait", "snapshot", "change_horizon"}
    assert [event.name for event, _ in change.events].count("MESSAGE_CREATED") == 2


async def test_finishing_many_items_takes_two_round_trips(store: Store, steps: list[str]) -> None:
    from mnesis.models.run import ItemOutcome, RunSpec

    await store.begin_run(RunSpec("r", "llm_map", "print"))
    await store.add_items("r", 0, [str(number) for number in range(20)])
    claimed = await store.claim_items("r", "w", limit=20, now_ms=0, lease_ms=9, max_claims=3)
    steps.clear()
    await store.finish_items("r", "w", [ItemOutcome(item.index, "done", "1") for item in claimed])
    assert [step for step in steps if step != "wait"] == [
        *("lock_changes", "lock_run", "transaction_number", "run", "run_item_states"),
        *("save_run_items", "save_run", "insert_change", "notify"),
    ]
