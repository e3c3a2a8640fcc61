"""Old tool outputs become markers; new ones and small gains do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.compaction.fold import visible_tokens
from mnesis.compaction.prune import plan_prune
from mnesis.config import CompactionConfig
from mnesis.context.assemble import assemble
from mnesis.context.turns import turn_starts
from mnesis.models.context import ActiveContext, Prune
from mnesis.models.message import Message, TextPart, ToolPart, ToolResultPart
from tests.support.histories import (
    context_of,
    contexts,
    count,
    numbered,
    random_histories,
    text_message,
)


def config(protect: int, minimum: int, **fields: bool) -> CompactionConfig:
    return CompactionConfig(prune_protect_tokens=protect, prune_minimum_tokens=minimum, **fields)  # type: ignore[arg-type]  # booleans


def reading(number: int, words: int = 300) -> list[Message]:
    """So many turns, each with a call and a long output, in turns within the call and in a message of its own."""
    found = []
    for i in range(number):
        found.append(text_message("user", f"read file {i}"))
        output = f"line{i} " * words
        if i % 2:
            call = ToolPart(tool_name="read", tool_call_id=f"c{i}", output=output)
            found.append(Message(id="d", role="assistant", parts=(TextPart(text="reading"), call)))
        else:
            call = ToolPart(tool_name="read", tool_call_id=f"c{i}")
            found.append(Message(id="d", role="assistant", parts=(call,)))
            result = ToolResultPart(tool_call_id=f"c{i}", tool_name="read", output=output)
            found.append(Message(id="d", role="tool", parts=(result,)))
        found.append(text_message("assistant", f"it says {i}"))
    return numbered(found)


@given(contexts(max_size=20), st.integers(1, 4_000), st.data())
@random_histories
def test_what_is_pruned_is_old_enough_worth_it_and_an_output(
    context: ActiveContext, protect: int, data: st.DataObject
) -> None:
    minimum = data.draw(st.integers(0, protect - 1))
    plan = plan_prune(context, config(protect, minimum), count)
    messages = [item for item in context.items if isinstance(item, Message)]
    starts = turn_starts(messages)
    fresh = {m.seq for m in messages[starts[-2] if len(starts) > 1 else 0 :]}
    behind = {
        m.seq: sum(visible_tokens(later, context.prunes) for later in messages[place + 1 :])
        for place, m in enumerate(messages)
    }
    by_seq = {m.seq: m for m in messages}
    assert not plan or sum(p.tokens_saved for p in plan) >= minimum
    for prune in plan:
        assert prune.seq not in fresh
        assert behind[prune.seq] >= protect
        assert isinstance(by_seq[prune.seq].parts[prune.part_index], ToolPart | ToolResultPart)
        assert (prune.seq, prune.part_index) not in context.prunes
        assert prune.tokens_saved > 0
    assert len({(p.seq, p.part_index) for p in plan}) == len(plan)


def test_pruning_shrinks_the_window_by_the_announced_tokens() -> None:
    log = reading(10)
    plan = plan_prune(context_of(log), config(1_000, 500), count)
    assert {type(log[p.seq - 1].parts[p.part_index]) for p in plan} == {ToolPart, ToolResultPart}
    before = assemble(context_of(log), budget_tokens=100_000, count=count)
    after = assemble(context_of(log, prunes=plan), budget_tokens=100_000, count=count)
    saved = sum(p.tokens_saved for p in plan)
    assert before.tokens - after.tokens == saved
    shown = numbered(after.messages)
    assert abs(sum(m.token_count for m in shown) - (after.tokens - after.system_tokens)) <= 4 * len(plan)


@pytest.mark.parametrize("protect", [1, 2_000, 5_000, 9_000])
def test_outputs_within_the_newest_tokens_are_protected(protect: int) -> None:
    log = reading(12)
    behind, old = 0, set()
    for message in reversed(log):
        if behind >= protect and message.tool_tokens:
            old.add(message.seq)
        behind += message.token_count
    plan = plan_prune(context_of(log), config(protect, 0), count)
    fresh = {m.seq for m in log[turn_starts(log)[-2] :]}
    assert {p.seq for p in plan} == old - fresh
    assert old - fresh < {m.seq for m in log if m.tool_tokens}


def test_pruning_twice_finds_nothing_new() -> None:
    log = reading(10)
    plan = plan_prune(context_of(log), config(1_000, 500), count)
    assert plan
    assert plan_prune(context_of(log, prunes=plan), config(1_000, 500), count) == ()


def test_less_than_the_minimum_is_left_alone() -> None:
    log = reading(10)
    saved = sum(p.tokens_saved for p in plan_prune(context_of(log), config(1_000, 0), count))
    assert plan_prune(context_of(log), config(saved + 2, saved + 1), count) == ()
    assert plan_prune(context_of(log), config(1_000, 999), count) != ()


def test_pruning_can_be_switched_off() -> None:
    assert plan_prune(context_of(reading(10)), config(1_000, 0, prune=False), count) == ()


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_turns_keep_their_outputs(number: int) -> None:
    assert plan_prune(context_of(reading(number, words=5_000)), config(1, 0), count) == ()


def test_equal_ids_within_a_message_prune_each_output_once() -> None:
    calls = tuple(ToolPart(tool_name="f", tool_call_id="same", output=f"out{i} " * 400) for i in range(3))
    log = numbered([text_message("user", "q"), Message(id="d", role="assistant", parts=calls), *reading(4)])
    plan = plan_prune(context_of(log), config(500, 100), count)
    assert [p.part_index for p in plan if p.seq == 2] == [0, 1, 2]
    window = assemble(context_of(log, prunes=plan), budget_tokens=100_000, count=count)
    assert "out1 out1" not in str(window.messages)


def test_an_errors_text_is_an_output_and_stays_marked_as_an_error() -> None:
    call = ToolPart(tool_name="f", tool_call_id="a", error_message="trace " * 900)
    log = numbered([text_message("user", "q"), Message(id="d", role="assistant", parts=(call,)), *reading(4)])
    plan = plan_prune(context_of(log), config(500, 100), count)
    assert Prune(2, 0, plan[0].tokens_saved) == plan[0]
    shown = assemble(context_of(log, prunes=plan), budget_tokens=100_000, count=count).messages[1].parts[0]
    assert isinstance(shown, ToolPart)
    assert shown.result().is_error
    assert "left out" in shown.result().output
