"""The focus of a session steers what summaries keep and what automatic recall prefers, until it is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, ModelOverrides, RecallConfig
from mnesis.compaction.extract import Passage, extract
from mnesis.errors import ConfigurationError
from mnesis.llm.base import LLMRequest
from mnesis.models.message import text_message

CONFIG = MnesisConfig(
    compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
    model_overrides=ModelOverrides(context_limit=40_000, max_output_tokens=256),
    recall=RecallConfig(enabled=True, max_tokens=120),
)


def count(text: str) -> int:
    return len(text) // 4 + 1


def remarks(topic: str, number: int) -> list[str]:
    return [f"The {topic} number {n} was seen near the {place}." for n in range(number) for place in ("quay", "mill")]


async def fill(session: MnesisSession, texts: list[str]) -> None:
    roles = ("user", "assistant")
    await session.append([text_message(roles[n % 2], text) for n, text in enumerate(texts)])


def test_an_extract_keeps_what_the_focus_names() -> None:
    topics = [
        "heron",
        "lantern",
        "ferry",
        "ladder",
        "anchor",
        "barrel",
        "candle",
        "engine",
        "gutter",
        "hammer",
        "kettle",
    ]
    passages = [Passage("User", f"A {topic} was seen near the pump on the way to the mill.") for topic in topics]
    plain = extract(passages, max_tokens=60, count=count)
    left_out = [topic for topic in topics if topic not in plain]
    assert left_out
    for topic in left_out:
        assert topic in extract(passages, max_tokens=60, count=count, focus=f"all about {topic}s")


async def test_a_model_that_summarizes_is_told_the_focus(tmp_path: Path) -> None:
    requests: list[LLMRequest] = []

    def summarise(messages: list[dict[str, str]]) -> str:
        requests.append(messages)  # type: ignore[arg-type]  # as they arrive
        return "Seen: boats near the quay and the mill."

    async with MnesisSession.open(model="openai/x", db_path=tmp_path / "a.db", config=CONFIG, llm=summarise) as session:
        await fill(session, remarks("boat", 40))
        await session.compact(focus="the colour\nof boats")
    assert requests
    assert all("Above all, keep everything that concerns: the colour of boats" in str(each) for each in requests)


async def test_the_focus_stays_until_it_is_changed(tmp_path: Path) -> None:
    arguments = {"model": None, "db_path": tmp_path / "a.db", "config": CONFIG}
    async with MnesisSession.open(session_id="s", **arguments) as session:
        await session.focus("herons")
    async with MnesisSession.open(session_id="s", **arguments) as session:
        assert (await session.engine.store.session("s")).metadata == {"mnesis_focus": "herons"}
        await session.focus("")
        assert (await session.engine.store.session("s")).metadata == {}


async def test_recall_prefers_messages_with_words_of_the_focus(tmp_path: Path) -> None:
    async with MnesisSession.open(model=None, db_path=tmp_path / "a.db", config=CONFIG) as session:
        texts = remarks("boat", 20)
        texts[7] = "The boat number 3 carried the crimson lantern near the quay."
        await fill(session, [*texts, *remarks("weather", 20)])
        await session.compact()
        plain = await session.window(message="Which boat was near the quay?")
        await session.focus("lanterns, crimson")
        focused = await session.window(message="Which boat was near the quay?")
    assert "crimson lantern" not in plain.messages[-1].text_content()
    assert "crimson lantern" in focused.messages[-1].text_content()


@pytest.mark.parametrize("text", ["x" * 1_001, None, 7])
async def test_a_focus_that_is_no_short_text_is_refused(tmp_path: Path, text: str) -> None:
    async with MnesisSession.open(model=None, db_path=tmp_path / "a.db", config=CONFIG) as session:
        with pytest.raises(ConfigurationError, match="focus must be a string"):
            await session.focus(text)
