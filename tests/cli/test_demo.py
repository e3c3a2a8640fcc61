"""`mnesis demo` without any key: what it shows, and that it would notice a loss."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mnesis import MnesisSession
from mnesis.cli.output import chart_rows
from mnesis.demo import replay as replay_module
from mnesis.demo.conversation import EARLY_FACT, EARLY_FACT_WORD, demo_turns
from mnesis.demo.replay import DemoReport, replay
from mnesis.models.context import Window
from mnesis.models.message import Message, TextPart
from mnesis.session.session import MnesisSession as Session
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    """The whole conversation, replayed once."""
    return asyncio.run(replay(demo_turns(), tmp_path_factory.mktemp("demo") / "demo.db", lambda turn: None))


def test_every_promise_holds_over_the_whole_conversation(whole: DemoReport) -> None:
    assert [check for check in whole.checks if not check.held] == []
    assert len(whole.checks) == 7


def test_a_small_window_makes_several_compactions(whole: DemoReport) -> None:
    assert len(whole.compactions) >= 5
    assert all(result.tokens_after < result.tokens_before for result in whole.compactions)
    assert {result.level_used for result in whole.compactions} <= {0, 3}


def test_the_fact_of_turn_3_comes_back_word_for_word_through_summaries(whole: DemoReport) -> None:
    assert whole.early_fact is not None
    assert whole.early_fact.path
    assert whole.early_fact.seq == 5
    assert whole.early_fact.text == demo_turns()[2].user
    assert EARLY_FACT in whole.early_fact.text


def test_a_compaction_changes_what_the_model_would_receive(whole: DemoReport) -> None:
    assert whole.before is not None
    assert whole.after is not None
    assert (whole.before.summaries, whole.before.turn) == (0, whole.after.turn)
    assert whole.after.summaries >= 1
    assert whole.after.tokens < whole.before.tokens
    assert whole.after.messages < whole.before.messages


def test_the_command_shows_the_chart_the_views_and_the_checks(run: Run) -> None:
    result = run("demo", "--turns", 60)
    assert result.exit_code == 0, result.stderr
    for expected in (
        "no model is called",
        "▼",
        "soft",
        "hard",
        "before the compaction",
        "and after it",
        "✓ every message",
    ):
        assert expected in result.stdout
    assert EARLY_FACT_WORD in result.stdout
    assert "✗" not in result.stdout
    assert result.stderr == ""


def test_json_holds_the_figures_and_nothing_else_is_printed(run: Run) -> None:
    figures = json.loads(run("demo", "--turns", 60, "--json").stdout)
    assert figures["turns"] == 60
    assert figures["all_held"] is True
    assert [turn for turn, _, _ in figures["context_tokens"]] == list(range(1, 61))
    assert figures["compactions"]
    assert max(tokens for _, _, tokens in figures["context_tokens"]) <= figures["budget"]["usable_tokens"]


def test_a_mock_of_a_model_is_not_passed_off_as_none(run: Run) -> None:
    result = run("demo", "--turns", 60, env={"MNESIS_MOCK_LLM": "1"})
    assert result.exit_code == 0, result.output
    assert "MNESIS_MOCK_LLM is set" in result.stdout
    assert "no model is called" not in result.stdout


def test_the_fact_is_looked_for_once_it_was_said(run: Run) -> None:
    for turns, said in ((1, False), (2, False), (3, True)):
        result = run("demo", "--turns", turns)
        assert result.exit_code == 0
        assert ("a fact of turn 3 is found again" in result.stdout) == said


def test_a_terminal_gets_a_progress_bar(tmp_path: Path) -> None:
    command = "import pty,sys; sys.exit(pty.spawn([sys.executable,'-m','mnesis.cli','demo','--turns','5']) >> 8)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "turns ━" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)


def test_a_kept_database_can_be_looked_into(run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "kept.db"
    assert run("demo", "--turns", 12, "--keep", kept).exit_code == 0
    (session,) = json.loads(run("ls", "--json", "--db", kept).stdout)
    assert session["messages"] == 24
    assert session["title"] == "mnesis demo"


def test_a_message_that_comes_back_changed_fails_the_demo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Session.messages

    async def one_character_less(session: MnesisSession) -> list[Message]:
        log = await stored(session)
        return [log[0].model_copy(update={"parts": (TextPart(text=log[0].text_content()[:-1]),)}), *log[1:]]

    monkeypatch.setattr(Session, "messages", one_character_less)
    result = run("demo", "--turns", 4)
    assert result.exit_code == 1
    assert "✗ every message is unchanged: 1 differ" in result.stdout


def test_a_window_that_does_not_fit_fails_the_demo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assembled = Session.window

    async def too_large(session: MnesisSession) -> Window:
        return replace(await assembled(session), tokens=20_001)

    monkeypatch.setattr(Session, "window", too_large)
    result = run("demo", "--turns", 4)
    assert result.exit_code == 1
    assert "✗ every window fits: the largest had 20,001 of 20,000" in result.stdout


def test_another_text_than_the_fact_fails_the_demo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "EARLY_FACT", "the release is code-named GREY HERON")
    result = run("demo", "--turns", 4)
    assert result.exit_code == 1
    assert "✗ a fact of turn 3" in result.stdout


def test_a_message_no_summary_leads_to_fails_the_demo(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = replay_module.original_messages

    async def all_but_one(session: MnesisSession, summary_id: str):  # type: ignore[no-untyped-def]  # as the original
        async for message in reached(session, summary_id):
            if message.seq != 5:
                yield message

    monkeypatch.setattr(replay_module, "original_messages", all_but_one)
    result = run("demo", "--turns", 60)
    assert result.exit_code == 1
    assert "✗ every message can be reached" in result.stdout


def test_a_chart_is_as_high_as_its_values() -> None:
    assert chart_rows([0, 4, 8], top=8, height=2) == ["  █", " ██"]
    assert chart_rows([1], top=16, height=1) == [" "]
    assert chart_rows([99], top=8, height=1) == ["█"]
