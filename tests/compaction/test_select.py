"""What a sweep folds: whole turns, oldest first, never the two newest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mnesis.compaction.fold import FoldPlan, MessageSpan, plan_fold, split_span, visible_tokens
from mnesis.context.turns import turn_starts
from mnesis.models.context import ActiveContext, Budget, Prune
from mnesis.models.message import Message, ToolPart, ToolResultPart
from tests.support.histories import (
    context_of,
    contexts,
    histories,
    numbered,
    random_histories,
    summary_of,
    text_message,
    turns,
)


def budget(usable: int = 10_000, low_water: int = 1_000) -> Budget:
    return Budget(
        context_limit=2 * usable,
        max_output_tokens=usable // 2,
        usable_tokens=usable,
        soft_tokens=usable // 2,
        low_water_tokens=low_water,
        summary_tokens=low_water // 2,
    )


def folded(plan: FoldPlan) -> list[int]:
    return [message.seq for run in plan.spans for message in run.messages]


def in_context(context: ActiveContext) -> list[Message]:
    return [item for item in context.items if isinstance(item, Message)]


def newest_two_turns(context: ActiveContext) -> set[int]:
    messages = in_context(context)
    starts = turn_starts(messages)
    return {m.seq for m in messages[starts[-2] if len(starts) > 1 else 0 :]}


@given(contexts(), st.integers(0, 5_000), st.booleans())
@random_histories
def test_the_two_newest_user_turns_are_never_folded(context: ActiveContext, keep: int, everything: bool) -> None:
    plan = plan_fold(context, budget(10_000_000), keep_tokens=keep, fold_all=everything)
    assert not newest_two_turns(context) & set(folded(plan))


@given(contexts(), st.integers(0, 5_000), st.booleans())
@random_histories
def test_runs_are_whole_and_cut_where_a_turn_begins(context: ActiveContext, keep: int, everything: bool) -> None:
    plan = plan_fold(context, budget(10_000_000), keep_tokens=keep, fold_all=everything)
    messages = in_context(context)
    gone = folded(plan)
    assert gone == [m.seq for m in messages[: len(gone)]], "the oldest go first"
    if gone:
        assert len(gone) in turn_starts(messages)
    for run in plan.spans:
        seqs = [m.seq for m in run.messages]
        assert seqs == list(range(seqs[0], seqs[-1] + 1))
        assert run.tokens == sum(visible_tokens(m, context.prunes) for m in run.messages)
    assert plan.tokens == sum(run.tokens for run in plan.spans)


@given(contexts(min_size=1), st.integers(200, 3_000))
@random_histories
def test_pressed_the_newest_user_message_stays_and_the_newest_atom(context: ActiveContext, low_water: int) -> None:
    plan = plan_fold(context, budget(low_water + 1, low_water), keep_tokens=0, may_cut_fresh_turns=True)
    messages, gone = in_context(context), set(folded(plan))
    asked = [m.seq for m in messages if m.role == "user"]
    assert not asked or asked[-1] not in gone
    assert not messages or messages[-1].seq not in gone


@given(histories(max_size=20), st.integers(1, 2_000))
@random_histories
def test_calls_are_never_torn_from_their_results(messages: list[Message], size: int) -> None:
    context = context_of(messages)
    plans = [
        plan_fold(context, budget(10_000_000), keep_tokens=0, fold_all=True),
        plan_fold(context, budget(400, 300), keep_tokens=0, may_cut_fresh_turns=True),
    ]
    for plan in plans:
        pieces = [piece for run in plan.spans for piece in split_span(run, {}, size)]
        gone = set(folded(plan))
        for message in messages:
            before = message.seq - 1
            if message.role == "tool" and message.seq in gone and before in gone:
                assert any({before, message.seq} <= {m.seq for m in piece.messages} for piece in pieces)
            # A question that stays may be followed by results that go: those answer nothing.
            if message.role == "tool" and before and messages[before - 1].role != "user":
                assert (message.seq in gone) == (before in gone)


@given(histories(min_size=1, max_size=20), st.integers(1, 2_000))
@random_histories
def test_chunks_partition_a_run(messages: list[Message], size: int) -> None:
    pieces = split_span(MessageSpan(tuple(messages), sum(m.token_count for m in messages)), {}, size)
    assert [m for piece in pieces for m in piece.messages] == messages
    assert sum(piece.tokens for piece in pieces) == sum(m.token_count for m in messages)
    for piece in pieces:
        atoms = [m for m in piece.messages if m.role != "tool"]
        without_last = piece.messages[: piece.messages.index(atoms[-1])] if atoms else ()
        assert sum(m.token_count for m in without_last) <= size, "only the last atom may reach over the mark"


def test_chunks_are_cut_between_turns_where_that_is_possible() -> None:
    log = turns(20, words=30)
    pieces = split_span(MessageSpan(tuple(log), 0), {}, 1_000)
    assert len(pieces) > 2
    assert all(piece.messages[0].role == "user" for piece in pieces)


def test_one_or_two_turns_are_left_alone() -> None:
    for number in (0, 1, 2):
        for everything in (False, True):
            assert not plan_fold(context_of(turns(number)), budget(), keep_tokens=0, fold_all=everything).spans


def test_what_was_said_before_the_first_of_two_turns_is_left_alone_too() -> None:
    log = numbered([text_message("assistant", "welcome, ask me anything"), *turns(2)])
    assert not plan_fold(context_of(log), budget(), keep_tokens=0, fold_all=True).spans


def test_what_still_fits_under_the_low_water_mark_stays() -> None:
    log = turns(10)
    per_turn = log[-1].token_count + log[-2].token_count
    plan = plan_fold(context_of(log), budget(), keep_tokens=4 * per_turn + 10)
    assert folded(plan) == list(range(1, 13))
    assert folded(plan_fold(context_of(log), budget(), keep_tokens=4 * per_turn + 10, fold_all=True)) == list(
        range(1, 17)
    )


def test_several_user_messages_in_a_row_are_one_turn() -> None:
    log = numbered([*turns(3), text_message("user", "one"), text_message("user", "two"), text_message("user", "three")])
    assert turn_starts(log) == [0, 2, 4, 6]
    assert folded(plan_fold(context_of(log), budget(), keep_tokens=0, fold_all=True)) == [1, 2, 3, 4]


def test_runs_end_where_a_summary_or_a_gap_stands() -> None:
    log = turns(8)
    summaries = [summary_of(log[4:8], "facts")]
    plan = plan_fold(context_of(log, summaries=summaries), budget(), keep_tokens=0, fold_all=True)
    assert [[m.seq for m in run.messages] for run in plan.spans] == [[1, 2, 3, 4], [9, 10, 11, 12]]


def test_pressed_changes_nothing_while_the_newest_turns_fit() -> None:
    context = context_of(turns(10))
    assert plan_fold(context, budget(), keep_tokens=0, may_cut_fresh_turns=True) == plan_fold(
        context, budget(), keep_tokens=0
    )


def test_a_turn_longer_than_the_window_is_cut_between_its_calls() -> None:
    steps = [text_message("user", "go")]
    for i in range(100):
        steps.append(Message(id="d", role="assistant", parts=(ToolPart(tool_name="f", tool_call_id=f"c{i}"),)))
        steps.append(Message(id="d", role="tool", parts=(ToolResultPart(tool_call_id=f"c{i}", output="x " * 100),)))
    plan = plan_fold(context_of(numbered(steps)), budget(5_000, 1_000), keep_tokens=0, may_cut_fresh_turns=True)
    gone = folded(plan)
    assert 1 not in gone
    assert gone[0] == 2
    assert gone[-1] % 2 == 1, "the last one folded is a result"
    assert 201 not in gone


def test_pruned_outputs_count_as_what_is_shown() -> None:
    log = numbered([Message(id="d", role="tool", parts=(ToolResultPart(tool_call_id="a", output="x " * 500),))])
    assert visible_tokens(log[0], {}) == log[0].token_count
    assert visible_tokens(log[0], {(1, 0): Prune(1, 0, 400)}) == log[0].token_count - 400


def agent_turns(number: int, steps: int = 6) -> list[Message]:
    """Turns with tool steps of some 200 tokens each."""
    messages = []
    for turn in range(number):
        messages.append(text_message("user", f"task {turn}"))
        for step in range(steps):
            call_id = f"c{turn}-{step}"
            messages.append(Message(id="d", role="assistant", parts=(ToolPart(tool_name="f", tool_call_id=call_id),)))
            result = ToolResultPart(tool_call_id=call_id, output="x " * 200)
            messages.append(Message(id="d", role="tool", parts=(result,)))
        messages.append(text_message("assistant", f"done {turn}"))
    return numbered(messages)


def test_long_turns_of_an_agent_keep_their_question_and_their_newest_steps() -> None:
    messages = agent_turns(4)
    plan = plan_fold(context_of(messages), budget(), keep_tokens=0, max_fresh_tokens=700)
    kept = [m for m in messages if m.seq not in folded(plan)]
    assert kept[0].text_content() == "task 3"
    assert [m.role for m in kept[1:]] == ["assistant", "tool", "assistant", "tool", "assistant", "tool", "assistant"]
    assert sum(m.token_count for m in kept[1:]) <= 700
    least = plan_fold(context_of(messages), budget(), keep_tokens=0, max_fresh_tokens=1)
    assert [m.role for m in messages if m.seq not in folded(least)] == ["user", "assistant", "tool", "assistant"]


def test_turns_within_their_share_or_without_tools_stay_whole() -> None:
    messages = agent_turns(4)
    plan = plan_fold(context_of(messages), budget(), keep_tokens=0, max_fresh_tokens=100_000)
    assert not newest_two_turns(context_of(messages)) & set(folded(plan))
    talk = turns(6, words=200)
    plan = plan_fold(context_of(talk), budget(), keep_tokens=0, max_fresh_tokens=1)
    assert not newest_two_turns(context_of(talk)) & set(folded(plan))
