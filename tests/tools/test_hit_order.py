"""The order in which `lcm_grep` lists the hits of a query, and automatic recall takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, ModelOverrides, RecallConfig
from mnesis.models.message import text_message
from mnesis.recall.grants import Grant

FILLER = "nothing of interest was written here " * 25
APART = f"The gate was painted. {FILLER} A code of honour. {FILLER} The harbour froze."
TOGETHER = f"{FILLER} The gate code of the harbour is 4417. {FILLER} {FILLER}"
QUESTION = "What is the gate code of the harbour?"
CONFIG = MnesisConfig(
    compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
    model_overrides=ModelOverrides(context_limit=6_000, max_output_tokens=256),
    recall=RecallConfig(enabled=True, max_tokens=400),
)


@pytest.fixture
async def session() -> AsyncIterator[MnesisSession]:
    """A folded session in which the index alone prefers the shorter and newer of two long messages with all words."""
    async with MnesisSession.open(model=None, db_path=":memory:", config=CONFIG, system_prompt="") as session:
        others = {f"other{number}": FILLER for number in range(30)}
        texts = {"first": FILLER, "together": TOGETHER, **others, "apart": APART, "last": FILLER}
        messages = [text_message("user", text, id=f"msg_{name}") for name, text in texts.items()]
        await session.append([*messages, text_message("assistant", "Noted.")])
        await session.compact()
        yield session


async def test_a_passage_with_all_words_comes_before_words_far_apart(session: MnesisSession) -> None:
    assert [hit.message_id for hit in (await session.search(QUESTION))[:2]] == ["msg_together", "msg_apart"]
    (grep,) = [tool.handler for tool in session.recall_tools(Grant.unlimited()) if tool.name == "lcm_grep"]
    result = await grep(pattern=QUESTION, mode="words")
    assert result.index("[msg_together") < result.index("[msg_apart")


async def test_automatic_recall_takes_the_passage_first(session: MnesisSession) -> None:
    recalled = (await session.window(message=QUESTION)).messages[-1].text_content()
    assert "4417" in recalled
