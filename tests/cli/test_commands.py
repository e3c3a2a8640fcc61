"""`ls`, `show`, `context` and the rules that hold for every command."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisSession, TokenUsage
from mnesis.llm.no_model import NoModel
from mnesis.models.message import Message, TextPart
from mnesis.models.session import Interruption, UsageReport
from mnesis.store.base import Append
from mnesis.store.sqlite.store import SqliteStore
from tests.cli.conftest import Run, record, small_window
from tests.support.cli_sessions import READING


async def interrupt(path: Path, session_id: str, after_seq: int) -> None:
    async with Engine(path) as engine:
        note = Interruption(after_seq, "failed", "LLMTimeoutError", "no answer", "It had beg", 1)
        await engine.store.record_interruption(session_id, note)


def test_ls_lists_what_was_used_last_first(run: Run, database: Path) -> None:
    rows = json.loads(run("ls", "--json", "--db", database).stdout)
    assert [row["id"] for row in rows] == ["alpine", "alpha-session"]
    assert rows[1]["messages"] == 28
    assert rows[1]["turns"] == 14
    assert rows[1]["title"] == "Question 1 about pump 1?"
    assert rows[1]["context_tokens"] > 0


def test_ls_prints_a_plain_table_into_a_pipe(run: Run, database: Path) -> None:
    shown = run("ls", "--db", database)
    assert "\x1b" not in shown.stdout
    header, first, second = (line.split() for line in shown.stdout.splitlines())
    assert header[:2] == ["title", "id"]
    assert "alpine" in first
    assert "alpha-se" in second


def test_ls_says_when_there_is_more(run: Run, database: Path) -> None:
    shown = run("ls", "-n", 1, "--db", database)
    assert "alpha-session" not in shown.stdout
    assert "there are more" in shown.stderr


def test_show_ends_with_the_newest_message(run: Run, database: Path) -> None:
    shown = run("show", "alpha-session", "-n", 2, "--db", database).stdout
    assert shown.startswith("#27  user")
    assert "Question 14 about pump 14?" in shown
    assert "#28  assistant" in shown
    assert "Question 13" not in shown


def test_show_starts_where_it_is_told_and_says_how_to_go_on(run: Run, database: Path) -> None:
    shown = run("show", "alpha-session", "--from", 1, "-n", 3, "--db", database)
    assert "#1  user" in shown.stdout
    assert "#4" not in shown.stdout
    assert "--from 4" in shown.stderr


def test_a_pipe_gets_lines_as_they_were_said(run: Run, tmp_path: Path) -> None:
    """Tabs stay tabs, and no line is broken, filled up or cut."""
    said, path = "\tif x:\t# tab  \n" + "long " * 200 + "\n  end", tmp_path / "tabs.db"

    async def tabbed() -> None:
        async with (
            Engine(path, llm=NoModel()) as engine,
            MnesisSession.open(model="demo/none", session_id="s", engine=engine) as session,
        ):
            await session.record(said, "ok")

    asyncio.run(tabbed())
    assert f"\n{said}\n" in run("show", "s", "--db", path).stdout


def test_show_reads_a_long_log_a_page_at_a_time(run: Run, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is that of a page, whatever the length of the log."""
    pages: list[int] = []
    whole = run("show", "alpha", "-n", 0, "--jsonl", "--db", database).stdout
    read = SqliteStore.messages

    async def counted(*arguments: Any, **options: Any) -> list[Message]:
        page = await read(*arguments, **options)
        pages.append(len(page))
        return page

    monkeypatch.setattr(SqliteStore, "messages", counted)
    monkeypatch.setattr("mnesis.cli.show._PAGE_SIZE", 5)
    assert run("show", "alpha", "-n", 10**30, "--jsonl", "--db", database).stdout == whole
    assert max(pages) == 5
    assert sum(pages) == 28


def test_show_has_tool_calls_shortened_and_raw_ones_whole(run: Run, database: Path) -> None:
    short = run("show", "alpha-session", "--from", 2, "-n", 1, "--db", database).stdout
    assert '→ read_file({"path": "a.txt"})' in short
    whole = run("show", "alpha-session", "--from", 2, "-n", 1, "--raw", "--db", database).stdout
    assert whole.count("line 1 of the log") == 40


def test_show_json_holds_every_field_of_the_range(run: Run, database: Path) -> None:
    shown = json.loads(run("show", "alpha-session", "-n", 0, "--json", "--db", database).stdout)
    assert [message["seq"] for message in shown["messages"]] == list(range(1, 29))
    assert shown["messages"][1]["parts"][1]["output"] == "line 1 of the log\n" * 40


