# ruff: noqa: S101  # tests assert
"""The rules of a store about token accounts: a part of `mnesis.testing.store_suite`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from mnesis.models.context import Cover
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import SessionRecord, UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import (
    make_compaction,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)


class AccountSuite:
    """The effect of usage reports on the accounts of a session."""

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

    async def test_turns_are_read_in_pages(self, store: Store) -> None:
        await store_conversation(store, 5)
        turns = store.turns("s")
        pages = [store.turns("s", after_turn=after, limit=2) for after in (-1, 1, 3, 4)]
        assert pages == [turns[:2], turns[2:4], turns[4:], []]
        assert store.turns("s", after_turn=2) == turns[3:]

    async def test_turns_can_be_read_from_another_thread(self, store: Store) -> None:
        await store_conversation(store, 2)
        assert len(await asyncio.to_thread(store.turns, "s")) == 2
