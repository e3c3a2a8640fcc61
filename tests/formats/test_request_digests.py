"""Digests of requests: the same with and without an earlier request, whose common beginning is not digested again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mnesis.formats.request import Rendered
from mnesis.formats.request_digests import digest_request

MARK = {"type": "ephemeral"}
texts = st.sampled_from(["a", "b", "c"])


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a chat message: a string, or a block with or without a cache mark."""
    role, text = draw(st.sampled_from(["system", "user", "assistant"])), draw(texts)
    marks = draw(st.sampled_from([{}, {"cache_control": MARK}]))
    return {"role": role, "content": draw(st.sampled_from([text, [{"type": "text", "text": text, **marks}]]))}


requests = st.builds(
    Rendered,
    st.lists(messages(), max_size=6),
    st.lists(st.builds(lambda name: {"type": "function", "function": {"name": name}}, texts), max_size=2),
)


@given(st.lists(requests, min_size=1, max_size=4))
def test_an_earlier_request_changes_no_digest(sent: list[Rendered]) -> None:
    earlier = None
    for rendered in sent:
        earlier = digest_request(rendered, earlier)
        assert earlier == digest_request(rendered)


@given(st.lists(st.text(st.characters(codec=None)), max_size=3))
def test_a_text_and_its_block_have_the_same_digest(contents: list[str]) -> None:
    sent = [{"role": "user", "content": text} for text in contents]
    as_blocks = [{"role": "user", "content": [{"type": "text", "text": text}]} for text in contents]
    assert digest_request(Rendered(sent)).messages == digest_request(Rendered(as_blocks)).messages


class CountedText:
    """A value that notes how often it is written as JSON."""

    def __init__(self) -> None:
        self.count = 0

    def __str__(self) -> str:
        self.count += 1
        return "text"


def test_only_new_messages_are_digested() -> None:
    values = [CountedText() for _ in range(4)]
    sent = [{"role": "user", "content": [{"type": "text", "text": value}]} for value in values]
    tool = CountedText()
    tools = [{"type": "function", "function": {"name": tool}}]
    earlier = digest_request(Rendered(sent[:3], tools))
    moved_mark = [*sent[:2], {"role": "user", "content": [{"type": "text", "text": values[2], "cache_control": MARK}]}]
    digests = digest_request(Rendered([*moved_mark, sent[3]], tools), earlier)
    assert [value.count for value in values] == [1, 1, 1, 1]
    assert (tool.count, digests.tools, digests.messages[:3]) == (1, earlier.tools, earlier.messages)


def test_a_changed_message_changes_all_digests_after_it() -> None:
    def digest(*contents: str) -> tuple[str, ...]:
        return digest_request(Rendered([{"role": "user", "content": content} for content in contents])).messages

    same, changed = digest("a", "b", "c"), digest("a", "x", "c")
    assert [one == other for one, other in zip(same, changed, strict=True)] == [True, False, False]


def test_an_unchanged_system_prompt_is_not_digested_again() -> None:
    value = CountedText()
    system = {"role": "system", "content": [{"type": "text", "text": value}]}
    first = digest_request(Rendered([system]))
    second = digest_request(Rendered([system, {"role": "user", "content": "hello"}]), first)
    assert second.system == first.system
    assert value.count == 1
