"""What makes the command pleasant: titles first, words kept whole, suggestions, chat commands, completion."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from mnesis import Engine, MnesisSession
from mnesis.cli import chat_input
from mnesis.cli.app import cli
from mnesis.cli.chat_input import join_lines
from mnesis.cli.output import StreamWrapper, clean_line, relative_time, shortest_unique_prefixes, wrap_words
from tests.cli.conftest import Run
from tests.support.openai_server import OpenAIServer, Reply, error

DAY_MS = 86_400_000


def make(path: Path, *session_ids: str, text: str = "hello there") -> None:
    async def record() -> None:
        async with Engine(path) as engine:
            for session_id in session_ids:
                async with MnesisSession.create(model=None, session_id=session_id, engine=engine) as session:
                    await session.record(text, "hi")

    asyncio.run(record())


def test_ls_leads_with_titles_and_shows_short_ids_and_relative_times(run: Run, tmp_path: Path) -> None:
    make(
        tmp_path / "a.db", "sess_1a22b8e27443ff5bca96ce31d2a", "sess_1a22b8e27b7104315968da04c7d", text="Plan the trip"
    )
    lines = run("ls", "--db", tmp_path / "a.db").stdout.splitlines()
    assert lines[0].split() == ["title", "id", "messages", "context", "folds", "last", "used"]
    assert lines[1].startswith("Plan the trip  sess_1a22b8e27b  ")
    assert lines[2].startswith("Plan the trip  sess_1a22b8e274  ")
    assert lines[1].rstrip().endswith("just now")
    assert run("show", "sess_1a22b8e274", "--db", tmp_path / "a.db").exit_code == 0


@given(st.lists(st.text("ab", min_size=1, max_size=12), unique=True, max_size=12))
def test_short_ids_are_unique_beginnings(ids: list[str]) -> None:
    short = shortest_unique_prefixes(ids, 3)
    for each, prefix in short.items():
        assert each.startswith(prefix)
        assert prefix == each or [other for other in ids if other.startswith(prefix)] == [each]


def test_relative_times_become_dates_after_four_weeks() -> None:
    now = 1_800_000_000_000
    ages = {0: "just now", 59_000: "just now", 61_000: "1 min ago", 7_200_000: "2 hours ago", DAY_MS: "1 day ago"}
    assert {age: relative_time(now - age, now) for age in ages} == ages
    assert relative_time(now - 30 * DAY_MS, now).startswith("2026-12-")
    assert relative_time(0, now) == "-"


def test_a_line_break_in_an_id_forges_no_row(run: Run, tmp_path: Path) -> None:
    make(tmp_path / "a.db", "bad\nforged-row  9  9\tx")
    for arguments in (["ls"], ["search", "hello"], ["context", "bad"], ["purge", "bad"], ["grep", "hello"]):
        shown = run(*arguments, "--db", tmp_path / "a.db")
        assert shown.exit_code == 0, shown.output
        assert not any(line.startswith("forged-row") for line in (shown.stdout + shown.stderr).splitlines())
        assert "\t" not in shown.stdout
    assert clean_line("a\nb\tc\x1b") == "a\ufffdb\ufffdc\ufffd"


def test_text_wraps_between_words_and_keeps_its_indent() -> None:
    console = Console(file=io.StringIO(), width=24, force_terminal=True, soft_wrap=True)
    text = Text("one two three four five six\n  result of a tool that is long\nshort")
    lines = wrap_words(text, console).plain.splitlines()
    assert [line.rstrip() for line in lines] == [
        "one two three four five", "six", "  result of a tool that", "  is long", "short",
    ]  # fmt: skip
    assert wrap_words(Text(f"see {'x' * 60}"), console).plain.replace("\n", "").endswith("x" * 60)


@given(st.lists(st.text("ab \n", max_size=9), max_size=20), st.integers(5, 20))
def test_streamed_text_wraps_between_words_and_loses_none(pieces: list[str], width: int) -> None:
    wrapper = StreamWrapper(width)
    shown = "".join([*(wrapper.feed(piece) for piece in pieces), wrapper.flush()])
    assert shown.split() == "".join(pieces).split()
    assert all(len(line.rstrip()) <= width for line in shown.split("\n") if all(len(w) <= width for w in line.split()))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["serch", "x"], "there is no command 'serch'; did you mean 'search'?"),
        (["frobnicate"], "mnesis --help lists the commands"),
        (["show", "alpha-sesion"], "did you mean 'alpha-session'?"),
        (["show", "session"], "did you mean 'alpha-session'?"),
        (["show", "zzz"], "`mnesis ls` lists the sessions"),
        (["ls", "--treee"], "--tree"),
        (["chat", "alpine", "--mock", "--context-limit", "5"], "--context-limit"),
        (["compact", "alpha", "--keep-tokens", "-5"], "--keep-tokens"),
        (["search", "x", "--mode", "word"], "words"),
        (["import", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["grep", "(", "-E"], "("),
    ],
)
def test_a_mistake_is_answered_in_a_few_lines(run: Run, database: Path, arguments: list[str], hint: str) -> None:
    shown = run(*arguments, "--db", database)
    assert shown.exit_code in (1, 2)
    assert isinstance(shown.exception, SystemExit)
    assert hint in shown.stderr
    assert "Traceback" not in shown.output
    assert len(shown.stderr.splitlines()) <= 8


def test_lines_continue_after_a_backslash_and_in_blocks() -> None:
    typed = iter(["one\n", "two \\\n", "three\n", '"""\n', "a\n", "\n", "  b\n", '"""\n', "last"])
    prompts: list[str] = []

    def read_line(prompt: str) -> str:
        prompts.append(prompt)
        return next(typed, "")

    assert list(join_lines(read_line)) == ["one", "two \nthree", "a\n\n  b", "last"]
    assert prompts[2] == prompts[4] == chat_input.CONTINUATION_PROMPT
    assert prompts[0] == chat_input.PROMPT


def test_the_history_of_lines_is_kept_for_its_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readline = pytest.importorskip("readline")
    monkeypatch.setattr(chat_input, "HISTORY_FILE", tmp_path / "private" / "chat_history")
    with chat_input._line_history():
        readline.add_history("what did we decide?")
    readline.clear_history()
    with chat_input._line_history():
        assert readline.get_history_item(readline.get_current_history_length()) == "what did we decide?"
    assert (tmp_path / "private" / "chat_history").stat().st_mode & 0o777 == 0o600


@pytest.fixture
def failing_then_fine(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(error(500, "out of order"), Reply(("Fine ", "now."))) as server:
        for name, value in {
            "OPENAI_API_BASE": server.url,
            "OPENAI_BASE_URL": server.url,
            "OPENAI_API_KEY": "k",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.mark.usefixtures("failing_then_fine")
def test_retry_continues_the_turn_that_failed(run: Run, tmp_path: Path) -> None:
    arguments = ("chat", "talk", "--model", "openai/test-model", "--context-limit", 30_000, "--db", tmp_path / "a.db")
    shown = run(*arguments, input="hello\n/retry\n/retry\n")
    assert shown.stdout == "Fine now.\n"
    assert "100 tokens in, 20 out" in shown.stderr
    assert "is complete, or there is none" in shown.stderr
    messages = run("show", "talk", "--db", tmp_path / "a.db").stdout
    assert messages.count("hello") == 1


def test_undo_takes_the_newest_turn_out_of_the_context(run: Run, tmp_path: Path) -> None:
    shown = run(
        "chat", "talk", "--mock", "--db", tmp_path / "a.db", input="/undo\nfirst\nsecond\n/undo\n/undo\n/udno\n/foo\n"
    )
    assert "there is no turn to take out" in shown.stderr
    assert "taken out of the context: second; the log keeps it" in shown.stderr
    assert "taken out of the context: first; the log keeps it" in shown.stderr
    assert "there is no command /udno; did you mean /undo?" in shown.stderr
    assert "there is no command /foo; /context: " in shown.stderr
    page = run("show", "talk", "--db", tmp_path / "a.db").stdout
    assert page.count("(out of the context)") == 4


def complete(words: list[str], incomplete: str, **environment: str) -> list[str]:
    class Shell(ShellComplete):
        def get_completion_args(self) -> tuple[list[str], str]:
            return words, incomplete

        def format_completion(self, item: Any) -> str:
            return str(item.value)

    os.environ.update(environment)
    return [item.value for item in Shell(cli, {}, "mnesis", "_MNESIS_COMPLETE").get_completions(words, incomplete)]


def test_shells_complete_commands_options_and_session_ids(
    database: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv("MNESIS_DB", str(database))
    assert "search" in complete([], "se")
    assert complete(["ls"], "--tr") == ["--tree"]
    assert sorted(complete(["show"], "alp")) == ["alpha-session", "alpine"]
    monkeypatch.setenv("MNESIS_DB", "/nowhere.db")
    assert complete(["show"], "alp") == []
    for shell in ("bash", "zsh", "fish"):
        script = run("completion", shell)
        assert (script.exit_code, "_MNESIS_COMPLETE" in script.stdout) == (0, True)
