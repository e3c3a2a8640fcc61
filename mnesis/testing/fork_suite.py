# ruff: noqa: S101  # tests assert
"""The conformance suite of forks, for authors of a new store. Use it like `mnesis.testing.store_suite.StoreSuite`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from mnesis.errors import (
    DuplicateIDError,
    MessageNotFoundError,
    SessionForkedError,
    SessionNotFoundError,
    SummaryNotFoundError,
)
from mnesis.events.bus import MnesisEvent
from mnesis.models.context import Cover, Prune
from mnesis.models.message import FileRefPart, Message
from mnesis.models.search import Search, SearchMode
from mnesis.models.session import ForkPoint, SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Store
from mnesis.store.change_log import Event
from mnesis.testing.store_samples import (
    expect_error,
    make_compaction,
    make_condensed,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)


def fork_of(session_id: str, **settings: Any) -> SessionRecord:
    """Create the record of a fork."""
    return SessionRecord(id=session_id, model="m", **settings)


async def store_folded_conversation(store: Store) -> tuple[list[Message], Summary]:
    """Store a session of ten turns: messages 1 to 4 and 5 to 8 are folded, and both are condensed. 9 and 10 are hidden."""
    log = await store_conversation(store, 10)
    leaves = [make_leaf("first", 1, 4), make_leaf("second", 5, 8)]
    top = make_condensed("top", leaves)
    covers = [Cover(1, 4, "first"), Cover(5, 8, "second")]
    await store.compact("s", make_compaction((), covers, leaves))
    await store.compact("s", make_compaction(covers, [Cover(1, 8, "top")], [top]))
    await store.hide("s", 9, 10)
    return log, top


async def shown_ids(store: Store, session_id: str) -> list[str]:
    """Return the ids of the items of the active context."""
    return [item.id for item in (await store.active_context(session_id)).items]


def message_ids(messages: Sequence[Message | Summary]) -> list[str]:
    """Return the ids of messages."""
    return [message.id for message in messages]


async def read_events(store: Store, after: int, *, until: MnesisEvent) -> list[Event]:
    """Read committed changes after a position until one has an event of this kind: a server may list it a moment later."""
    while True:
        version = await store.change_version()
        events = [event for change in await store.changes(after=after, limit=10) for event in change.events]
        if any(kind is until for kind, _ in events):
            return events
        await store.wait_for_change(version, 0.1)


class ForkSuite:
    """The rules of forks. Subclass it and define a fixture `store` that is empty and open."""

    async def test_a_fork_continues_from_any_message(self, store: Store) -> None:
        log = await store_conversation(store, 3)
        for seq in range(7):
            spent = fork_of(f"f{seq}", title="t", usage=TokenUsage(input=5), cost=1.0, turn_count=3)
            fork, created = await store.fork_session("s", spent, last_seq=seq)
            assert (fork.usage, fork.cost, fork.turn_count) == (TokenUsage(), 0.0, 0)
            point = ForkPoint("s", seq, log[seq - 1].id) if seq else None
            assert (created, fork.last_seq, fork.forked_from, fork.title) == (True, seq, point, "t")
            assert fork.message_tokens == fork.context_tokens == 10 * seq
            await store.append(f"f{seq}", make_turn(seq))
            own = await store.messages(f"f{seq}", after_seq=seq)
            whole = await store.messages(f"f{seq}")
            assert message_ids(whole) == [*message_ids(log[:seq]), *message_ids(own)]
            assert [message.seq for message in whole] == list(range(1, seq + 3))
            assert {message.session_id for message in whole} == {f"f{seq}"}
            assert [message.parts for message in whole[:seq]] == [message.parts for message in log[:seq]]
            assert (await store.active_context(f"f{seq}")).items == tuple(whole)
        await store.append("s", make_turn())
        assert message_ids(await store.messages("f6"))[:6] == message_ids(log)
        assert (await store.session("s")).last_seq == 8
        assert (await store.verify()).is_intact

    async def test_a_fork_of_a_fork_shares_the_messages_of_both(self, store: Store) -> None:
        log = await store_conversation(store, 3)
        await store.fork_session("s", fork_of("f"), last_seq=4)
        await store.append("f", make_turn(7))
        middle = await store.messages("f")
        for seq in (2, 4, 5, 6):
            await store.fork_session("f", fork_of(f"g{seq}"), last_seq=seq)
            await store.append(f"g{seq}", make_turn(8))
            whole = await store.messages(f"g{seq}")
            assert message_ids(whole)[:seq] == message_ids(middle)[:seq]
            assert len(whole) == seq + 2
            assert (await store.message(f"g{seq}", log[1].id)).seq == 2
            owner = "s" if seq <= 4 else "f"
            assert (await store.session(f"g{seq}")).forked_from == ForkPoint(owner, seq, middle[seq - 1].id)
            with expect_error(MessageNotFoundError):
                await store.message(f"g{seq}", log[5].id)
        assert (await store.forks("s"), await store.forks("f")) == (["f", "g2", "g4", "g5", "g6"], ["g5", "g6"])
        assert (await store.verify()).is_intact

    async def test_a_fork_is_created_once(self, store: Store) -> None:
        log = await store_conversation(store, 1)
        fork, _ = await store.fork_session("s", fork_of("f"), last_seq=1)
        assert await store.fork_session("s", fork_of("f"), last_seq=1) == (fork, False)
        for session_id, last_seq in (("f", 2), ("s", 1)):
            with expect_error(DuplicateIDError):
                await store.fork_session("s", fork_of(session_id), last_seq=last_seq)
        for last_seq in (-1, 3):
            with expect_error(MessageNotFoundError):
                await store.fork_session("s", fork_of("g"), last_seq=last_seq)
        with expect_error(SessionNotFoundError):
            await store.fork_session("no", fork_of("g"), last_seq=0)
        with expect_error(SessionNotFoundError):
            await store.session("g")
        changed = await store.update_session("f", title="new")
        assert changed.forked_from == ForkPoint("s", 1, log[0].id)
        assert (await store.create_session(fork_of("plain", forked_from=fork.forked_from)))[0].forked_from is None

    async def test_what_lies_before_a_fork_is_inherited(self, store: Store) -> None:
        log = await store_conversation(store, 5)
        await store.compact(
            "s", make_compaction((), [Cover(1, 2, "a")], [make_leaf("a", 1, 2)], [Prune(4, 0, 3), Prune(8, 0, 4)])
        )
        await store.pin("s", 3)
        await store.pin("s", 9)
        await store.hide("s", 5, 8)
        fork, _ = await store.fork_session("s", fork_of("f", system_tokens=2), last_seq=6)
        context = await store.active_context("f")
        assert (context.covers, context.pins) == ((Cover(1, 2, "a"), Cover(5, 6, None)), frozenset({3}))
        assert context.prunes == {(4, 0): Prune(4, 0, 3)}
        assert await shown_ids(store, "f") == ["a", log[2].id, log[3].id]
        assert (fork.message_tokens, fork.tool_tokens, fork.summary_tokens, fork.context_tokens) == (17, -3, 5, 24)
        await store.pin("f", 4)
        await store.pin("f", 3, pinned=False)
        assert (await store.active_context("f")).pins == frozenset({4})
        assert (await store.active_context("s")).pins == frozenset({3, 9})
        assert await store.check() == []

    async def test_a_summary_of_later_messages_does_not_apply(self, store: Store) -> None:
        log, _ = await store_folded_conversation(store)
        ids = message_ids(log)
        expected = {
            3: ids[:3],
            4: ids[:4],
            6: ["first", *ids[4:6]],
            7: ["first", *ids[4:7]],
            8: ["first", *ids[4:8]],
            9: ["top"],
            12: ["top", *ids[10:12]],
        }
        for seq, items in expected.items():
            fork, _ = await store.fork_session("s", fork_of(f"f{seq}"), last_seq=seq)
            assert await shown_ids(store, f"f{seq}") == items
            tokens = sum(10 if item in ids else 5 if item == "first" else 4 for item in items)
            assert fork.context_tokens == fork.stored_tokens == tokens
            assert await store.check(session_id=f"f{seq}") == []

    async def test_hidden_messages_stay_hidden_in_a_fork(self, store: Store) -> None:
        log = await store_conversation(store, 4)
        await store.hide("s", 2, 3)
        leaf = make_leaf("leaf", 1, 6, count=4)
        await store.compact("s", make_compaction([Cover(2, 3, None)], [Cover(1, 6, "leaf")], [leaf]))
        await store.fork_session("s", fork_of("f"), last_seq=4)
        assert await shown_ids(store, "f") == [log[0].id, log[3].id]
        assert (await store.active_context("f")).covers == (Cover(2, 3, None),)
        assert await store.check() == []

    async def test_a_fork_expands_inherited_summaries_and_makes_its_own(self, store: Store) -> None:
        log, top = await store_folded_conversation(store)
        await store.fork_session("s", fork_of("f"), last_seq=12)
        await store.append("f", make_turn(20))
        assert [summary.id for summary in await store.summaries("f")] == ["first", "second", "top"]
        assert (await store.summary("f", "top")).session_id == "f"
        assert message_ids(await store.covered_messages("f", "top")) == message_ids(log[:8])
        assert message_ids(await store.covered_messages("f", "top", after_seq=3, limit=2)) == message_ids(log[3:5])
        own = make_leaf("own", 11, 13)
        both = make_condensed("both", [top, own])
        read = (await store.active_context("f")).covers
        await store.compact(
            "f", make_compaction(read, [Cover(1, 13, "both")], [own, both.model_copy(update={"message_count": 11})])
        )
        assert (await store.summary("f", "both")).child_ids == ("top", "own")
        seqs = [message.seq for message in await store.covered_messages("f", "both")]
        assert seqs == [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13]
        with expect_error(SummaryNotFoundError):
            await store.summary("s", "own")
        await store.fork_session("f", fork_of("g"), last_seq=14)
        assert (await shown_ids(store, "g"))[0] == "both"
        assert message_ids(await store.covered_messages("g", "own")) == [
            *message_ids(log[10:12]),
            (await store.messages("f"))[12].id,
        ]
        assert await store.forks("f") == ["g"]
        await store.fork_session("f", fork_of("h"), last_seq=11)
        assert (await store.active_context("h")).covers == (Cover(1, 8, "top"), Cover(9, 10, None))
        assert await store.check() == []

    async def test_an_import_restores_the_context_of_a_fork_itself(self, store: Store) -> None:
        log, _ = await store_folded_conversation(store)
        await store.pin("s", 12)
        await store.compact(
            "s", make_compaction(read := (await store.active_context("s")).covers, read, (), [Prune(11, 0, 3)])
        )
        fork, _ = await store.fork_session("s", fork_of("f"), last_seq=12, summary_ids=["second"])
        context = await store.active_context("f")
        assert message_ids(context.items) == message_ids(log[:12])
        assert (context.covers, context.prunes, context.pins, fork.message_tokens) == ((), {}, frozenset(), 120)
        assert [summary.id for summary in await store.summaries("f")] == ["second"]
        await store.compact("f", make_compaction((), [Cover(5, 8, "second")]))
        assert await shown_ids(store, "f") == [*message_ids(log[:4]), "second", *message_ids(log[8:12])]
        assert await store.check() == []

    async def test_a_fork_can_show_inherited_summaries_again(self, store: Store) -> None:
        await store_folded_conversation(store)
        await store.fork_session("s", fork_of("f"), last_seq=10)
        read = (await store.active_context("f")).covers
        await store.replace_covers("f", [Cover(5, 8, "second")], Append([]), read_covers=read, last_seq=10)
        context = await store.active_context("f")
        assert context.covers == (Cover(5, 8, "second"),)
        assert (context.session.message_tokens, context.session.summary_tokens) == (60, 5)
        assert len((await store.active_context("s")).covers) == 2
        assert await store.check() == []

    async def test_appending_shared_messages_again_changes_nothing(self, store: Store) -> None:
        log = await store_conversation(store, 2)
        await store.fork_session("s", fork_of("f"), last_seq=3)
        again = await store.append("f", Append(log[1:3]))
        assert (again.is_new, message_ids(again.messages), again.session.last_seq) == (False, message_ids(log[1:3]), 3)
        with expect_error(DuplicateIDError):
            await store.append("f", Append([make_message("user", "other", id=log[0].id)]))
        assert (await store.append("f", Append([log[3]]))).messages[0].seq == 4
        assert await store.check() == []

    async def test_a_search_of_a_fork_finds_its_log_and_nothing_else(self, store: Store) -> None:
        await store.create_session(fork_of("s"))
        await store.append("s", Append([make_message("user", f"harbour number {n}", id=f"s{n}") for n in range(1, 7)]))
        await store.create_session(fork_of("between"))
        await store.append("between", Append([make_message("user", "harbour elsewhere", id="b")]))
        await store.fork_session("s", fork_of("f"), last_seq=4)
        await store.append("f", Append([make_message("user", "harbour of the fork", id="f5")]))
        await store.compact("f", make_compaction((), [Cover(2, 3, "leaf")], [make_leaf("leaf", 2, 3)]))
        for mode in get_args(SearchMode):
            page = await store.search(Search("harbour", "f", 3, mode=mode))
            rest = await store.search(Search("harbour", "f", 3, page.next_cursor, mode=mode))
            found = {hit.message_id: hit for hit in (*page, *rest)}
            assert set(found) == {"s1", "s2", "s3", "s4", "f5"}
            assert {hit.session_id for hit in found.values()} == {"f"}
            assert [found[each].summary_id for each in ("s1", "s2", "f5")] == [None, "leaf", None]
            everywhere = await store.search(Search("harbour", None, 50, mode=mode))
            assert sorted(hit.message_id for hit in everywhere) == ["b", "f5", *(f"s{n}" for n in range(1, 7))]
        covered = await store.search(Search("harbour", "f", summary_id="leaf"))
        assert sorted(hit.message_id for hit in covered) == ["s2", "s3"]
        await store.reindex()
        assert len(await store.search(Search("harbour", "f"))) == 5
        assert await store.check() == []

    async def test_a_fork_refers_to_the_files_of_its_messages(self, store: Store) -> None:
        def message(name: str) -> Message:
            part = FileRefPart(content_id=name, path="/a", file_type="py", token_count=1, exploration_summary="")
            return make_message("user", id=name).model_copy(update={"parts": (part,)})

        await store.create_session(fork_of("s"))
        await store.append("s", Append([message("a"), message("b"), message("c")]))
        await store.fork_session("s", fork_of("f"), last_seq=2)
        await store.append("f", Append([message("d")]))
        references = await store.file_references(session_id="f")
        assert [(each.session_id, each.seq, each.content_id) for each in references] == [
            ("f", 1, "a"),
            ("f", 2, "b"),
            ("f", 3, "d"),
        ]
        assert [each.seq for each in await store.file_references(session_id="f", content_id="b")] == [2]
        assert await store.file_references(session_id="f", content_id="c") == []
        assert await store.check() == []

    async def test_a_session_with_forks_is_not_purged(self, store: Store) -> None:
        await store_folded_conversation(store)
        await store.fork_session("s", fork_of("f"), last_seq=12)
        await store.fork_session("f", fork_of("g"), last_seq=3)
        with expect_error(SessionForkedError):
            await store.purge("s")
        assert await store.forks("s") == ["f", "g"]
        before = await store.active_context("s")
        await store.append("f", make_turn(30))
        read = (await store.active_context("f")).covers
        await store.compact("f", make_compaction(read, [*read, Cover(11, 13, "own")], [make_leaf("own", 11, 13)]))
        await store.purge("f")
        await store.purge("g")
        assert await store.active_context("s") == before
        assert (await store.forks("s"), await store.check()) == ([], [])
        await store.purge("s")
        with expect_error(SessionNotFoundError):
            await store.forks("s")

    async def test_the_head_of_a_fork_continues_that_of_its_origin(self, store: Store) -> None:
        await store_conversation(store, 2)
        at_four = (await store.verify(session_id="s")).heads[0].hash
        await store.append("s", make_turn(5))
        await store.fork_session("s", fork_of("f"), last_seq=4)
        assert (await store.verify(session_id="f")).heads[0].hash == at_four
        await store.append("f", make_turn(6))
        assert (await store.verify(session_id="f", heads={"f": at_four})).is_intact
        assert not (await store.verify(session_id="f", heads={"f": "00" * 32})).is_intact
        await store.fork_session("f", fork_of("g"), last_seq=6)
        assert (await store.verify(session_id="g", heads={"g": at_four})).is_intact

    async def test_followers_see_a_fork_and_what_happens_in_it(self, store: Store) -> None:
        log = await store_conversation(store, 2)
        after = await store.last_change()
        await store.fork_session("s", fork_of("f"), last_seq=3)
        await store.compact("f", make_compaction((), [Cover(1, 3, "leaf")], [make_leaf("leaf", 1, 3)]))
        events = await read_events(store, after, until=MnesisEvent.COMPACTION_COMPLETED)
        created = next(payload for kind, payload in events if kind is MnesisEvent.SESSION_CREATED)
        assert (created["session_id"], created["forked_from"]) == ("f", "s")
        updated = [payload["message_id"] for kind, payload in events if kind is MnesisEvent.MESSAGE_UPDATED]
        assert updated == message_ids(log[:3])
