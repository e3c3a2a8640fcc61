"""Recorded summaries, good and bad, of real conversations: which are accepted.

`data/summaries.json` names the origin of each source; `data/NOTICES.md` has their licences. The summaries of a third of the sources
do not move the threshold for facts; they only report both kinds of errors.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mnesis.compaction.acceptance import KEPT_FACTS_FACTOR, MIN_SOURCE_FACTS, content_rejection
from mnesis.compaction.facts import find_facts
from mnesis.compaction.transcript import passages, transcript_text
from mnesis.demo.conversation import demo_turns
from mnesis.models.message import Message, TextPart

RECORDED = json.loads(Path(__file__).with_name("data").joinpath("summaries.json").read_text("utf-8"))
HELD_OUT = sorted(RECORDED["sources"])[::3]
"""Sources whose summaries have no part in choosing the threshold."""
MAX_TOKENS = 400


@cache
def source_text(name: str) -> str:
    """Return the text of a source. Those of the demo conversation are the transcript of some of its turns."""
    source = RECORDED["sources"][name]
    if "text" in source:
        return str(source["text"])
    first, end = source["demo_turns"]
    messages = []
    for turn in demo_turns()[first:end]:
        messages.append(Message(id="u", role="user", parts=(TextPart(text=turn.user),)))
        messages.append(Message(id="a", role="assistant", parts=tuple(turn.assistant)))
    return transcript_text(passages(messages))


def recorded(*, good: bool, held_out: bool | None = None) -> list[dict[str, Any]]:
    return [
        summary
        for summary in RECORDED["summaries"]
        if summary["good"] == good and held_out in (None, summary["source"] in HELD_OUT)
    ]


def errors(*, good: bool, held_out: bool) -> list[tuple[str, str, str | None]]:
    """Return the summaries that are judged wrongly, with their source and the reason given."""
    judged = [
        (
            summary["source"],
            summary["text"],
            content_rejection(summary["text"], source_text(summary["source"]), MAX_TOKENS),
        )
        for summary in recorded(good=good, held_out=held_out)
    ]
    return [each for each in judged if (each[2] is None) != good]


def test_there_are_enough_recorded_summaries_of_both_kinds() -> None:
    assert len(recorded(good=True)) >= 30
    assert len(recorded(good=False)) >= 30
    assert min(len(recorded(good=good, held_out=True)) for good in (True, False)) >= 10


@pytest.mark.parametrize("held_out", [False, True], ids=["chosen on", "held out"])
def test_no_good_summary_is_rejected(held_out: bool) -> None:
    assert errors(good=True, held_out=held_out) == []


@pytest.mark.parametrize("held_out", [False, True], ids=["chosen on", "held out"])
def test_no_bad_summary_is_accepted(held_out: bool) -> None:
    assert errors(good=False, held_out=held_out) == []


def kept_per_root(summary: dict[str, Any]) -> float | None:
    """Return the weight of the facts that a summary keeps, divided by the root of those of its source. None if there are few."""
    facts = find_facts(source_text(summary["source"]))
    if len(facts.exact) + len(facts.names) < MIN_SOURCE_FACTS:
        return None
    return facts.kept_in(summary["text"]).weight / math.sqrt(facts.weight)


def kept_per_roots(*, good: bool, held_out: bool) -> list[float]:
    return [k for each in recorded(good=good, held_out=held_out) if (k := kept_per_root(each)) is not None]


def test_the_threshold_for_facts_is_the_middle_between_both_kinds() -> None:
    """The geometric mean of the worst good and the best bad summary: the same factor away from both."""
    worst_good = min(kept_per_roots(good=True, held_out=False))
    best_bad = max(kept_per_roots(good=False, held_out=False))
    assert pytest.approx(math.sqrt(worst_good * best_bad), abs=0.01) == KEPT_FACTS_FACTOR


def test_held_out_summaries_keep_a_distance_from_the_threshold() -> None:
    assert min(kept_per_roots(good=True, held_out=True)) > 1.2 * KEPT_FACTS_FACTOR
    assert max(kept_per_roots(good=False, held_out=True)) < KEPT_FACTS_FACTOR / 1.2


CONTENTLESS = [
    "x", "OK.", "Understood.", "Got it! I'm ready to continue.", "Sure, here is the summary:", "How can I help you today?",
    "Noted.", "Done.", "Okay, I will remember that.", "Thanks!", "...", "-", "## Goal\n(none)", "{}", "null", "Summary", "好的",
]  # fmt: skip


@pytest.mark.parametrize("text", CONTENTLESS)
@pytest.mark.parametrize("source", sorted(RECORDED["sources"]))
def test_an_answer_without_content_is_accepted_for_no_source(text: str, source: str) -> None:
    assert content_rejection(text, source_text(source), MAX_TOKENS) is not None


def test_a_summary_of_another_conversation_is_accepted_for_none() -> None:
    """A mix-up shares words such as user and reservation, but not the facts."""
    pairs = [(a, b) for a in ("demo start", "colon", "german") for b in ("cancel", "rename", "spanish", "demo log")]
    for source, other in pairs:
        for summary in RECORDED["summaries"]:
            if summary["source"] == other and summary["good"]:
                assert content_rejection(summary["text"], source_text(source), MAX_TOKENS), (source, other)


def test_a_summary_in_another_language_than_its_short_source_is_accepted() -> None:
    english = "The user asked how long to boil eggs: about six minutes, one more in the mountains; chives and no salt."
    for source in (
        "用户问鸡蛋要煮多久。六分钟，在山上再加一分钟。女儿喜欢香葱，不要盐。",
        "卵は六分茹でる。山では一分長く。塩はなし。",
    ):
        assert content_rejection(english, source, MAX_TOKENS) is None


def test_a_tight_limit_asks_for_fewer_facts() -> None:
    source = " ".join(f"order-{n} costs {n * 7} euro and goes to Agent{n}." for n in range(100, 160))
    terse = "order-101, order-140 and order-159 go to their agents."
    assert content_rejection(terse, source, 48) is None
    assert "names, numbers, paths and ids" in str(content_rejection(terse, source, 400))
