"""The window fits, whatever the history; what it does not show it names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.context.assemble import MARKER_TOKENS, MIN_AVAILABLE_TOKENS, assemble
from mnesis.context.excerpts import MIN_EXCERPT_TOKENS
from mnesis.context.markers import excerpt, omitted_part_marker, omitted_span_marker
from mnesis.errors import ContextIrreducibleError
from mnesis.formats.anthropic import anthropic_messages
from mnesis.formats.openai import chat_messages, replace_lone_surrogates
from mnesis.ids import new_id
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
)
from mnesis.models.summary import Summary
from mnesis.tokens import TokenEstimator
from tests.support.histories import (
    chat_tokens,
    check_anthropic,
    check_chat,
    content_text,
    context_of,
    contexts,
    count,
    numbered,
    random_histories,
    text_message,
    turns,
)

OMITTED = re.compile(r"\[Messages? (\d+)(?: to (\d+) \([\d,]+\))? (?:are|is) left out to save space")


def window_of(context: ActiveContext, budget_tokens: int, **kwargs: object) -> Window:
    return assemble(context, budget_tokens=budget_tokens, count=count, **kwargs)  # type: ignore[arg-type]  # keywords of assemble


def check_fits(window: Window) -> None:
    assert window.tokens <= window.budget_tokens
    rendered = chat_messages(window.messages, window.system_prompt)
    # What a rendering puts around parts (file frames, "Error: ", blank lines between parts) is within 8 tokens a message.
    assert chat_tokens(rendered) <= window.budget_tokens + 8 * len(rendered)


def check_complete(context: ActiveContext, window: Window) -> None:
    """Every item is there, or a marker names its place in the log."""
    text = "\n".join(content_text(m.get("content")) for m in chat_messages(window.messages))
    spans = [(int(first), int(last or first)) for first, last in OMITTED.findall(text)]
    shown = {m.id for m in window.messages} | {m.seq for m in window.messages if not m.is_summary}
    for item in context.items:
        first, last = (item.first_seq, item.last_seq) if isinstance(item, Summary) else (item.seq, item.seq)
        named = any(start <= first and last <= end for start, end in spans)
        assert item.id in shown or (not isinstance(item, Summary) and item.seq in shown) or named, item.id


def newest_question(context: ActiveContext) -> Message | None:
    asked = [m for m in context.items if isinstance(m, Message) and m.role == "user"]
    return asked[-1] if asked else None


@given(contexts(), st.integers(MIN_AVAILABLE_TOKENS, 6_000))
@random_histories
def test_whatever_the_history_the_window_fits_is_valid_and_loses_nothing(context: ActiveContext, room: int) -> None:
    window = window_of(context, context.session.system_tokens + room)
    check_fits(window)
    check_chat(chat_messages(window.messages, window.system_prompt))
    check_anthropic(anthropic_messages(window.messages))
    check_complete(context, window)
    question = newest_question(context)
    if question is not None:
        assert question.id in {m.id for m in window.messages}


@given(contexts())
@random_histories
def test_with_room_enough_everything_is_shown_as_it_is(context: ActiveContext) -> None:
    window = window_of(context, 1_000_000)
    assert window.omitted == 0
    check_fits(window)
    check_complete(context, window)
    chat = "\n".join(content_text(m.get("content")) for m in chat_messages(window.messages))
    anthropic = "\n".join(content_text(m["content"]) for m in anthropic_messages(window.messages))
    for message in (item for item in context.items if isinstance(item, Message)):
        for part in message.parts:
            if isinstance(part, TextPart) and part.text.strip():
                assert replace_lone_surrogates(part.text) in chat
                assert replace_lone_surrogates(part.text) in anthropic
    shown = {m.id: m for m in window.messages}
    for item in context.items:
        if isinstance(item, Message) and item.role == "user":
            assert shown[item.id].parts == item.parts


@given(contexts(min_size=1), st.integers(MIN_AVAILABLE_TOKENS, 6_000))
@random_histories
def test_the_same_context_gives_the_same_window(context: ActiveContext, room: int) -> None:
    assert window_of(context, room + 100) == window_of(context, room + 100)


def test_the_newest_user_message_is_verbatim_when_it_fits() -> None:
    log = numbered([*turns(60, words=40), text_message("user", "and now: which port did we choose?")])
    for budget in (200, 500, 2_000):
        window = window_of(context_of(log), budget)
        assert window.messages[-1].parts == log[-1].parts
        check_fits(window)


@pytest.mark.parametrize(
    "part",
    [
        TextPart(text="head " + "word " * 30_000 + "tail"),
        FilePart(name="a.txt", text="head " + "word " * 30_000 + "tail"),
        FilePart(name="a.pdf", data="aGVsbG8=" * 30_000, media_type="application/pdf"),
        FileRefPart(content_id="f1", path="a.txt", exploration_summary="word " * 30_000),
        DataPart(kind="blob", text="head " + "word " * 30_000 + "tail"),
    ],
    ids=["text", "file text", "file data", "file reference", "data"],
)
def test_a_message_larger_than_the_window_is_shown_in_part(part: object) -> None:
    message = Message(id="draft", role="user", parts=(part, TextPart(text="what is this?")))  # type: ignore[arg-type]  # any part
    log = numbered([*turns(3), message])
    window = window_of(context_of(log), 3_000)
    check_fits(window)
    check_complete(context_of(log), window)
    shown = content_text(chat_messages(window.messages)[-1]["content"])
    assert "what is this?" in shown
    assert f'lcm_expand("{log[-1].id}")' in shown
    assert chat_messages(window.messages)[0]["content"].startswith("question-0"), "the rest is still there"


def test_a_long_text_is_shown_with_its_head_and_its_tail() -> None:
    log = numbered([text_message("user", "the very beginning " + "word " * 30_000 + " the very end")])
    shown = chat_messages(window_of(context_of(log), 1_000).messages)[0]["content"]
    assert shown.startswith("the very beginning")
    assert shown.endswith("the very end")


def test_signed_reasoning_larger_than_the_window_makes_room() -> None:
    thought = "hmm " * 30_000
    parts = (ReasoningPart(text=thought, provider={"type": "thinking", "thinking": thought}), TextPart(text="done"))
    log = numbered(
        [text_message("user", "think"), Message(id="d", role="assistant", parts=parts), text_message("user", "and?")]
    )
    window = window_of(context_of(log), 2_000)
    check_fits(window)
    assert "done" in str(chat_messages(window.messages))


def test_a_marker_names_a_result_before_an_empty_tool_message() -> None:
    call = Message(id="draft", role="assistant", parts=(ToolPart(tool_name="look", tool_call_id="a"),))
    result = Message(id="draft", role="tool", parts=(ToolResultPart(tool_call_id="a"),))
    old = [text_message("user", f"t{number}") for number in range(30)]
    new = [text_message("user", "new " * 150), text_message("assistant", "x")]
    context = context_of(numbered([*old, call, Message(id="draft", role="tool"), result, *new]))
    window = window_of(context, 300)
    assert window.omitted == 33
    check_complete(context, window)


def test_a_thousand_tiny_messages_fit() -> None:
    log = numbered([text_message(("user", "assistant")[i % 2], f"t{i}") for i in range(1_000)])
    window = window_of(context_of(log), 1_000)
    check_fits(window)
    check_complete(context_of(log), window)
    assert window.omitted > 0
    assert window.messages[-1].text_content() == "t999"


def test_a_message_of_a_thousand_tiny_parts_fits() -> None:
    parts = tuple(TextPart(text=f"part number {i} of the message. ") for i in range(1_000))
    log = numbered([Message(id="d", role="user", parts=parts)])
    window = window_of(context_of(log), 1_000)
    check_fits(window)
    shown = str(chat_messages(window.messages))
    assert "part number 0 " in shown
    assert 'lcm_expand("m1")' in shown


@pytest.mark.parametrize("budget", [1_000, 4_000, 20_000])
def test_one_turn_of_two_hundred_tool_calls_fits(budget: int) -> None:
    steps = [text_message("user", "please go through the whole repository")]
    for i in range(200):
        call = ToolPart(tool_name="read", tool_call_id=f"c{i}", input={"path": f"src/file{i}.py"})
        steps.append(Message(id="d", role="assistant", parts=(call,)))
        steps.append(Message(id="d", role="tool", parts=(ToolResultPart(tool_call_id=f"c{i}", output="line\n" * 200),)))
    context = context_of(numbered(steps))
    window = window_of(context, budget)
    check_fits(window)
    check_complete(context, window)
    rendered = chat_messages(window.messages)
    check_chat(rendered)
    assert rendered[0]["content"] == "please go through the whole repository"
    assert window.messages[-1].seq == 401


@pytest.mark.parametrize("budget", [1_000, 4_000, 30_000])
def test_two_hundred_parallel_calls_in_one_message_fit(budget: int) -> None:
    calls = tuple(ToolPart(tool_name="read", tool_call_id=f"c{i}", input={"path": f"f{i}"}) for i in range(200))
    results = tuple(ToolResultPart(tool_call_id=f"c{i}", output="line\n" * 100) for i in range(200))
    log = numbered(
        [
            text_message("user", "read them all"),
            Message(id="d", role="assistant", parts=calls),
            Message(id="d", role="tool", parts=results),
        ]
    )
    window = window_of(context_of(log), budget)
    check_fits(window)
    check_complete(context_of(log), window)
    check_chat(chat_messages(window.messages))
    check_anthropic(anthropic_messages(window.messages))
    assert "read them all" in str(chat_messages(window.messages))


def test_a_system_prompt_that_fills_the_window_is_refused_with_numbers() -> None:
    context = context_of(turns(2), system_prompt="rule " * 500)
    with pytest.raises(ContextIrreducibleError) as refused:
        window_of(context, 400)
    assert refused.value.usable_tokens == 400
    assert refused.value.required_tokens == context.session.system_tokens
    with pytest.raises(ContextIrreducibleError):
        window_of(context_of([], system_prompt="rule " * 500), 400)


def test_tool_definitions_take_room_from_the_conversation() -> None:
    context = context_of(turns(30))
    free, crowded = window_of(context, 1_500), window_of(context, 1_500, reserved_tokens=900)
    assert crowded.tokens == crowded.system_tokens + 900 + sum(m.token_count for m in crowded.messages) <= 1_500
    assert sum(m.token_count for m in crowded.messages) <= 600 - context.session.system_tokens
    assert len(crowded.messages) < len(free.messages)
    with pytest.raises(ContextIrreducibleError):
        window_of(context, 1_500, reserved_tokens=1_490)


def test_a_system_prompt_for_this_turn_is_counted_as_itself() -> None:
    context = context_of(turns(30), system_prompt="short")
    window = window_of(context, 1_500, system_prompt="rule " * 900)
    assert window.system_prompt == "rule " * 900
    assert window.system_tokens >= 900
    check_fits(window)


def test_media_that_do_not_fit_leave_a_pointer() -> None:
    images = tuple(ImagePart(url=f"https://example.org/{i}.png") for i in range(4))
    log = numbered([Message(id="d", role="user", parts=(*images, TextPart(text="compare these")))])
    window = window_of(context_of(log), 2_000)
    check_fits(window)
    shown = content_text(chat_messages(window.messages)[0]["content"])
    assert "compare these" in shown
    assert 'lcm_expand("m1")' in shown


def test_a_summary_larger_than_the_window_is_shown_in_part() -> None:
    from tests.support.histories import summary_of

    log = turns(4)
    context = context_of(log, summaries=[summary_of(log[:4], "fact " * 8_000)])
    window = window_of(context, 1_500)
    check_fits(window)
    check_complete(context, window)
    assert window.messages[0].is_summary


def test_trimming_moves_in_strides_so_that_the_prefix_stays() -> None:
    log, firsts = turns(120, words=10), []
    for end in range(100, 240, 2):
        window = window_of(context_of(log[:end]), 2_000)
        firsts.append(str(chat_messages(window.messages[:2])))
    assert len(set(firsts)) <= 12, "the beginning changes with nearly every turn"


def test_the_newest_user_message_stays_verbatim_as_long_as_it_fits() -> None:
    log = numbered([*turns(30), text_message("user", "first words " + "word " * 1_100 + "last words")])
    window = window_of(context_of(log), 1_500)
    check_fits(window)
    assert window.messages[-1] == log[-1]
    assert window.omitted > 0


@pytest.mark.parametrize(
    "estimator",
    [
        TokenEstimator(encoding="o200k_base"),
        TokenEstimator(encoding="cl100k_base"),
        TokenEstimator(encoding="claude_heuristic"),
        TokenEstimator(encoding="claude_heuristic", heuristic_only=True),
    ],
    ids=["o200k", "cl100k", "claude", "without tables"],
)
def test_markers_and_pointers_keep_to_the_room_that_is_planned_for_them(estimator: TokenEstimator) -> None:
    message_id = new_id("msg")
    assert estimator.estimate(omitted_span_marker(1_000_000, 9_999_999, 9_000_000)) + 4 <= MARKER_TOKENS
    pointer = excerpt("word " * 150_000, 0, estimator.estimate, message_id)
    assert estimator.estimate(pointer) + 4 <= MIN_EXCERPT_TOKENS
    assert estimator.estimate(omitted_part_marker("reasoning", message_id)) + 4 <= MIN_EXCERPT_TOKENS