def test_show_marks_an_interrupted_turn_where_it_happened(run: Run, database: Path) -> None:
    asyncio.run(interrupt(database, "alpha-session", 27))
    lines = run("show", "alpha-session", "-n", 2, "--db", database).stdout.splitlines()
    (mark,) = [n for n, line in enumerate(lines) if line.startswith("✗ the turn after #27 was failed: LLMTimeoutError")]
    assert "It had beg" in lines[mark]
    first, second = (next(n for n, line in enumerate(lines) if line.startswith(f"#{seq}")) for seq in (27, 28))
    assert first < mark < second


def test_context_prints_the_messages_a_session_would_send(run: Run, database: Path) -> None:
    async def expected() -> list[dict[str, object]]:
        async with Engine(database, config=small_window(), llm=NoModel()) as engine:
            session = await MnesisSession.load("alpha-session", engine=engine)
            return [{"role": "system", "content": session.system_prompt}, *await session.context_for_next_turn()]

    shown = run("context", "alpha-session", "--messages", "--context-limit", 4000, "--db", database)
    assert json.loads(shown.stdout) == asyncio.run(expected())
    assert any("Summary sum_" in str(message["content"]) for message in json.loads(shown.stdout))


def test_context_shares_add_up_to_the_window(run: Run, database: Path) -> None:
    facts = json.loads(run("context", "alpha-session", "--context-limit", 4000, "--json", "--db", database).stdout)
    assert sum(facts["shares"].values()) == facts["window_tokens"]
    assert facts["shares"]["summaries"] > 0
    assert facts["window_tokens"] + facts["free_tokens"] == facts["budget"]["usable_tokens"]


def test_context_leaves_room_for_how_the_provider_counts(run: Run, tmp_path: Path) -> None:
    async def reported_twice_as_large(path: Path) -> None:
        async with Engine(path, config=small_window(), llm=NoModel()) as engine:
            session = await MnesisSession.create(model="demo/none", session_id="s", engine=engine)
            for _ in range(3):
                await session.record("word " * 200, "answer " * 200)
            report = UsageReport(TokenUsage(input=2_400, output=5), "request", request_estimate=1_200)
            answer = Message(id="m", role="assistant", parts=(TextPart(text="x"),), token_count=5)
            await engine.store.append("s", Append([answer], report=report))

    asyncio.run(reported_twice_as_large(tmp_path / "a.db"))
    shown = run("context", "s", "--context-limit", 3_000, "--json", "--db", tmp_path / "a.db")
    facts = json.loads(shown.stdout)
    assert 2 * facts["window_tokens"] <= facts["budget"]["usable_tokens"]
    assert facts["omitted_messages"] > 0


def test_context_draws_a_gauge_with_its_marks(run: Run, database: Path) -> None:
    shown = run("context", "alpha-session", "--context-limit", 4000, "--db", database).stdout
    bar = next(line for line in shown.splitlines() if line.startswith("["))
    assert len(bar) == 62
    assert set(bar) <= set("[sSmt·]")
    assert "^ soft" in shown
    assert "summary" in shown


def test_context_gives_blocks_for_another_provider(run: Run, database: Path) -> None:
    shown = run("context", "alpha-session", "--messages", "--provider", "anthropic", "--db", database)
    request = json.loads(shown.stdout)
    assert request["system"] == "Be brief."
    assert {message["role"] for message in request["messages"]} == {"user", "assistant"}


@pytest.mark.parametrize("arguments", READING)
def test_looking_changes_nothing(run: Run, database: Path, arguments: tuple[str, ...]) -> None:
    def state() -> str:
        return run("export", "alpha-session", "--db", database).stdout

    before = state()
    assert run(*arguments, "--db", database).exit_code == 0
    assert state() == before


def test_the_beginning_of_an_id_is_enough_where_it_is_unique(run: Run, database: Path) -> None:
    assert run("show", "alpha", "--db", database).exit_code == 0
    ambiguous = run("show", "alp", "--db", database)
    assert ambiguous.exit_code == 2
    assert "alpha-session" in ambiguous.stderr
    assert "alpine" in ambiguous.stderr


def test_an_id_that_begins_another_one_means_itself(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "two.db"
    asyncio.run(record(path, "run", 1))
    asyncio.run(record(path, "run-2", 2))
    assert len(json.loads(run("show", "run", "--json", "--db", path).stdout)["messages"]) == 2


@pytest.mark.parametrize(
    "arguments", [("show", "nobody"), ("context", "nobody"), ("export", "nobody"), ("doctor", "nobody")]
)
def test_an_unknown_id_is_wrong_usage_and_names_the_database(
    run: Run, database: Path, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments, "--db", database)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "nobody" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", READING)
def test_reading_makes_no_database(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    missing = tmp_path / "not" / "there.db"
    result = run(*arguments, "--db", missing)
    assert result.exit_code == 3
    assert "no database at" in result.stderr + result.stdout
    assert not missing.parent.exists()
