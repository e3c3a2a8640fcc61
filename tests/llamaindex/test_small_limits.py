"""Views stay within the smallest limits, and no excerpt is longer than what it replaces."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.samples import sampled

pytest.importorskip("llama_index.core")

from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory

from mnesis import Engine, concurrency
from mnesis.context.markers import excerpt
from tests.support.histories import count

_LEFT_OUT = re.compile(r"([\d,]+) of ([\d,]+) tokens left out")


def words(message: ChatMessage) -> int:
    return len((message.content or "").split())


@settings(max_examples=sampled(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    limit=st.integers(20, 400),
    messages=st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.integers(1, 250)), min_size=1),
)
def test_a_view_fits_whenever_its_newest_message_does(limit: int, messages: list[tuple[str, int]]) -> None:
    engine = Engine(":memory:")
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine, token_limit=limit, tokenizer_fn=str.split)
    history = [ChatMessage(role=role, content=f"m{i}" + " word" * (n - 1)) for i, (role, n) in enumerate(messages)]
    memory.put_messages(history)
    view = memory.get()
    concurrency.run(engine.close())
    assert view[-1] == history[-1]
    needed = [m for m in history[:-1] if m.role == "system"] + history[-1:]
    if sum(map(words, needed)) <= limit:
        assert sum(map(words, view)) <= limit
    for message in view:
        for left_out, total in _LEFT_OUT.findall(message.content or ""):
            assert int(left_out.replace(",", "")) <= int(total.replace(",", ""))


@settings(max_examples=sampled(200), deadline=None)
@given(text=st.text(max_size=400), max_tokens=st.integers(-20, 100))
def test_an_excerpt_is_never_longer_than_its_text(text: str, max_tokens: int) -> None:
    assert count(excerpt(text, max_tokens, count, "msg_0123456789abcdef")) <= count(text)
