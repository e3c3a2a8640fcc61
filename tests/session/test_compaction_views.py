"""What the model sees after a compaction, and what the figures say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis import (
    MnesisConfig,
    MnesisEvent,
    MnesisSession,
    TokenUsage,
    ToolPart,
)
from mnesis.llm.base import LLMReply
from mnesis.testing import EventRecorder, ScriptedLLM
from tests.session.support import MODEL, roles, talk, until
from tests.support.filled_sessions import fill, opened
from tests.support.summaries import acceptable_summary


async def test_old_tool_outputs_become_markers_alone_when_that_is_enough(db: Path) -> None:
    settings = {"prune_protect_tokens": 300, "prune_minimum_tokens": 100, "low_water_fraction": 0.4}
    async with opened(db, ScriptedLLM([]), **settings) as session:
        seen = EventRecorder(session.event_bus)
        for number in range(3):
            part = ToolPart(tool_name="read", tool_call_id=f"c{number}", output=f"{number} line of output\n" * 180)
            await session.record(f"read {number}", [part, "done"])
        number = 0
        while not (await session.record(f"q{number}", "word " * 110)).compaction_triggered:
            number += 1
        (payload,) = await seen.wait_for(MnesisEvent.PRUNE_COMPLETED)
        await until(lambda: not session.compaction_in_progress)
        assert payload.pruned_count == 3
        assert len(seen.of(MnesisEvent.PART_UPDATED)) == 3
        shown = str(await session.context_for_next_turn())
        assert "line of output" not in shown
        assert await session.summaries() == []
        assert "line of output" in str(await session.messages())


async def test_every_original_behind_every_summary_comes_back(db: Path) -> None:
    async with opened(
        db, ScriptedLLM(acceptable_summary), low_water_fraction=0.05, soft_threshold_fraction=0.3
    ) as session:
        for start in range(0, 80, 8):
            await talk(session, 8, first=start)
            await session.compact()
        log = await session.messages()
        summaries = await session.summaries()
        assert any(summary.kind == "condensed" for summary in summaries)
        for summary in summaries:
            found, cursor = [], None
            while True:
                page = await session.expand(summary.id, cursor=cursor, limit=7)
                found.extend(page.messages)
                if (cursor := page.next_cursor) is None:
                    break
            assert found == log[summary.first_seq - 1 : summary.last_seq]
            children = (await session.expand(summary.id, children=True)).summaries
            assert [child.id for child in children] == list(summary.child_ids)
            assert (await session.describe(summary.id)).kind == "summary"
        mixed = await session.messages(include_summaries=True)
        assert [m for m in mixed if not m.is_summary] == log
        assert any(m.is_summary for m in mixed)
        assert await roles(session) == "ua" * 80


async def test_snapshots_tell_which_turn_set_off_a_compaction(db: Path) -> None:
    async with opened(db) as session:
        turns = await fill(session, session.budget.soft_tokens)
        await until(lambda: not session.compaction_in_progress)
        history = session.history()
        assert [s.turn_index for s in history] == list(range(turns))
        assert [s.compaction_triggered for s in history] == [False] * (turns - 1) + [True]
        assert history[-1].compact_result is not None
        assert history[-1].compact_result.tokens_after < history[-1].compact_result.tokens_before
        for snapshot in history:
            parts = snapshot.context_tokens
            assert parts.total == parts.system_prompt + parts.summary + parts.messages


@pytest.mark.parametrize("size", [60_000, 400_000])
async def test_a_message_larger_than_the_window_is_kept_whole_and_shown_in_part(size: int, db: Path) -> None:
    text = "HEAD " + "filler text " * (size // 12) + " TAIL"
    model = ScriptedLLM("fine")
    async with opened(db, model) as session:
        await talk(session, 4)
        await session.send(text)
        sent = model.requests[-1].messages
        shown = sent[-1]["content"]
        assert shown.startswith("HEAD")
        assert shown.endswith("TAIL")
        assert len(shown) < len(text)
        stored = (await session.messages())[8]
        assert stored.text_content() == text
        assert stored.id in shown
        assert (await session.window()).tokens <= session.budget.usable_tokens


async def test_settings_that_leave_little_room_still_show_the_question(db: Path) -> None:
    config = MnesisConfig(model_overrides={"context_limit": 8_192, "max_output_tokens": 1_024})
    model = ScriptedLLM("fine")
    with pytest.warns(UserWarning, match="too small"):
        session = await MnesisSession.create(model=MODEL, db_path=db, config=config, llm=model)
    async with session:
        for number in range(5):
            await session.send(f"question {number}")
        assert [m["content"] for m in model.requests[-1].messages[1::2]] == [f"question {n}" for n in range(5)]
        assert await session.compactions() == []


async def test_a_provider_that_counts_more_than_we_do_gets_smaller_windows(db: Path) -> None:
    def answer(request: Any) -> LLMReply:
        return LLMReply(text="fine", usage=TokenUsage(input=2 * counted[0], output=5))

    counted = [0]
    async with opened(db, ScriptedLLM(answer), auto=False) as session:
        await talk(session, 20)
        counted[0] = (await session.window()).tokens
        await session.send("hello")
        await talk(session, 20, first=20)
        window = await session.window()
        assert sum(m.token_count for m in await session.messages()) > session.budget.usable_tokens / 2
        assert 2 * window.tokens <= session.budget.usable_tokens * 1.05
