"""A window that continues the one before is the window that would be assembled from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.context import assemble as module
from mnesis.context.assemble import MIN_AVAILABLE_TOKENS, Assembly, assemble, assemble_next
from mnesis.formats import request
from mnesis.formats.request import RenderedSteps, Target, render_request
from mnesis.models.context import ActiveContext, Prune, WindowOptions
from mnesis.models.dialects import dialect_names
from mnesis.models.message import Message, TextPart, ToolPart, ToolResultPart
from tests.support.histories import (
    context_of,
    contexts,
    count,
    drafts,
    histories,
    numbered,
    random_histories,
    summary_of,
    text_message,
    turns,
)

plain_drafts = st.builds(text_message, st.sampled_from(["user", "assistant", "system"]), st.text(max_size=20))


def grow(context: ActiveContext, drafts: list[Message]) -> ActiveContext:
    """Return a context after further messages, whose other items are the same objects."""
    last_seq = context.session.last_seq
    new = [
        message.model_copy(update={"id": f"n{seq}", "seq": seq})
        for seq, message in enumerate(numbered(drafts), last_seq + 1)
    ]
    session = replace(context.session, last_seq=last_seq + len(new))
    return replace(context, session=session, items=(*context.items, *new))


def next_of(earlier: Assembly | None, context: ActiveContext, budget_tokens: int = 1_000_000, **more: Any) -> Assembly:
    return assemble_next(earlier, context, budget_tokens=budget_tokens, count=count, **more)


@given(
    contexts(), st.lists(st.lists(st.one_of(plain_drafts, plain_drafts, drafts()), max_size=3), max_size=4), st.data()
)
@random_histories
def test_a_continued_window_equals_an_assembled_one(
    context: ActiveContext, additions: list[list[Message]], data: st.DataObject
) -> None:
    earlier = None
    for addition in [[], *additions]:
        context = grow(context, addition)
        budget = context.session.system_tokens + data.draw(
            st.one_of(st.just(100_000), st.integers(MIN_AVAILABLE_TOKENS, 3_000))
        )
        earlier = next_of(earlier, context, budget)
        assert earlier.window == assemble(context, budget_tokens=budget, count=count)


@given(histories(), st.lists(st.lists(st.one_of(plain_drafts, drafts()), max_size=3), max_size=4), st.data())
@random_histories
def test_a_continued_request_equals_a_rendered_one(
    messages: list[Message], additions: list[list[Message]], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(dialect_names()))
    model = data.draw(st.sampled_from(["anthropic/claude-sonnet-4-5", "gemini/gemini-3-pro", "openai/gpt-4o"]))
    target = Target.find(model, dialect=name, cache_lifetime="5m", awaits_user_message=data.draw(st.booleans()))
    summaries = [summary_of(messages[:1], "summary")] if messages and data.draw(st.booleans()) else []
    context = context_of(messages, system_prompt=data.draw(st.sampled_from(["", "Be brief."])), summaries=summaries)
    assembly: Assembly | None = None
    steps: RenderedSteps | None = None
    for addition in [[], *additions]:
        context = grow(context, addition)
        assembly = next_of(assembly, context)
        rendered, expected = (
            render_request(assembly.window, target, earlier=steps),
            render_request(assembly.window, target),
        )
        assert rendered == expected
        steps = rendered.steps
        for message in rendered.messages:  # as a client may
            _empty(message)


@pytest.mark.parametrize("changed", ["system prompt", "model", "messages"])
def test_another_request_is_rendered_from_nothing(changed: str) -> None:
    log = numbered(
        [text_message("assistant", "hello"), text_message("user", "question")]
    )  # for Claude, a user must begin
    context, target = context_of(log, system_prompt="Be brief."), Target.find("openai/gpt-4o")
    window = next_of(None, context).window
    steps = render_request(window, target).steps
    if changed == "system prompt":
        window = replace(window, system_prompt="Be thorough.")
    elif changed == "model":
        target = Target.find("anthropic/claude-sonnet-4-5", cache_lifetime="5m")
    else:
        other = window.messages[0].model_copy(update={"parts": (TextPart(text="another question"),)})
        window = replace(window, messages=(other, *window.messages[1:]))
    assert render_request(window, target, earlier=steps) == render_request(window, target)


def _empty(value: Any) -> None:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _empty(inner)
        value.clear()


@pytest.fixture
def repaired(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each assembly from nothing began with."""
    counts: list[int] = []
    original = module.window_entries

    def note(context: ActiveContext, *arguments: Any) -> Any:
        counts.append(len(context.items))
        return original(context, *arguments)

    monkeypatch.setattr(module, "window_entries", note)
    return counts


def test_texts_are_added_without_looking_at_the_others(repaired: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []
    original = request.plain_chat_message
    monkeypatch.setattr(
        request,
        "plain_chat_message",
        lambda message, fields: [rendered.append(message.seq), original(message, fields)][1],
    )
    target = Target.find("openai/gpt-4o")
    context = context_of(turns(25))
    assembly = next_of(None, context)
    steps = render_request(assembly.window, target).steps
    for number in range(3):
        context = grow(context, [text_message("user", "q"), text_message("assistant", "a")][: number * 2])
        assembly = next_of(assembly, context)
        steps = render_request(assembly.window, target, earlier=steps).steps
    assert repaired == [50]
    assert rendered == [*range(1, 51), 51, 52, 53, 54]
    assert len(assembly.window.messages) == 54


def test_other_contexts_are_assembled_from_nothing(repaired: list[int]) -> None:
    context = context_of(turns(3))
    earlier = next_of(None, context)
    call = Message(id="d", role="assistant", parts=(ToolPart(tool_name="f", tool_call_id="c"),))
    changed = replace(context, items=(*context.items[:2], context.items[2].model_copy(), *context.items[3:]))
    shorter = replace(context, items=context.items[:4])
    orphan = Message(id="o", role="tool", parts=(TextPart(text="a result without a call"),))
    grown = [grow(context, [call]), grow(context, [orphan])]
    others = [changed, shorter, *grown, context_of(turns(3), summaries=[summary_of(turns(1), "s")])]
    for other in others:
        next_of(earlier, other)
    next_of(earlier, context, options=WindowOptions(starts_with_user=True))
    next_of(earlier, context, context.session.system_tokens + 200)
    assert len(repaired) == 1 + len(others) + 2


def test_an_output_that_was_pruned_since_is_shown_as_a_marker() -> None:
    call = ToolPart(tool_name="f", tool_call_id="c")
    result = ToolResultPart(tool_call_id="c", tool_name="f", output="line of output " * 200)
    log = [
        text_message("user", "q"),
        Message(id="call", role="assistant", parts=(call,)),
        Message(id="result", role="tool", parts=(result,)),
        text_message("assistant", "a"),
    ]
    context = context_of(numbered(log))
    earlier = next_of(None, context)
    pruned = replace(context, prunes={(3, 0): Prune(3, 0, 500)})
    window = next_of(earlier, pruned).window
    assert window == assemble(pruned, budget_tokens=1_000_000, count=count)
    assert window.messages != earlier.window.messages


def test_a_reader_cannot_change_the_summary_of_the_next_window(repaired: list[int]) -> None:
    log = turns(3)
    context = context_of(log, summaries=[summary_of(log[:2], "summary")])
    earlier = next_of(None, context)
    assert next_of(earlier, context).window.messages[0] is earlier.window.messages[0]
    earlier.window.messages[0].extra["note"] = "by a reader"
    assert next_of(earlier, context).window.messages[0].extra == {}
