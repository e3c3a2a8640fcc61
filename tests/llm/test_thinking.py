"""Thinking inside answers, and the tokens that reasoning needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.llm.thinking import MIN_ANSWER_TOKENS, REASONING_HEADROOM_TOKENS, max_output_tokens, strip_thinking


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("<think>\nLet me see.\n</think>\n\n## Goal\nx", "## Goal\nx"),
        ("<think></think>x", "x"),
        ("<think>Let me see what the user wants. First", ""),
        ("## Goal\nx\n<think>and now", "## Goal\nx"),
        ("Let me see.\n</think>\n\n## Goal\nx", "## Goal\nx"),
        ("Let me see.</think>\n## Goal\nx", "## Goal\nx"),
        ("<think>a</think>\n<think>b</think>\nx", "x"),
        ("[THINK]hm[/THINK]x", "x"),
        ("<Thinking>hm</Thinking> x", "x"),
        ("Fixed how `<think>` and </think> are handled in parser.py.", "Fixed how `<think>` and </think> are handled in parser.py."),
        ("nothing of the kind", "nothing of the kind"),
    ],
)  # fmt: skip
def test_thinking_is_removed_closed_or_not_and_prose_about_tags_stays(answer: str, rest: str) -> None:
    assert strip_thinking(answer) == rest


@given(st.text(), st.text())
def test_what_follows_complete_thinking_stays(thinking: str, answer: str) -> None:
    assert strip_thinking(f"<think>{thinking.replace('<', '').replace('[', '')}</think>\n{answer.replace('<', '').replace('[', '')}") == answer.replace("<", "").replace("[", "").strip()  # fmt: skip


def test_an_answer_gets_headroom_for_reasoning_within_the_models_limit() -> None:
    assert max_output_tokens(1_000) == 1_000 + REASONING_HEADROOM_TOKENS
    assert max_output_tokens(1_000, 4_096) == 4_096
    assert max_output_tokens(1_000, 500) == 1_000, "the answer itself is never limited"
    assert max_output_tokens(10) >= MIN_ANSWER_TOKENS
