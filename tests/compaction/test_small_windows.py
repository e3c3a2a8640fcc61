from __future__ import annotations

import random
from pathlib import Path

import pytest

from mnesis import CompactionConfig, MnesisConfig, MnesisSession

WORDS = [
    "harbour",
    "ferry",
    "tariff",
    "customs",
    "ledger",
    "weather",
    "crane",
    "pilot",
    "invoice",
    "berth",
    "tide",
    "fuel",
    "deck",
    "cargo",
    "route",
    "port",
    "crew",
    "signal",
    "winch",
    "anchor",
    "freight",
    "manifest",
    "broker",
    "quay",
    "buoy",
    "mooring",
    "hatch",
    "lantern",
    "captain",
    "storm",
]


@pytest.mark.filterwarnings("ignore:.*too small.*")
async def test_a_summary_of_ordinary_length_is_taken_in_a_small_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    # Compactions in the background would leave a remainder of any size for the last one.
    config = MnesisConfig(
        model_overrides={"context_limit": 8_192, "max_output_tokens": 1_024},  # type: ignore[arg-type]  # a dict is accepted
        compaction=CompactionConfig(auto=False),
    )
    async with MnesisSession.open(model="openai/test", db_path=tmp_path / "a.db", config=config) as session:
        assert session.budget.summary_tokens >= 600
        chance = random.Random(7)
        for number in range(60):
            asked, answered = (" ".join(chance.choices(WORDS, k=70)) for _ in range(2))
            await session.record(f"Question {number}: {asked}?", f"Answer {number}: {answered}.")
        await session.compact()
        found = await session.compactions()
        assert found
        assert {result.level_used for result in found} == {1}
