"""The "Also mentioned" line: paths, ids, hashes, numbers, names and error codes that occur once survive in summaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.compaction.extract import Passage, extract
from mnesis.compaction.identifiers import ALSO_MENTIONED, find_identifiers, find_names, list_missing_identifiers
from mnesis.models.message import text_message
from mnesis.testing import ScriptedLLM
from tests.support.sweep_harness import SweepHarness, budget_of

FILLER = "the build went on and nobody looked at the screen while the fans grew louder and warmer again"
IDENTIFIERS = [
    "src/app/views.py:12",
    "user_id",
    "getUserById",
    "9f8e7d6a5b4c",
    "3739671ad08541e759230997bf0e50dcb8059d05ef4c64c23bbb9a37a0829f24",
    "E1042",
    "ECONNRESET",
    "v1.2.3",
    "ab-12",
    "12,500",
    "C:\\Users\\ada",
    "https://example.org/changes?page=2",
]


def count(text: str) -> int:
    return len(text) // 4 + 1


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_identifiers_are_recognized(identifier: str) -> None:
    assert identifier in find_identifiers(f"It says {identifier}, again.")


@pytest.mark.parametrize(
    "text",
    [
        "We met at the harbour, and it was well-kept. Hello?",
        "  41:def run\n42\tpass\n 43| end",
        'a line of JSON: "\\nobj\\"',
        "kHrW2mZp0QxYv9LdTgNcBfJsAeUiOk3R5t7PzXqC1aGhVyMn==",
        "",
    ],
)
def test_words_layout_and_encoded_data_are_not_identifiers(text: str) -> None:
    assert list(find_identifiers(text)) == []


def test_names_are_found_unless_a_language_capitalizes_nouns() -> None:
    english = "We spent the evening with Hallvard Berg near the old harbour, then drove slowly back along the coast."
    german = "Gestern kam der Monteur in den Keller und hat mit dem Schlüssel das Ventil an der Heizung geprüft."
    assert list(find_names([english])) == ["Hallvard Berg"]
    assert list(find_names([german])) == []


def test_identifiers_that_occur_once_survive_an_extract() -> None:
    passages = [
        Passage("Tool", "\n".join([FILLER] * 10 + [f"compiled {name} without remarks"] + [FILLER] * 10))
        for name in IDENTIFIERS
    ]
    text = extract(passages, max_tokens=300, count=count)
    assert [name for name in IDENTIFIERS if name not in text] == []
    assert count(text) <= 300


def test_paths_numbers_and_names_share_a_small_line() -> None:
    text = " ".join(f"{number} src/part_{number}/module_{number}.py id_{number}" for number in range(1_000, 1_200))
    line = list_missing_identifiers([text], "", 60, count)
    assert "src/" in line
    assert any(word.isdigit() for word in line.replace(",", "").split())
    assert any(word.startswith("id_") for word in line.split())


def test_what_the_summary_has_is_not_repeated() -> None:
    line = list_missing_identifiers(["see user_id and order_id"], "About user_id.", 100, count)
    assert line == f"{ALSO_MENTIONED}: order_id"


def test_an_identifier_of_many_passages_is_not_listed() -> None:
    assert list_missing_identifiers(["see user_id"] * 4, "", 100, count) == ""


def test_an_extract_of_extracts_has_one_line_of_identifiers() -> None:
    passages = [
        Passage("Also mentioned", "order_id, src/b.py"),
        *[Passage("User", f"{FILLER} {number}") for number in range(20)],
        Passage("Also mentioned", "E1042"),
    ]
    text = extract(passages, max_tokens=120, count=count)
    assert text.count(ALSO_MENTIONED) == 1
    assert text.splitlines()[-1] == f"{ALSO_MENTIONED}: order_id, src/b.py, E1042"


@given(st.lists(st.text(max_size=80), max_size=5), st.integers(-10, 60))
def test_the_line_keeps_within_its_tokens(texts: list[str], max_tokens: int) -> None:
    line = list_missing_identifiers(texts, "", max_tokens, count)
    assert line == "" or count(line) <= max_tokens
    assert "\n" not in line


async def test_a_model_summary_gets_the_identifiers_it_left_out() -> None:
    messages = [
        text_message(role, f"{FILLER}. " * 8 + f"It is ticket TCK-{4_000 + 2 * n + (role == 'assistant')}.")
        for n in range(30)
        for role in ("user", "assistant")
    ]
    harness = await SweepHarness(budget=budget_of(8_000)).begin(messages)
    await harness.sweep(
        ScriptedLLM(
            "They watched the build: TCK-4003, TCK-4005, TCK-4007 and TCK-4009, said the log.", repeat_last=True
        )
    )
    leaves = [summary for summary in (await harness.summaries()).values() if summary.kind == "leaf"]
    assert leaves
    for summary in leaves:
        line = summary.text.splitlines()[-1]
        assert summary.level == 1
        assert line.startswith(f"{ALSO_MENTIONED}: ")
        assert "TCK-4003" not in line
        own_tickets = [f"TCK-{3_999 + seq}" for seq in range(summary.first_seq, summary.last_seq + 1)]
        assert sum(ticket in line for ticket in own_tickets) >= 8
