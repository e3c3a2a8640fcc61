"""Times in search, grep, expand, automatic recall and the recall tools of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, ModelOverrides, RecallConfig
from mnesis.errors import ConfigurationError
from mnesis.ids import now_ms
from mnesis.models.message import text_message

NOW = datetime(2026, 5, 20, 15, tzinfo=UTC)
SAID = {
    "2026-05-12T10": "The boiler was inspected by Ottilie.",
    "2026-05-13T10": "Lunch was soup.",
    "2026-05-16T11": "We sailed around the island.",
    "2026-05-19T09": "The boiler needs a new seal.",
    "2026-05-19T20": "Hallvard brought the green ladder back.",
    "2026-05-20T10": "The seal is ordered.",
}


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[MnesisSession]:
    config = MnesisConfig(
        compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
        model_overrides=ModelOverrides(context_limit=40_000, max_output_tokens=256),
        recall=RecallConfig(enabled=True),
    )
    async with MnesisSession.open(model=None, db_path=tmp_path / "a.db", config=config) as session:
        messages = []
        for time, text in SAID.items():
            messages.append(text_message("user", text, id=f"m{time}", created_at=at(time)))
            messages.append(text_message("assistant", "Noted.", created_at=at(time) + 1_000))
        filler = [
            text_message(role, f"{n} idle words about the weather " * 9, created_at=at("2026-05-20T11") + n)
            for n in range(40)
            for role in ("user", "assistant")
        ]
        await session.append([*messages, *filler])
        yield session


@pytest.mark.parametrize(
    ("question", "time"),
    [("What happened last week with the boiler?", "2026-05-12T10"), ("Was war gestern mit dem boiler?", "2026-05-19T09"),
     ("boiler yesterday", "2026-05-19T09"), ("What did Hallvard do on Tuesday evening?", "2026-05-19T20"),
     ("le boiler la semaine dernière", "2026-05-12T10"), ("boiler, la semana pasada", "2026-05-12T10"),
     ("上周 boiler", "2026-05-12T10")],
)  # fmt: skip
async def test_messages_of_the_time_come_first(session: MnesisSession, question: str, time: str) -> None:
    assert (await session.search(question, now=NOW))[0].message_id == f"m{time}"


async def test_without_now_expressions_are_relative_to_the_clock(session: MnesisSession) -> None:
    fresh = text_message("user", "The boiler whistles.", id="fresh", created_at=now_ms())
    await session.append([fresh])
    assert (await session.search("boiler today"))[0].message_id == "fresh"
    assert [hit.message_id for hit in await session.search("boiler", when="today")] == ["fresh"]


@pytest.mark.parametrize(
    "question", ["What happened on Tuesday evening?", "Was war am Dienstagabend?", "¿Qué pasó el martes por la noche?"]
)
async def test_a_question_only_about_time_returns_its_messages(session: MnesisSession, question: str) -> None:
    hits = [hit.message_id for hit in await session.search(question, now=NOW)]
    assert hits[0] == "m2026-05-19T20"
    assert len(hits) == 2


async def test_a_question_without_known_words_returns_messages_of_its_time(session: MnesisSession) -> None:
    hits = await session.search("Which zeppelins flew on Tuesday evening?", now=NOW)
    assert hits[0].message_id == "m2026-05-19T20"


async def test_a_time_without_messages_does_not_hide_other_answers(session: MnesisSession) -> None:
    assert (await session.search("Who inspected the boiler last year?", now=NOW))[0].message_id == "m2026-05-12T10"


async def test_pages_of_a_search_keep_the_time_of_the_first(session: MnesisSession) -> None:
    whole = [hit.message_id for hit in await session.search("boiler", limit=50, after="last week", now=NOW)]
    page = await session.search("boiler", limit=1, after="last week", now=NOW)
    joined = [hit.message_id for hit in page]
    while page.next_cursor is not None:
        page = await session.search("boiler", limit=1, after="last week", cursor=page.next_cursor)
        joined += [hit.message_id for hit in page]
    assert joined == whole


async def test_search_grep_and_expand_are_limited_to_a_time(session: MnesisSession) -> None:
    await session.compact()
    summary_id = (await session.summaries())[-1].id
    searched = {hit.message_id for hit in await session.search("boiler", when="la semaine passée", now=NOW)}
    grepped = {match.message_id for match in (await session.grep("boiler", when="gestern", now=NOW)).matches}
    expanded = await session.expand(summary_id, when="el martes", now=NOW, limit=3)
    assert "m2026-05-12T10" in searched
    assert "m2026-05-19T09" not in searched
    assert grepped == {"m2026-05-19T09"}
    assert [message.id for message in expanded.messages if message.role == "user"] == [
        "m2026-05-19T09",
        "m2026-05-19T20",
    ]
    rest = await session.expand(summary_id, when="el martes", now=NOW, limit=3, cursor=expanded.next_cursor)
    assert (len(rest.messages), rest.next_cursor) == (1, None)


async def test_a_time_that_cannot_be_read_is_refused_by_each(session: MnesisSession) -> None:
    for call in (
        session.search("x", when="soonish"),
        session.grep("x", when="soonish"),
        session.expand("x", when="soonish"),
    ):
        with pytest.raises(ConfigurationError, match="soonish"):
            await call


async def test_automatic_recall_answers_a_question_about_a_time(session: MnesisSession) -> None:
    await session.compact()
    window = await session.window(message="What happened on Tuesday evening?", now=NOW)
    assert "green ladder" in window.messages[-1].text_content()
    context = await session.context_for_next_turn(message="Was war am Dienstagabend?", now=NOW)
    assert "green ladder" in str(context[-1]["content"])


async def test_the_tools_are_limited_to_a_time(session: MnesisSession) -> None:
    await session.compact()
    tools = {tool.name: tool.handler for tool in session.recall_tools()}
    result = await tools["lcm_grep"](pattern="boiler", when="2026-05-19")
    assert "new seal" in result
    assert "Ottilie" not in result
    summary_id = (await session.summaries())[-1].id
    result = await tools["lcm_expand"](id=summary_id, when="2026-05-19")
    assert "green ladder" in result
    assert "island" not in result
