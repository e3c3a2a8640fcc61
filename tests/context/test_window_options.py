"""Windows for receivers with rules of their own: every layout is valid, fits, and names what it leaves out."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis import ConfigurationError, MnesisConfig, MnesisSession, WindowOptions
from mnesis.config import RecallConfig
from mnesis.context.assemble import assemble
from mnesis.context.markers import OPENING_HEADER
from mnesis.errors import ContextIrreducibleError
from mnesis.formats.openai import chat_messages
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import Message
from tests.support.histories import (
    check_chat,
    content_text,
    context_of,
    contexts,
    count,
    numbered,
    random_histories,
    text_message,
)

OMITTED = re.compile(r"\[Messages? (\d+)(?: to (\d+) \([\d,]+\))? (?:are|is) left out to save space")
APART = WindowOptions(starts_with_user=True, summaries="preface")


def window_of(context: ActiveContext, budget_tokens: int, options: WindowOptions) -> Window:
    return assemble(context, budget_tokens=budget_tokens, count=count, system_prompt="", options=options)


def content_of(window: Window) -> tuple[Message, ...]:
    return (*window.system_messages, *window.preface, *window.messages)


@given(contexts(), st.integers(200, 6_000), st.sampled_from(["inline", "preface"]))
@random_histories
def test_a_window_that_starts_with_a_user_message_is_valid_and_fits(
    context: ActiveContext, room: int, summaries: str
) -> None:
    options = WindowOptions(starts_with_user=True, summaries=summaries)  # type: ignore[arg-type]  # one of the two
    try:
        window = window_of(context, room, options)
    except ContextIrreducibleError:
        # Whole turns with many calls or instructions cannot be made smaller.
        return
    assert window.tokens <= room
    assert window.tokens == sum(message.token_count for message in content_of(window))
    check_chat(chat_messages(content_of(window)))
    if any(isinstance(item, Message) and item.role == "user" for item in context.items):
        spoken = [message for message in window.messages if message.role != "system"]
        assert spoken[0].role == "user"


@given(contexts(), st.integers(20, 3_000))
@random_histories
def test_a_layout_loses_nothing_without_naming_it(context: ActiveContext, room: int) -> None:
    window = window_of(context, room, replace(APART, keeps_newest_message=True))
    if window.tokens > room - 80:
        return  # no tokens are left for a note
    text = "\n".join(content_text(m.get("content")) for m in chat_messages(content_of(window)))
    spans = [(int(first), int(last or first)) for first, last in OMITTED.findall(text)]
    shown = {message.seq for message in content_of(window)}
    has_opening = OPENING_HEADER in text
    first_user = min((m.seq for m in context.items if isinstance(m, Message) and m.role == "user"), default=0)
    for item in context.items:
        if isinstance(item, Message):
            is_told = has_opening and item.seq < first_user
            assert item.seq in shown or is_told or any(first <= item.seq <= last for first, last in spans), item.id


@given(contexts(), st.integers(1, 2_000))
@random_histories
def test_the_newest_message_stays_whatever_it_takes(context: ActiveContext, room: int) -> None:
    messages = [item for item in context.items if isinstance(item, Message)]
    if not messages or messages[-1].role == "tool" or messages[-1].tool_calls:
        return
    window = window_of(context, room, replace(APART, keeps_newest_message=True))
    assert window.messages[-1].id == messages[-1].id
    assert window.messages[-1].text_content() == messages[-1].text_content()


@given(contexts(), st.integers(300, 6_000))
@random_histories
def test_both_placements_of_summaries_have_the_same_content(context: ActiveContext, room: int) -> None:
    options = replace(APART, keeps_newest_message=True)
    apart, inline = (window_of(context, room, replace(options, summaries=name)) for name in ("preface", "inline"))
    assert inline.preface == ()
    assert inline.messages == (*apart.preface, *apart.messages)
    assert inline.tokens == apart.tokens


@given(contexts(), st.integers(300, 6_000))
@random_histories
def test_options_that_say_nothing_change_nothing(context: ActiveContext, room: int) -> None:
    budget_tokens = context.session.system_tokens + room
    plain = assemble(context, budget_tokens=budget_tokens, count=count)
    assert assemble(context, budget_tokens=budget_tokens, count=count, options=WindowOptions()) == plain
    assert plain.preface == plain.system_messages == ()


def test_pinned_instructions_come_first_in_the_order_of_the_log() -> None:
    folded, later, *rest = numbered(
        [text_message("system", "in verse"), text_message("system", "no beta"), text_message("user", "hi")]
    )
    context = context_of([later, *rest])
    window = window_of(context, 1_000, replace(APART, pinned_system_messages=(folded,)))
    assert [message.text_content() for message in window.system_messages] == ["in verse", "no beta"]
    assert [message.text_content() for message in window.messages] == ["hi"]


def test_an_unknown_placement_is_refused_with_the_two_that_exist() -> None:
    with pytest.raises(ConfigurationError, match=r"'inline' or 'preface', not 'top'"):
        WindowOptions(summaries="top")  # type: ignore[arg-type]  # what a user may write


async def test_a_layout_makes_room_for_what_is_recalled() -> None:
    config = MnesisConfig(recall=RecallConfig(enabled=True, max_tokens=150))
    async with MnesisSession.open(db_path=":memory:", model="none", config=config) as session:
        await session.record("The staging database listens on port 5433.", "Noted.")
        for number in range(30):
            await session.record(f"Tell me about topic {number}. " + "word " * 30, "Here it is. " + "word " * 30)
        await session.append([text_message("user", "Which port does the staging database use?")])
        window = await session.window(budget_tokens=800, options=APART)
        assert window.tokens <= window.budget_tokens
        assert any("5433" in message.text_content() for message in window.messages)
        without = await session.window(budget_tokens=800, options=APART, message="")
        assert not any("5433" in message.text_content() for message in without.messages)


async def test_a_context_that_was_just_read_is_not_read_again() -> None:
    async with MnesisSession.open(db_path=":memory:", model="none") as session:
        await session.record("one", "two")
        context = await session.engine.store.active_context(session.id)
        await session.record("three", "four")
        window = await session.window(context=context)
        assert [message.text_content() for message in window.messages] == ["one", "two"]
