# ruff: noqa: S101  # tests assert
"""The rules of a store about folds, prunes and revisions: a part of `mnesis.testing.store_suite`."""

from __future__ import annotations

from dataclasses import replace

from mnesis.errors import (
    MnesisStoreError,
    StaleContextError,
    SummaryNotFoundError,
)
from mnesis.models.context import Cover, Prune
from mnesis.models.session import SessionRecord, UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Store
from mnesis.testing.store_samples import (
    expect_error,
    make_compaction,
    make_condensed,
    make_leaf,
    make_message,
    make_turn,
    store_conversation,
)


class FoldSuite:
    """Changes of the active context, which never change the log."""

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
