"""What a connection has decoded already is not decoded again, and is never shown when the database holds something else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from mnesis.models.context import Cover
from mnesis.models.message import Message, TextPart, ToolPart, ToolResultPart
from mnesis.models.session import SessionRecord
from mnesis.store import context_cache
from mnesis.store.base import Append, Store
from mnesis.store.codec import DamagedValueError, encode_message
from mnesis.store.context_cache import CachedContext, ContextCache
from mnesis.store.memory import MemoryStore
from mnesis.store.sqlite import SqliteStore, context, log
from mnesis.testing.store_samples import make_compaction, make_leaf, make_message, make_turn
from tests.store.test_equivalence import SEQS, SESSIONS, Act, TwoStores, told
from tests.support.samples import sampled


class WritersOfOneFile(TwoStores):
    """Two connections, as two processes have them, take turns at one file. Both always show what the third store shows."""

    def create_stores(self) -> list[Store]:
        path = self.folder / "s.db"
        self.next_writer = 0
        return [SqliteStore(path), SqliteStore(path), MemoryStore()]

    def both(self, act: Act) -> Any:
        self.next_writer ^= 1
        stores = (self.stores[self.next_writer], self.stores[2])
        outcomes = [self.loop.run_until_complete(self._outcome(act, store)) for store in stores]
        assert told(outcomes[0]) == told(outcomes[1])
        return outcomes[0]

    @rule(session=SESSIONS, seq=SEQS, pinned=st.booleans())
    def pin(self, session: str, seq: int, pinned: bool) -> None:
        self.both(lambda s: s.pin(session, seq, pinned))

    @rule(session=SESSIONS, number=st.integers(0, 9))
    def call(self, session: str, number: int) -> None:
        part = ToolPart(tool_name="f", tool_call_id=f"c{number}", input={"n": [number]}, provider={"k": {}})
        message = Message(id=f"call{number}", role="assistant", parts=(part,), token_count=3, extra={"e": [number]})
        self.both(lambda s: s.append(session, Append([message])))

    @invariant()
    def every_connection_shows_what_is_stored(self) -> None:
        for session in ("a", "b"):
            one, other, expected = (
                told(self.loop.run_until_complete(self._outcome(lambda s, n=session: s.active_context(n), store)))
                for store in self.stores
            )
            assert one == expected
            assert other == expected


TestWritersOfOneFile = WritersOfOneFile.TestCase
TestWritersOfOneFile.settings = settings(
    max_examples=sampled(15), stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "s.db")
    await store.open()
    await store.create_session(SessionRecord(id="s", model="m"))
    for number in range(15):
        await store.append("s", make_turn(number))
    yield store
    await store.close()


@pytest.fixture
def decoded_seqs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seqs: list[int] = []
    decode = context.message_from_row

    def decode_and_note(session_id: str, row: tuple[Any, ...]) -> Message:
        seqs.append(row[0])
        return decode(session_id, row)

    monkeypatch.setattr(context, "message_from_row", decode_and_note)
    return seqs


async def test_a_window_decodes_only_what_was_appended_since(store: SqliteStore, decoded_seqs: list[int]) -> None:
    await store.active_context("s")
    assert decoded_seqs == list(range(1, 31))
    await store.active_context("s")
    await store.append("s", make_turn(15))
    await store.active_context("s")
    await store.pin("s", 4)
    assert decoded_seqs == [*range(1, 31), 31, 32]


async def test_an_append_shows_a_decoded_context_and_reads_no_other(
    store: SqliteStore, decoded_seqs: list[int]
) -> None:
    assert (await store.append("s", replace(make_turn(15), include_context=True))).context is None
    assert decoded_seqs == []
    await store.active_context("s")
    decoded_seqs.clear()
    result = await store.append("s", replace(make_turn(16), include_context=True))
    assert decoded_seqs == [33, 34]
    assert result.context is not None
    assert result.context.session is result.session
    assert result.context == await store.active_context("s")
    for number in range(17, 26):
        await store.append("s", make_turn(number))
    assert (await store.append("s", replace(make_turn(26), include_context=True))).context is None
    assert decoded_seqs == [33, 34]


async def test_damage_before_an_append_is_met_by_the_next_reader(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.active_context("s")

    def refuse(*arguments: object) -> None:
        raise DamagedValueError("a message")

    with monkeypatch.context() as patch:
        patch.setattr(context, "message_from_row", refuse)
        result = await store.append("s", replace(make_turn(15), include_context=True))
    assert result.context is None
    assert len((await store.active_context("s")).items) == 32


async def test_what_another_connection_appends_is_decoded_alone(store: SqliteStore, decoded_seqs: list[int]) -> None:
    await store.active_context("s")
    other = SqliteStore(store.location)
    await other.open()
    await other.append("s", make_turn(15))
    await other.close()
    del decoded_seqs[:]
    items = (await store.active_context("s")).items
    assert decoded_seqs == [31, 32]
    assert [item.seq for item in items if isinstance(item, Message)] == list(range(1, 33))


async def test_own_appends_are_decoded_from_the_rows_that_were_written(
    store: SqliteStore, decoded_seqs: list[int]
) -> None:
    await store.active_context("s")
    del decoded_seqs[:]
    call = ToolPart(tool_name="f", tool_call_id="c", input={"n": [1]})
    await store.append("s", Append([make_message("assistant").model_copy(update={"parts": (call,)})]))
    await store.append("s", make_turn(15))
    executed: list[str] = []
    await store.database.query(lambda connection: connection.set_trace_callback(executed.append))
    shown = await store.active_context("s")
    await store.database.query(lambda connection: connection.set_trace_callback(None))
    assert executed == ["BEGIN", "PRAGMA data_version", "COMMIT"]
    assert decoded_seqs == [31, 32, 33]
    other = SqliteStore(store.location)
    await other.open()
    assert told(await other.active_context("s")) == told(shown)
    await other.close()


async def test_an_append_that_is_rolled_back_is_not_shown(store: SqliteStore) -> None:
    before = await store.active_context("s")

    def append_and_fail(connection: Any) -> None:
        messages = [make_message("user", "lost")]
        log.append(connection, "s", Append(messages), [encode_message(each) for each in messages])
        raise ValueError("undo")

    with pytest.raises(ValueError, match="undo"):
        await store.database.write(append_and_fail)
    assert told(await store.active_context("s")) == told(before)
    await store.append("s", make_turn(15))
    assert len((await store.active_context("s")).items) == 32


async def test_many_rows_are_read_again_instead_of_kept(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_cache, "MAX_APPENDED_ROWS", 4)
    await store.active_context("s")
    for number in range(15, 18):
        await store.append("s", make_turn(number))
    assert len((await store.active_context("s")).items) == 36


async def test_a_fold_is_read_from_the_database(store: SqliteStore, decoded_seqs: list[int]) -> None:
    await store.active_context("s")
    await store.compact("s", make_compaction((), [Cover(1, 20, "leaf")], [make_leaf("leaf", 1, 20)]))
    del decoded_seqs[:]
    assert len((await store.active_context("s")).items) == 11
    assert decoded_seqs == list(range(21, 31))


async def test_a_session_under_an_old_id_shows_its_own_messages(store: SqliteStore) -> None:
    await store.active_context("s")
    await store.purge("s")
    await store.create_session(SessionRecord(id="s", model="m"))
    for number in range(15):
        await store.append("s", make_turn(100 + number))
    first = (await store.active_context("s")).items[0]
    assert isinstance(first, Message)
    assert first.text_content() == "question 100"


async def test_readers_cannot_change_what_others_receive(store: SqliteStore) -> None:
    call = ToolPart(tool_name="f", tool_call_id="c", input={"list": [1]}, provider={"a": {}})
    result = ToolResultPart(tool_call_id="c", output_parts=(TextPart(text="t", provider={"b": []}),))
    messages = [make_message("assistant", extra={"x": [1]}), make_message("user")]
    messages[0] = messages[0].model_copy(update={"parts": (call,)})
    await store.append("s", Append([*messages, make_message("tool").model_copy(update={"parts": (result,)})]))
    before = await store.active_context("s")
    kept = told(before)
    for item in before.items:
        assert isinstance(item, Message)
        item.extra["added"] = 1
        for part in item.parts:
            for name in ("input", "provider"):
                if getattr(part, name, None):
                    getattr(part, name).clear()
            for output in getattr(part, "output_parts", ()):
                output.provider.clear()
    assert told(await store.active_context("s")) == kept
    assert told(await store.active_context("s", shared=True)) == kept


async def test_readers_of_plain_messages_cannot_change_them_either(store: SqliteStore) -> None:
    first = (await store.active_context("s")).items[0]
    assert isinstance(first, Message)
    first.extra["added"] = 1
    for shared in (False, True):
        item = (await store.active_context("s", shared=shared)).items[0]
        assert isinstance(item, Message)
        assert item.extra == {}


async def test_readers_cannot_change_the_metadata_of_a_session(store: SqliteStore) -> None:
    await store.create_session(SessionRecord(id="tagged", model="m", metadata={"team": "a"}))
    await store.append("tagged", make_turn(0))
    (await store.active_context("tagged")).session.metadata["team"] = "b"
    assert (await store.active_context("tagged")).session.metadata == {"team": "a"}
    await store.append("tagged", make_turn(1))
    assert (await store.active_context("tagged")).session.metadata == {"team": "a"}


def test_the_cache_is_bounded_in_bytes_and_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_cache, "MAX_CACHED_BYTES", 100)
    monkeypatch.setattr(context_cache, "MAX_CACHED_CONTEXTS", 3)
    cache = ContextCache()

    def keep(session_pk: int, size_bytes: int) -> None:
        cache.put(session_pk, CachedContext(b"", b"r", 0, (), (), {}, frozenset(), size_bytes, frozenset()))

    def kept() -> list[int]:
        return [pk for pk in range(10) if cache.find(pk, b"r")]

    for pk in range(5):
        keep(pk, 20)
    assert kept() == [2, 3, 4]
    keep(5, 80)
    assert kept() == [4, 5]
    keep(6, 101)
    assert kept() == [4, 5]
    assert cache.find(5, b"another head") is None
