"""The recall benchmark, on a conversation made up for this test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.locomo import load, report, run

THINGS = ["kayak", "violin", "lantern", "compass", "teapot", "ladder", "blanket", "telescope", "hammock", "saddle"]


def sample() -> dict[str, Any]:
    talk: dict[str, Any] = {"speaker_a": "Ines", "speaker_b": "Tom"}
    questions = []
    for number, thing in enumerate(THINGS, 1):
        turns = [
            {
                "speaker": "Ines",
                "dia_id": f"D{number}:1",
                "text": f"Guess what, my {thing} is painted green number {number}!",
            }
        ]
        for place in range(2, 31):
            speaker = "Tom" if place % 2 == 0 else "Ines"
            turns.append(
                {
                    "speaker": speaker,
                    "dia_id": f"D{number}:{place}",
                    "text": f"Yes, well, weather and such things {place}.",
                }
            )
        talk[f"session_{number}"] = turns
        talk[f"session_{number}_date_time"] = f"1:56 pm on {number} May, 2023"
        evidence = [f"D{number}:1", "D", f"D:{number}:1", "D99:1"]
        questions.append(
            {
                "question": f"Which colour has the {thing} of Ines?",
                "answer": "green",
                "evidence": evidence,
                "category": 4,
            }
        )
    questions.append({"question": "Nothing?", "evidence": ["D"], "category": 5})
    return {"sample_id": "made-up", "conversation": talk, "qa": questions}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([sample()]))
    return path


def test_a_file_is_read_as_its_authors_meant_it(path: Path) -> None:
    (talk,) = load(path)
    assert (talk.name, len(talk.turns), len(talk.questions)) == ("made-up", 300, 10)
    assert talk.questions[0].evidence == {"D1:1"}
    assert talk.turns[0].at < talk.turns[1].at < talk.turns[30].at


@pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
async def test_everything_is_measured(path: Path) -> None:
    figures = await run(path)
    assert [sum(figures.recall[4, depth]) / 10 for depth in (5, 10, 20)] == [1.0, 1.0, 1.0]
    assert figures.changed_rankings == 0
    assert figures.unreachable == 0
    assert figures.context_fractions[0] < 0.35
    assert sum(figures.present_evidence["with recall, all of it"]) > sum(
        figures.present_evidence["without recall, all of it"]
    )
    assert figures.index_bytes >= 0
    assert len(figures.milliseconds) == 10
    assert "all but adversarial" in report(figures)
