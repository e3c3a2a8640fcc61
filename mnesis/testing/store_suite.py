# ruff: noqa: S101  # tests assert
"""The conformance suite of stores, for authors of a new store.

```python
class TestMyStore(StoreSuite):
    @pytest.fixture
    async def store(self):
        store = MyStore()
        await store.open()
        yield store
        await store.close()
```

The only fixture is an empty, open store. The tests are coroutines: run them with pytest-asyncio in auto mode, or mark
the class. This module does not import pytest.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from mnesis.errors import (
    ConfigurationError,
    MessageNotFoundError,
    MnesisStoreError,
    SessionNotFoundError,
    StaleContextError,
    SummaryNotFoundError,
)
from mnesis.models.context import Cover, Prune
from mnesis.models.search import Search, SearchMode
from mnesis.models.session import Interruption, SessionRecord
from mnesis.store.base import Append, Store
from mnesis.testing.account_suite import AccountSuite
from mnesis.testing.fold_suite import FoldSuite
from mnesis.testing.log_suite import LogSuite
from mnesis.testing.store_samples import (
    expect_error,
    make_compaction,
    make_condensed,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)


class StoreSuite(LogSuite, AccountSuite, FoldSuite):
    """The rules of a store. Subclass it and define a fixture `store` that is empty and open."""

    async def test_interruptions_are_kept_in_order(self, store: Store) -> None:
        await store_conversation(store, 1)
        notes = [
            Interruption(2, "failed", "E", "text \ud800", "partial\x00", 9),
            Interruption(2, "cancelled", "", "", "", 1),
        ]
        for note in notes:
            await store.record_interruption("s", note)
        assert await store.interruptions("s") == notes

    async def test_purging_leaves_nothing_and_the_other_sessions_whole(self, store: Store) -> None:
        await store_conversation(store, 3)
        other = await store_conversation(store, 3, "other")
        one = make_leaf("one", 1, 2)
        covers = [Cover(1, 2, "top")]
        await store.compact("s", make_compaction((), covers, [one, make_condensed("top", [one])], [Prune(3, 0, 1)]))
        await store.hide("s", 3, 4)
        await store.record_interruption("s", Interruption(2, "failed", "E", "e", "", 1))
        await store.purge("s")
        with expect_error(SessionNotFoundError):
            await store.append("s", make_turn())
        assert [session.id for session in (await store.sessions()).sessions] == ["other"]
        assert await store.messages("other") == other
        fresh, created = await store.create_session(SessionRecord(id="s", model="m"))
        assert (created, fresh.last_seq) == (True, 0)
        assert await store.messages("s") == []
        assert await store.summaries("s") == []
        assert store.turns("s") == []
        assert await store.check() == []

    async def test_concurrent_appends_are_neither_lost_nor_mixed(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        await asyncio.gather(*(store.append("s", make_turn(number)) for number in range(50)))
        texts = [message.text_content() for message in await store.messages("s")]
        assert sorted(texts[::2]) == sorted(f"question {number}" for number in range(50))
        assert [text.replace("question", "answer") for text in texts[::2]] == texts[1::2]
        assert (await store.session("s")).turn_count == 50

    async def test_a_cancelled_append_is_there_whole_or_not_at_all(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        for steps in range(6):
            task = asyncio.ensure_future(store.append("s", make_turn(steps)))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await store.append("s", make_turn(99))
        session = await store.session("s")
        assert session.last_seq == 2 * session.turn_count == len(await store.messages("s"))
        assert await store.check() == []

    async def test_a_closed_store_says_so_and_can_be_opened_again(self, store: Store) -> None:
        log = await store_conversation(store, 1)
        await store.open()
        await store.close()
        await store.close()
        with expect_error(MnesisStoreError):
            await store.session("s")
        with expect_error(MnesisStoreError):
            store.turns("s")
        await store.open()
        assert await store.messages("s") == log

    # Finding originals, and keeping them in view

    async def test_a_question_finds_originals_and_folding_changes_no_ranking(self, store: Store) -> None:
        await store_conversation(store, 8)
        await store.append(
            "s", Append([make_message("user", "The harbour is closed by ice.", id="ice", created_at=5_000)])
        )
        before = await store.search(Search("Which harbours close?", "s"))
        hit = before[0]
        assert (hit.message_id, hit.session_id, hit.seq, hit.role, hit.created_at) == ("ice", "s", 17, "user", 5_000)
        assert "harbour" in hit.excerpt
        assert hit.summary_id is None
        await store.compact("s", make_compaction((), [Cover(1, 17, "sum")], [make_leaf("sum", 1, 17)]))
        after = await store.search(Search("Which harbours close?", "s"))
        assert [replace(hit, summary_id=None) for hit in after] == list(before)
        assert {hit.summary_id for hit in after} == {"sum"}

    async def test_what_is_new_is_found_and_what_is_purged_is_not(self, store: Store) -> None:
        await store_conversation(store, 2)
        await store_conversation(store, 2, "t")
        assert len(await store.search(Search("zeppelin"))) == 0
        await store.append("s", Append([make_message("user", "a zeppelin")]))
        assert (await store.search(Search("zeppelin")))[0].excerpt == "a zeppelin"
        await store.purge("s")
        assert len(await store.search(Search("zeppelin"))) == 0
        assert {hit.session_id for hit in await store.search(Search("question"))} == {"t"}
        with expect_error(SessionNotFoundError):
            await store.search(Search("zeppelin", "s"))

    async def test_pages_of_a_search_join_to_the_whole(self, store: Store) -> None:
        await store_conversation(store, 10)
        modes: tuple[SearchMode, ...] = ("words", "substring")
        for mode in modes:
            whole = [hit.message_id for hit in await store.search(Search("question", "s", limit=100, mode=mode))]
            joined: list[str] = []
            page = await store.search(Search("question", "s", limit=3, mode=mode))
            joined += [hit.message_id for hit in page]
            while page.next_cursor is not None:
                await store.append("s", Append([make_message("user", "another question")]))
                page = await store.search(Search("question", "s", limit=3, mode=mode, cursor=page.next_cursor))
                joined += [hit.message_id for hit in page]
            assert joined == whole
        for wrong in (Search("x", "s", limit=0), Search("x", "s", cursor="1.1.x")):
            with expect_error(ConfigurationError):
                await store.search(wrong)
        with expect_error(SummaryNotFoundError):
            await store.search(Search("x", "s", summary_id="none"))

    async def test_a_pinned_message_is_not_folded(self, store: Store) -> None:
        await store_conversation(store, 4)
        await store.pin("s", 3)
        await store.pin("s", 3)
        assert (await store.active_context("s")).pins == frozenset({3})
        with expect_error(StaleContextError):
            await store.compact("s", make_compaction((), [Cover(1, 4, "sum")], [make_leaf("sum", 1, 4)]))
        assert await store.summaries("s") == []
        await store.pin("s", 3, False)
        await store.compact("s", make_compaction((), [Cover(1, 4, "sum")], [make_leaf("sum", 1, 4)]))
        with expect_error(StaleContextError):
            await store.pin("s", 3)
        for seq in (0, 99):
            with expect_error(MessageNotFoundError):
                await store.pin("s", seq)
        assert (await store.active_context("s")).pins == frozenset()
