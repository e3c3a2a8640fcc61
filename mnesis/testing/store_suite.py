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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mnesis.errors import (
    ConfigurationError,
    DuplicateIDError,
    InvalidMessageError,
    MessageNotFoundError,
    MnesisStoreError,
    SessionNotFoundError,
    StaleContextError,
    SummaryNotFoundError,
)
from mnesis.models.context import Cover, Prune
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
    ToolStatus,
    text_message,
)
from mnesis.models.results import CompactionResult
from mnesis.models.search import Search, SearchMode
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import Interruption, SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Compaction, Store

HOSTILE_TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff tail",
    "\ud83d\ude00",
    "\U0001f600",
    "\\ud83d",
    '"quoted" \\ and \n\r\t\u2028\u2029',
    "'; DROP TABLE messages; --",
    "%_*?[",
    "\u202eright to left\u202c",
    "👩\u200d👩\u200d👧",
    "\ufeff\ufffe\uffff",
    '[{"type":"text","text":"not a part"}]',
)
EVERY_PART = (
    TextPart(text="text", provider={"signature": "s"}),
    ReasoningPart(text="because", provider={"nested": [1, 2.5, None, True, {"deep": []}]}),
    ToolPart(tool_name="read", tool_call_id="call_1", input={"path": "/home/ü", "n": 10**30}),
    ToolPart(
        tool_name="read",
        tool_call_id="call_2",
        raw_input="{not json",
        error_message="failed",
        status=ToolStatus(state="error", started_at=1, completed_at=2),
    ),
    ToolPart(tool_name="x", tool_call_id="call_3", output="", status=ToolStatus(state="completed")),
    ToolResultPart(tool_call_id="call_1", tool_name="read", output="content", is_error=True),
    ToolResultPart(
        tool_call_id="call_2",
        output="text\n\n[image image/png]",
        output_parts=(
            TextPart(text="text", provider={"k": [1]}),
            ImagePart(data="aGk="),
            DataPart(kind="k", data={"a": 1}),
        ),
    ),
    ToolPart(
        tool_name="shoot",
        tool_call_id="call_4",
        output="[file a.pdf]",
        output_parts=(FilePart(name="a.pdf", data="aGk="),),
    ),
    ImagePart(url="https://example.org/a.png", detail="low"),
    ImagePart(data="aGk=", media_type="image/gif"),
    FilePart(name="a.txt", text="hello", media_type="text/x-thing"),
    FileRefPart(content_id="c", path="/a", file_type="py", token_count=9, exploration_summary="a file"),
    DataPart(kind="lc.block", data={"lc": 1, "type": "constructor", "": {"\x00": "\ud800"}}, text="block"),
)


@contextmanager
def expect_error(*errors: type[Exception]) -> Iterator[None]:
    """Assert that the block raises one of `errors`."""
    try:
        yield
    except errors:
        return
    raise AssertionError(f"nothing was raised; expected one of {[error.__name__ for error in errors]}")


def make_message(role: Role, text: str = "words", *, tokens: int = 10, **fields: Any) -> Message:
    """Create a message as stores expect it, with every field set except `seq`."""
    return text_message(role, text, token_count=tokens, created_at=fields.pop("created_at", 1_000), **fields)


def make_turn(number: int = 0, *, tokens: int = 10) -> Append:
    """Create an append of a question and its answer that ends a turn."""
    messages = [
        make_message("user", f"question {number}", tokens=tokens),
        make_message("assistant", f"answer {number}", tokens=tokens),
    ]
    return Append(messages, ends_turn=True)


def make_leaf(id: str, first_seq: int, last_seq: int, *, count: int | None = None, tokens: int = 5) -> Summary:
    """Create a summary of messages."""
    message_count = last_seq - first_seq + 1 if count is None else count
    return Summary(
        id=id,
        kind="leaf",
        depth=0,
        level=1,
        text=f"summary {id} \ud800",
        token_count=tokens,
        first_seq=first_seq,
        last_seq=last_seq,
        message_count=message_count,
        source_tokens=10 * message_count,
        file_ids=("file_1",),
        model_id="m",
        created_at=5,
    )


