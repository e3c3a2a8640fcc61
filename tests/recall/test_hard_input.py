"""Questions and logs that nobody should write, over the public API: no exception, no flood, bounded results."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, ModelOverrides, RecallConfig
from mnesis.models.message import text_message
from mnesis.recall.grants import Grant

RECALL_TOKENS = 800
RESULT_TOKENS = 1_000
CONFIG = MnesisConfig(
    compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
    model_overrides=ModelOverrides(context_limit=60_000, max_output_tokens=256),
    recall=RecallConfig(enabled=True, max_tokens=RECALL_TOKENS),
)
NEEDLE = "The cracked flange belongs to pump seven."
HARD = {
    "100 kB with the question at its end": "lorem ipsum dolor " * 5_600 + " flange?",
    "100 kB without a space": "x" * 100_000,
    "10,000 distinct words": " ".join(f"w{number}" for number in range(10_000)),
    "stop words": "what is it that they were to have been with us",
    "mixed scripts": "flange 法兰 фланец פלנג' فلنجة フランジ ฟลานจ์ 플랜지 ✈️",
    "syntax of FTS5": '"flange" AND (pump* NOT NEAR(seven, 2)) OR text:^flange -\'',
    "SQL": "'; DROP TABLE messages; --",
    "a regular expression": "(a+)+$ [[:alpha:]]{1,9999} \\p{L}",
    "control characters": "fla\0nge \x1b[31mpump\x1b[0m \u202e\ufeff\ud800",
    "punctuation": "?!.,;:()[]{}<>@#$%^&*" * 50,
    "emoji": "🦜🔧💥" * 200,
}


@pytest.fixture(scope="module")
def filler() -> list[str]:
    rng = random.Random(5)
    blobs = [base64.b64encode(rng.randbytes(9_000)).decode() for _ in range(6)]
    return [*blobs, *(f"remark {number} about nothing in particular" for number in range(80))]


@pytest.fixture
async def session(tmp_path: Path, filler: list[str]) -> AsyncIterator[MnesisSession]:
    texts = [*filler[:20], NEEDLE, "A needle in a long output.\n" + "ordinary line\n" * 3_000 + NEEDLE, *filler[20:]]
    async with MnesisSession.open(model=None, db_path=tmp_path / "a.db", config=CONFIG, system_prompt="") as session:
        await session.append([text_message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts)])
        yield session


@pytest.mark.parametrize("question", HARD.values(), ids=HARD)
async def test_hard_questions_have_bounded_answers(session: MnesisSession, question: str) -> None:
    page = await session.search(question, limit=20)
    assert len(page) <= 20
    assert all(len(hit.excerpt) <= 302 for hit in page)
    plain = await session.window()
    asked = await session.window(message=question)
    assert asked.tokens <= plain.tokens + RECALL_TOKENS
    (grep,) = [t.handler for t in session.recall_tools(Grant(result_tokens=RESULT_TOKENS)) if t.name == "lcm_grep"]
    assert len(await grep(pattern=question, mode="words")) < 10 * RESULT_TOKENS


@pytest.mark.parametrize("question", ["Which pump has the cracked flange?", "flange", "cracked flange, pump seven"])
async def test_the_answer_is_found_among_hard_messages(session: MnesisSession, question: str) -> None:
    assert NEEDLE in (await session.search(question))[0].excerpt
    await session.compact()
    assert NEEDLE in (await session.window(message=question)).messages[-1].text_content()


async def test_ordinary_words_find_no_base64(session: MnesisSession, filler: list[str]) -> None:
    page = await session.search("Which remark is about the weather in particular?", limit=100)
    assert not {hit.excerpt[:40] for hit in page} & {text[:40] for text in filler[:6]}
