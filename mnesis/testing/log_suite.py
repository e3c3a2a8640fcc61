# ruff: noqa: S101  # tests assert
"""The rules of a store about sessions and their logs: a part of `mnesis.testing.store_suite`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mnesis.errors import (
    DuplicateIDError,
    InvalidMessageError,
    MessageNotFoundError,
    MnesisStoreError,
    SessionNotFoundError,
    SummaryNotFoundError,
)
from mnesis.models.message import (
    DataPart,
    Message,
    TextPart,
    ToolPart,
)
from mnesis.models.session import Interruption, SessionRecord, UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import (
    EVERY_PART,
    HOSTILE_TEXTS,
    expect_error,
    make_compaction,
    make_message,
    make_turn,
    store_conversation,
)


class LogSuite:
    """Sessions, their settings, and messages that come back exactly as they were stored."""

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

    async def test_an_append_shows_the_context_that_reading_shows_or_none(self, store: Store) -> None:
        await store_conversation(store, 2)
        for number in range(2, 5):
            append = replace(make_turn(number), include_context=True)
            first, second = await store.append("s", append), await store.append("s", append)
            read = await store.active_context("s")
            assert first.context in (None, read)
            assert second.context in (None, read)

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
        assert list((await store.active_context("s", shared=True)).items) == expected
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