def make_condensed(id: str, children: Sequence[Summary], *, tokens: int = 4) -> Summary:
    """Create a summary of summaries."""
    return make_leaf(id, children[0].first_seq, children[-1].last_seq, tokens=tokens).model_copy(
        update={
            "kind": "condensed",
            "depth": 1 + max(child.depth for child in children),
            "child_ids": tuple(child.id for child in children),
            "message_count": sum(child.message_count for child in children),
        }
    )


def make_compaction(
    read: Sequence[Cover], covers: Sequence[Cover], summaries: Sequence[Summary] = (), prunes: Sequence[Prune] = ()
) -> Compaction:
    """Create a compaction as a store receives it."""
    result = CompactionResult(session_id="s", summary_ids=tuple(summary.id for summary in summaries), trigger="soft")
    return Compaction(tuple(read), tuple(covers), tuple(summaries), tuple(prunes), result)


async def store_conversation(store: Store, turns: int, session_id: str = "s") -> list[Message]:
    """Store a session of `turns` turns, each of two messages of 10 tokens, and return its log."""
    await store.create_session(SessionRecord(id=session_id, model="m"))
    for number in range(turns):
        await store.append(session_id, make_turn(number))
    return await store.messages(session_id)


class StoreSuite:
    """The rules of a store. Subclass it and define a fixture `store` that is empty and open."""

    async def test_a_created_session_comes_back_as_it_was(self, store: Store) -> None:
        record = SessionRecord(
            id="any name: /\\'%_\x00 ü",
            model="openai/m",
            system_prompt="be kind \ud800\x00",
            agent="a",
            parent_id="p",
            title="t",
            metadata={"a": [1, {"b": None}]},
            created_at=5,
            updated_at=6,
            system_tokens=3,
            context_tokens=3,
        )
        assert await store.create_session(record) == (record, True)
        assert await store.session(record.id) == record

    async def test_creating_a_session_twice_returns_the_first(self, store: Store) -> None:
        first = SessionRecord(id="s", model="first")
        await store.create_session(first)
        assert await store.create_session(SessionRecord(id="s", model="second")) == (first, False)

    async def test_an_empty_session_id_is_refused(self, store: Store) -> None:
        with expect_error(InvalidMessageError):
            await store.create_session(SessionRecord(id="", model="m"))

    async def test_every_verb_refuses_an_unknown_session(self, store: Store) -> None:
        interruption = Interruption(0, "failed", "E", "e", "", 1)
        calls = [
            store.update_session("no", title="t"),
            store.session("no"),
            store.append("no", make_turn()),
            store.messages("no"),
            store.message("no", "m"),
            store.active_context("no"),
            store.compact("no", make_compaction((), ())),
            store.hide("no", 1, 1),
            store.revise("no", [], make_turn(), last_seq=0),
            store.replace_covers("no", [], make_turn(), read_covers=[], last_seq=0),
            store.summary("no", "s"),
            store.summaries("no"),
            store.covered_messages("no", "s"),
            store.compactions("no"),
            store.record_interruption("no", interruption),
            store.interruptions("no"),
            store.purge("no"),
            store.check(session_id="no"),
        ]
        for call in calls:
            with expect_error(SessionNotFoundError):
                await call
        with expect_error(SessionNotFoundError):
            store.turns("no")
        with expect_error(SessionNotFoundError):
            await store.session("\ud800")

    async def test_settings_change_and_the_context_follows_the_system_prompt(self, store: Store) -> None:
        await store_conversation(store, 1)
        after = await store.update_session(
            "s", model="other", system_prompt="long", system_tokens=7, title="t", metadata={"k": "v"}
        )
        assert (after.model, after.system_prompt, after.title, after.metadata) == ("other", "long", "t", {"k": "v"})
        assert (after.stored_tokens, after.context_tokens) == (27, 27)
        assert await store.session("s") == after

    async def test_nothing_but_settings_can_change(self, store: Store) -> None:
        await store_conversation(store, 1)
        for name in ("id", "last_seq", "usage", "unheard_of"):
            with expect_error(TypeError):
                await store.update_session("s", **{name: 1})

    async def test_sessions_are_listed_by_last_use_in_pages(self, store: Store) -> None:
        for name in "abcde":
            await store.create_session(SessionRecord(id=name, model="m", parent_id="p" if name in "bd" else None))
        await store.update_session("c", title="t")
        await store.append("a", make_turn())
        seen: list[str] = []
        page = await store.sessions(limit=2)
        seen += [session.id for session in page.sessions]
        while page.next_cursor:
            page = await store.sessions(limit=2, cursor=page.next_cursor)
            seen += [session.id for session in page.sessions]
        assert seen == ["a", "c", "e", "d", "b"]
        children = await store.sessions(parent_id="p")
        assert [session.id for session in children.sessions] == ["d", "b"]
        with expect_error(MnesisStoreError):
            await store.sessions(cursor="nonsense")

    async def test_messages_come_back_byte_for_byte(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        messages = [make_message("user", text, id=f"m{index}") for index, text in enumerate(HOSTILE_TEXTS)]
        messages += [
            Message(id="parts", role="assistant", parts=EVERY_PART, token_count=9, tool_tokens=4, created_at=-5),
            Message(id="none", role="system"),
            make_message(
                "tool",
                id="id with ' % ü 👩 \x00",
                model_id="a/b",
                tokens=3,
                cost=0.1 + 0.2,
                finish_reason="odd",
                is_summary=True,
                extra={"k": ["\ud800", "\ud83d\ude00", {"x": -0.5}], "n": None},
            ).model_copy(update={"tokens": TokenUsage(input=1, cache_read=2)}),
            make_message("user", "empty usage").model_copy(update={"tokens": TokenUsage()}),
        ]
        appended = await store.append("s", Append(messages))
        expected = [m.model_copy(update={"session_id": "s", "seq": seq}) for seq, m in enumerate(messages, 1)]
        assert list(appended.messages) == expected
        assert await store.messages("s") == expected
        assert [await store.message("s", message.id) for message in messages] == expected
        assert list((await store.active_context("s")).items) == expected
        assert await store.check() == []

    async def test_what_json_would_change_is_refused_and_nothing_is_stored(self, store: Store) -> None:
        await store_conversation(store, 1)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value in (float("nan"), float("inf"), object(), b"bytes", {1: "key"}, (1, 2), {3}, deep, 10**5000):
            for bad in (
                Message(id="x", role="user", parts=(DataPart(kind="k", data={"v": value}),)),
                Message(id="x", role="user", parts=(ToolPart(tool_name="t", tool_call_id="c", input={"v": value}),)),
                Message(id="x", role="user", parts=(TextPart(text="t", provider={"v": value}),)),
                Message(id="x", role="user", extra={"v": value}),
            ):
                with expect_error(InvalidMessageError):
                    await store.append("s", Append([make_message("user"), bad]))
        for bad in (
            Message(id="", role="user"),
            make_message("user", id="\ud800"),
            make_message("user", tokens=2**63),
            make_message("user", created_at=-(2**63) - 1),
        ):
            with expect_error(InvalidMessageError):
                await store.append("s", Append([make_message("user"), bad]))
        same = make_message("user")
        with expect_error(InvalidMessageError):
            await store.append("s", Append([same, same]))
        assert (await store.session("s")).last_seq == 2
        assert len(await store.messages("s")) == 2

    async def test_what_a_caller_changes_later_does_not_reach_the_log(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        data: dict[str, Any] = {"v": [1]}
        await store.append("s", Append([Message(id="x", role="user", parts=(DataPart(kind="k", data=data),))]))
        data["v"].append(2)
        part = (await store.message("s", "x")).parts[0]
        assert isinstance(part, DataPart)
        assert part.data == {"v": [1]}

    async def test_seq_is_dense_from_one_whatever_the_clock_says(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        times = [5_000, 4_000, 3_000, -1, 9_000]
        ids = ["z", "y", "x", "w", "v"]
        for name, created_at in zip(ids, times, strict=True):
            await store.append("s", Append([make_message("user", id=name, created_at=created_at)]))
        messages = await store.messages("s")
        assert [message.seq for message in messages] == [1, 2, 3, 4, 5]
        assert [message.id for message in messages] == ids

    async def test_pages_of_the_log(self, store: Store) -> None:
        log = await store_conversation(store, 5)
        assert await store.messages("s", after_seq=3, until_seq=7) == log[3:7]
        assert await store.messages("s", after_seq=3, limit=2) == log[3:5]
        assert await store.messages("s", limit=0) == []
        assert await store.messages("s", after_seq=10) == []
        assert await store.messages("s", after_seq=8, until_seq=99, limit=99) == log[8:]

    async def test_an_unknown_message_or_summary_is_named(self, store: Store) -> None:
        await store_conversation(store, 1)
        with expect_error(MessageNotFoundError):
            await store.message("s", "no")
        with expect_error(MessageNotFoundError):
            await store.message("s", "\ud800")
        with expect_error(SummaryNotFoundError):
            await store.summary("s", "no")
        with expect_error(SummaryNotFoundError):
            await store.covered_messages("s", "no")

    async def test_the_same_id_may_live_in_two_sessions(self, store: Store) -> None:
        for name in "ab":
            await store.create_session(SessionRecord(id=name, model="m"))
            await store.append(name, Append([make_message("user", name, id="same")]))
        assert (await store.message("a", "same")).text_content() == "a"
        assert (await store.message("b", "same")).text_content() == "b"

    async def test_appending_the_same_again_changes_nothing(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        usage = UsageReport(TokenUsage(input=100, output=10), "request", cost=0.5)
        append = replace(make_turn(), report=usage)
        first = await store.append("s", append)
        await store.append("s", Append([make_message("user")]))
        before = await store.session("s")
        again = await store.append("s", append)
        assert (first.is_new, again.is_new) == (True, False)
        assert (again.messages, again.snapshot) == (first.messages, first.snapshot)
        assert again.session == await store.session("s") == before

    async def test_an_id_with_other_content_is_refused(self, store: Store) -> None:
        log = await store_conversation(store, 1)
        for other in (
            [make_message("user", "other", id=log[0].id)],
            [make_message("assistant", log[0].text_content(), id=log[0].id)],
            [log[0], make_message("user", "new")],
            [make_message("user", "new"), log[0]],
            [log[1], log[0]],
        ):
            with expect_error(DuplicateIDError):
                await store.append("s", Append(other))
        assert await store.messages("s") == log

    async def test_reports_move_the_accounts(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m", system_tokens=5))
        usage = TokenUsage(input=900, output=100, cache_read=50)
        report = UsageReport(usage, "request", cost=0.25, request_estimate=600)
        after = (await store.append("s", replace(make_turn(), report=report))).session
        assert (after.message_tokens, after.context_tokens, after.last_request_tokens) == (20, 1_050, 950)
        assert (after.calibration, after.cost, after.usage.input) == (950 / 600, 0.25, 900)
        after = (await store.append("s", Append([make_message("user")]))).session
        assert (after.context_tokens, after.message_tokens, after.turn_count) == (1_060, 30, 1)
        assert await store.session("s") == after

    async def test_the_newest_request_and_all_usage_survive(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        request = SentRequest("m", 1_700_000_000_000, 300.0, 900, 70, "t", "s", "o", "h", 3, 1)
        usage = TokenUsage(input=900, output=100, cache_read=50, cache_write=20, reasoning=60)
        report = UsageReport(usage, "request", request=request)
        await store.append("s", replace(make_turn(), report=report))
        after = (await store.append("s", Append([make_message("user")]))).session
        assert after.last_request == request
        assert after.usage.reasoning == 60
        assert await store.session("s") == after

    async def test_a_report_of_an_older_context_does_not_replace_a_newer_size(self, store: Store) -> None:
        await store_conversation(store, 2)
        before = await store.session("s")
        folded = await store.compact("s", make_compaction((), [Cover(1, 2, "sum_1")], [make_leaf("sum_1", 1, 2)]))
        assert folded.fold_count == before.fold_count + 1
        report = UsageReport(TokenUsage(input=5_000), "request", fold_count=before.fold_count)
        after = (await store.append("s", Append([make_message("assistant", tokens=7)], report=report))).session
        assert after.context_tokens == folded.context_tokens + 7
        assert await store.session("s") == after

    async def test_an_inferred_report_sees_the_reply_apart_from_the_question(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        report = UsageReport(TokenUsage(input=40, output=20), "inferred")
        messages = [
            make_message("user", tokens=100),
            make_message("tool", tokens=20),
            make_message("assistant", tokens=500),
        ]
        after = (await store.append("s", Append(messages, report=report))).session
        assert after.context_tokens == max(0 + 40 + 20, 620)
        assert after.last_request_tokens == 40

    async def test_a_turn_leaves_a_snapshot_of_the_accounts(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m", system_tokens=5))
        tool = make_message("tool", tokens=30).model_copy(update={"tool_tokens": 25})
        appended = await store.append(
            "s", Append([make_message("user"), tool, make_message("assistant")], ends_turn=True)
        )
        snapshot = appended.snapshot
        assert snapshot is not None
        assert (snapshot.turn_index, snapshot.seq, snapshot.role, snapshot.measured_tokens) == (0, 3, "assistant", 55)
        tokens = snapshot.context_tokens
        assert (tokens.system_prompt, tokens.summary, tokens.messages, tokens.tool_outputs) == (5, 0, 50, 25)
        assert tokens.total == 55
        await store.append("s", Append([make_message("user")]))
        second = await store.append("s", Append([make_message("assistant")], ends_turn=True))
        assert second.session.turn_count == 2
        assert store.turns("s") == [snapshot, second.snapshot]

    async def test_turns_can_be_read_from_another_thread(self, store: Store) -> None:
        await store_conversation(store, 2)
        assert len(await asyncio.to_thread(store.turns, "s")) == 2

    async def test_a_fold_replaces_a_span_and_leaves_the_log_alone(self, store: Store) -> None:
        log = await store_conversation(store, 3)
        made = make_leaf("sum_1", 1, 4)
        after = await store.compact("s", make_compaction((), [Cover(1, 4, "sum_1")], [made]))
        context = await store.active_context("s")
        expected = made.model_copy(update={"session_id": "s"})
        assert context.items == (expected, *log[4:])
        assert (context.covers, context.session) == ((Cover(1, 4, "sum_1"),), after)
        assert (after.message_tokens, after.summary_tokens, after.context_tokens) == (20, 5, 25)
        assert await store.messages("s") == log
        assert await store.covered_messages("s", "sum_1") == log[:4]
        assert await store.summary("s", "sum_1") == expected
        assert await store.summaries("s") == [expected]
        assert await store.check() == []

    async def test_a_fold_counts_the_context_anew(self, store: Store) -> None:
        await store_conversation(store, 2)
        report = UsageReport(TokenUsage(input=5_000, output=10), "request", request_estimate=600)
        await store.append("s", Append([make_message("assistant")], report=report))
        after = await store.compact("s", make_compaction((), [Cover(1, 2, "sum_1")], [make_leaf("sum_1", 1, 2)]))
        assert (after.context_tokens, after.last_request_tokens) == (after.stored_tokens, None)
        assert after.usage.input == 5_000

    async def test_summaries_of_summaries_lead_back_to_every_message(self, store: Store) -> None:
        log = await store_conversation(store, 5)
        one, two = make_leaf("one", 1, 4), make_leaf("two", 5, 8)
        await store.compact("s", make_compaction((), [Cover(1, 4, "one"), Cover(5, 8, "two")], [one, two]))
        top = make_condensed("top", [one, two])
        read = [Cover(1, 4, "one"), Cover(5, 8, "two")]
        after = await store.compact("s", make_compaction(read, [Cover(1, 8, "top")], [top]))
        assert (after.summary_tokens, after.message_tokens) == (4, 20)
        assert await store.covered_messages("s", "top") == log[:8]
        assert await store.covered_messages("s", "top", after_seq=3, limit=3) == log[3:6]
        assert [summary.id for summary in await store.summaries("s")] == ["one", "two", "top"]
        assert (await store.summary("s", "top")).child_ids == ("one", "two")
        assert await store.check() == []

    async def test_one_sweep_may_fold_and_condense(self, store: Store) -> None:
        log = await store_conversation(store, 4)
        one, two = make_leaf("one", 1, 2), make_leaf("two", 3, 6)
        top = make_condensed("top", [one, two])
        await store.compact("s", make_compaction((), [Cover(1, 6, "top")], [one, two, top]))
        assert await store.covered_messages("s", "top") == log[:6]
        assert await store.check() == []

    async def test_a_fold_of_another_state_writes_nothing(self, store: Store) -> None:
        await store_conversation(store, 3)
        await store.compact("s", make_compaction((), [Cover(1, 2, "one")], [make_leaf("one", 1, 2)]))
        before = (await store.active_context("s"), await store.summaries("s"), await store.compactions("s"))
        with expect_error(StaleContextError):
            await store.compact("s", make_compaction((), [Cover(1, 4, "two")], [make_leaf("two", 1, 4)]))
        assert (await store.active_context("s"), await store.summaries("s"), await store.compactions("s")) == before

    async def test_messages_that_arrive_during_a_fold_stay_in_view(self, store: Store) -> None:
        await store_conversation(store, 2)
        read = (await store.active_context("s")).covers
        late = await store.append("s", make_turn(9))
        await store.compact("s", make_compaction(read, [Cover(1, 4, "one")], [make_leaf("one", 1, 4)]))
        assert (await store.active_context("s")).items[1:] == late.messages

    async def test_a_sweep_that_would_lose_a_message_is_refused(self, store: Store) -> None:
        await store_conversation(store, 5)
        one = make_leaf("one", 1, 2)
        await store.compact("s", make_compaction((), [Cover(1, 2, "one")], [one]))
        read = [Cover(1, 2, "one")]
        two, far = make_leaf("two", 3, 4), make_leaf("far", 5, 6)
        bad = [
            make_compaction(read, [*read, Cover(3, 5, "two")], [two]),
            make_compaction(read, [*read, Cover(3, 3, "two")], [two]),
            make_compaction(read, [*read, Cover(2, 4, "two")], [two]),
            make_compaction(read, [*read, Cover(3, 4, None)]),
            make_compaction(read, [*read, Cover(3, 4, "unknown")]),
            make_compaction(read, [*read, Cover(9, 11, "out")], [make_leaf("out", 9, 11)]),
            make_compaction(read, [Cover(1, 4, "two")], [make_leaf("two", 1, 4, count=2)]),
            make_compaction(read, read, [make_leaf("two", 3, 4, count=3)]),
            make_compaction(read, [Cover(1, 6, "top")], [far, make_condensed("top", [one, far])]),
            make_compaction(read, read, [make_condensed("top", [one, two])]),
            make_compaction(read, read, [two.model_copy(update={"id": "one"})]),
            make_compaction(read, read, [two, two]),
            make_compaction(read, read, [], [Prune(11, 0, 1)]),
            make_compaction(read, read, [], [Prune(1, -1, 1)]),
        ]
        before = (await store.active_context("s"), await store.summaries("s"), await store.compactions("s"))
        for compaction in bad:
            with expect_error(MnesisStoreError):
                await store.compact("s", compaction)
        assert (await store.active_context("s"), await store.summaries("s"), await store.compactions("s")) == before
        assert await store.check() == []

    async def test_a_span_can_be_unfolded_again(self, store: Store) -> None:
        log = await store_conversation(store, 3)
        before = await store.session("s")
        await store.compact("s", make_compaction((), [Cover(1, 4, "one")], [make_leaf("one", 1, 4)]))
        after = await store.compact("s", make_compaction([Cover(1, 4, "one")], ()))
        assert list((await store.active_context("s")).items) == log
        assert after.stored_tokens == before.stored_tokens
        assert await store.covered_messages("s", "one") == log[:4]

    async def test_pruned_outputs_leave_the_counts_but_not_the_log(self, store: Store) -> None:
        await store.create_session(SessionRecord(id="s", model="m"))
        tool = make_message("tool", tokens=100).model_copy(update={"tool_tokens": 90})
        await store.append("s", Append([make_message("user"), tool, make_message("assistant")], ends_turn=True))
        after = await store.compact("s", make_compaction((), (), (), [Prune(2, 0, 80)]))
        assert (after.message_tokens, after.tool_tokens) == (40, 10)
        again = await store.compact("s", make_compaction((), (), (), [Prune(2, 0, 80), Prune(2, 0, 7)]))
        assert (again.message_tokens, again.tool_tokens) == (40, 10)
        assert (await store.active_context("s")).prunes == {(2, 0): Prune(2, 0, 80)}
        folded = await store.compact("s", make_compaction((), [Cover(1, 2, "one")], [make_leaf("one", 1, 2)]))
        assert (folded.message_tokens, folded.tool_tokens) == (10, 0)
        assert (await store.active_context("s")).prunes == {}
        back = await store.compact("s", make_compaction([Cover(1, 2, "one")], ()))
        assert (back.message_tokens, back.tool_tokens) == (40, 10)
        assert (await store.message("s", tool.id)).parts == tool.parts
        assert await store.check() == []

    async def test_compactions_are_kept_with_the_turn_that_set_them_off(self, store: Store) -> None:
        await store_conversation(store, 2)
        after = await store.compact("s", make_compaction((), [Cover(1, 2, "one")], [make_leaf("one", 1, 2)]))
        await store.append("s", make_turn(3))
        (result,) = await store.compactions("s")
        assert (result.session_id, result.turn_index, result.tokens_after) == ("s", 1, after.context_tokens)
        assert (result.trigger, result.summary_ids) == ("soft", ("one",))
        first, second, third = store.turns("s")
        assert (second.compaction_triggered, second.compact_result) == (True, result)
        assert not first.compaction_triggered
        assert not third.compaction_triggered

    async def test_what_summaries_cost_is_part_of_the_sums(self, store: Store) -> None:
        await store_conversation(store, 2)
        report = UsageReport(TokenUsage(input=500, output=10, total=510), "request", cost=0.25, request_estimate=600)
        await store.append("s", Append([make_message("assistant")], report=report))
        sweep = make_compaction((), [Cover(1, 2, "one")], [make_leaf("one", 1, 2)])
        spending = {"usage": TokenUsage(input=100, output=5, total=105), "cost": 0.5}
        sweep = replace(sweep, result=sweep.result.model_copy(update=spending))
        after = await store.compact("s", sweep)
        assert (after.usage, after.cost) == (TokenUsage(input=600, output=15, total=615), 0.75)
        again = replace(sweep, read_covers=sweep.covers, summaries=(), counts_spending=False)
        assert (await store.compact("s", again)).cost == 0.75
        assert (await store.session("s")).usage == after.usage
        assert [result.cost for result in await store.compactions("s")] == [0.5, 0.5]

    async def test_a_report_without_messages_only_adds_to_the_sums(self, store: Store) -> None:
        await store_conversation(store, 2)
        report = UsageReport(TokenUsage(input=5_000, output=10), "request", request_estimate=600)
        before = (await store.append("s", Append([make_message("assistant")], report=report))).session
        spent = UsageReport(TokenUsage(input=100, output=5, total=105), "estimate", cost=0.5)
        stored = await store.append("s", Append([], report=spent))
        after = stored.session
        assert (stored.messages, stored.snapshot) == ((), None)
        assert (after.usage.input, after.cost) == (before.usage.input + 100, before.cost + 0.5)
        assert replace(after, usage=before.usage, cost=before.cost, updated_at=before.updated_at) == before
        assert await store.session("s") == after

    async def test_a_hidden_span_leaves_the_view_and_not_the_log(self, store: Store) -> None:
        log = await store_conversation(store, 4)
        await store.compact("s", make_compaction((), [Cover(3, 4, "one")], [make_leaf("one", 3, 4)]))
        after = await store.hide("s", 1, 6)
        context = await store.active_context("s")
        assert (context.items, context.covers) == (tuple(log[6:]), (Cover(1, 6, None),))
        assert (after.message_tokens, after.summary_tokens, after.context_tokens) == (20, 0, 20)
        assert await store.hide("s", 1, 6) == after == await store.session("s")
        assert await store.messages("s") == log
        assert await store.covered_messages("s", "one") == log[2:4]
        assert await store.check() == []

    async def test_hiding_part_of_a_fold_or_beyond_the_log_is_refused(self, store: Store) -> None:
        await store_conversation(store, 3)
        await store.compact("s", make_compaction((), [Cover(1, 4, "one")], [make_leaf("one", 1, 4)]))
        for first, last in ((4, 5), (2, 3), (5, 7), (0, 4)):
            with expect_error(StaleContextError):
                await store.hide("s", first, last)
        before = await store.session("s")
        assert await store.hide("s", 7, 6) == before

    async def test_a_revision_hides_and_appends_at_once(self, store: Store) -> None:
        log = await store_conversation(store, 4)
        revised = await store.revise("s", [(1, 2), (5, 8)], make_turn(9), last_seq=8)
        context = await store.active_context("s")
        assert context.items == (*log[2:4], *revised.messages)
        assert revised.session == context.session == await store.session("s")
        assert (revised.session.last_seq, revised.session.message_tokens) == (10, 40)
        assert (await store.messages("s"))[:8] == log
        emptied = await store.revise("s", [(1, 10)], Append([]), last_seq=10)
        assert (emptied.messages, emptied.session.message_tokens) == ((), 0)
        assert await store.check() == []

    async def test_a_revision_of_what_has_changed_writes_nothing(self, store: Store) -> None:
        await store_conversation(store, 3)
        await store.compact("s", make_compaction((), [Cover(1, 4, "one")], [make_leaf("one", 1, 4)]))
        before = await store.active_context("s")
        for hide, last_seq in (([(5, 6)], 5), ([(5, 5), (2, 4)], 6), ([(6, 7)], 6)):
            with expect_error(StaleContextError):
                await store.revise("s", hide, make_turn(9), last_seq=last_seq)
        assert await store.active_context("s") == before

    async def test_other_covers_show_another_branch_of_the_log(self, store: Store) -> None:
        log = await store_conversation(store, 4)
        folded, hidden = Cover(1, 4, "one"), Cover(1, 4, None)
        await store.compact("s", make_compaction((), [folded], [make_leaf("one", 1, 4)]))
        shown = await store.replace_covers("s", [hidden], make_turn(9), read_covers=[folded], last_seq=8)
        assert (await store.active_context("s")).items == (*log[4:], *shown.messages)
        assert shown.session == await store.session("s")
        rest = Cover(5, 10, None)
        back = await store.replace_covers("s", [folded, rest], Append([]), read_covers=[hidden], last_seq=10)
        context = await store.active_context("s")
        assert [item.id for item in context.items] == ["one"]
        assert (back.session.message_tokens, back.session.summary_tokens) == (0, 5)
        plain = await store.replace_covers("s", [], Append([]), read_covers=[folded, rest], last_seq=10)
        assert (await store.active_context("s")).items == (*log, *shown.messages)
        assert (plain.session.message_tokens, plain.session.summary_tokens) == (100, 0)
        assert await store.check() == []

    async def test_covers_that_changed_or_do_not_fit_are_refused(self, store: Store) -> None:
        await store_conversation(store, 3)
        folded = Cover(1, 4, "one")
        await store.compact("s", make_compaction((), [folded], [make_leaf("one", 1, 4)]))
        before = await store.active_context("s")
        for read, last_seq in (((), 6), ((folded,), 5)):
            with expect_error(StaleContextError):
                await store.replace_covers("s", [], make_turn(9), read_covers=read, last_seq=last_seq)
        for covers in ([Cover(1, 3, "one")], [folded, Cover(4, 5, None)], [Cover(5, 7, None)], [Cover(0, 1, None)]):
            with expect_error(MnesisStoreError):
                await store.replace_covers("s", covers, make_turn(9), read_covers=[folded], last_seq=6)
        with expect_error(SummaryNotFoundError):
            await store.replace_covers("s", [Cover(1, 2, "no")], make_turn(9), read_covers=[folded], last_seq=6)
        assert await store.active_context("s") == before

    async def test_a_fold_over_hidden_messages_stands_for_the_others(self, store: Store) -> None:
        log = await store_conversation(store, 4)
        await store.hide("s", 3, 4)
        made = make_leaf("one", 1, 6, count=4)
        after = await store.compact("s", make_compaction([Cover(3, 4, None)], [Cover(1, 6, "one")], [made]))
        assert await store.covered_messages("s", "one") == [*log[:2], *log[4:6]]
        assert (after.message_tokens, after.summary_tokens) == (20, 5)
        assert await store.check() == []

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
