"""Bad databases, environments, terminals and help of the commands."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mnesis import Engine, MnesisSession
from mnesis.cli import ls
from mnesis.cli.app import COMMANDS, exit_code
from mnesis.errors import (
    ConfigurationError,
    ContextIrreducibleError,
    CorruptStoreError,
    SessionNotFoundError,
    StoreBusyError,
)
from mnesis.llm.no_model import NoModel
from mnesis.models.message import Message, TextPart
from tests.cli.conftest import Run, small_window
from tests.support.cli_sessions import READING, mnesis

HOSTILE = "[/red]\x1b[2J\x1b]0;owned\x07 [bold]\u202egnirts\x9b31m\x7f <script>"


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **env}
    )


async def store_message(path: Path, session_id: str, text: str) -> None:
    async with (
        Engine(path, config=small_window(), llm=NoModel()) as engine,
        MnesisSession.open(model="demo/none", session_id=session_id, engine=engine) as session,
    ):
        await session.append([Message(id="m1", role="user", parts=(TextPart(text=text),))])


@pytest.mark.parametrize("arguments", READING)
def test_what_is_no_database_is_refused_without_a_traceback(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("dear diary\n" * 1_000)
    for path in (tmp_path, text):
        result = run(*arguments, "--db", path)
        assert result.exit_code == 3, result.output
        assert isinstance(result.exception, SystemExit)
        assert str(path) in result.stderr + result.stdout
    assert text.read_text() == "dear diary\n" * 1_000


@pytest.mark.parametrize("arguments", READING)
def test_a_database_of_a_newer_version_is_refused_and_named(
    run: Run, database: Path, arguments: tuple[str, ...]
) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    result = run(*arguments, "--db", database)
    assert result.exit_code == 3
    assert "9999" in result.stderr + result.stdout
    assert isinstance(result.exception, SystemExit)


def test_errors_have_their_exit_codes() -> None:
    assert exit_code(SessionNotFoundError("s")) == exit_code(ConfigurationError("c")) == 2
    assert exit_code(StoreBusyError("locked", db_path="x")) == exit_code(CorruptStoreError("bad", db_path="x")) == 3
    assert exit_code(ContextIrreducibleError("small", required_tokens=2, usable_tokens=1)) == 1


def test_log_records_are_shown_cleaned_while_a_command_runs(
    run: Run, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("mnesis.somewhere")
    before = list(logging.getLogger("mnesis").handlers)
    monkeypatch.setattr(ls, "print_note", lambda text: logger.warning("beware \x1b[2J"))
    assert "note: beware \N{REPLACEMENT CHARACTER}[2J" in run("ls", "-n", 1, "--db", database).stderr
    assert logging.getLogger("mnesis").handlers == before


def test_an_empty_file_stays_empty(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    assert run("ls", "--db", empty).exit_code == 3
    assert empty.stat().st_size == 0


def test_a_database_in_memory_cannot_be_looked_into(run: Run) -> None:
    assert run("ls", "--db", ":memory:").exit_code == 2


def test_the_database_comes_from_the_environment(run: Run, database: Path) -> None:
    assert "alpine" in run("ls", env={"MNESIS_DB": str(database)}).stdout


def test_the_default_database_is_in_the_home_directory(run: Run, tmp_path: Path) -> None:
    missing = run("ls")
    assert missing.exit_code == 3
    assert str(tmp_path / "home" / ".mnesis" / "sessions.db") in missing.stderr


def test_hostile_content_is_shown_and_does_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "hostile.db"
    asyncio.run(store_message(path, f"id {HOSTILE}", f"{HOSTILE}\n{'x' * 5_000_000}"))
    for arguments in (("ls",), ("show", "id"), ("show", "id", "--raw"), ("context", "id"), ("doctor",)):
        shown = run(*arguments, "--db", path)
        assert shown.exit_code == 0, shown.output
        assert not set(shown.stdout + shown.stderr) & set("\x1b\x07\x9b\x7f\u202e")
        if "--raw" not in arguments:
            assert len(shown.stdout) < 20_000
    assert "[/red]" in run("show", "id", "--db", path).stdout


def test_on_a_narrow_terminal_the_title_gives_way_and_nothing_else(database: Path) -> None:
    command = (
        f"import pty,sys; sys.exit(pty.spawn([sys.executable,'-m','mnesis.cli','ls','--db',{str(database)!r}]) >> 8)"
    )
    shown = re.sub(r"\x1b\[[0-9;]*m", "", python(command, TERM="xterm", COLUMNS="70", NO_COLOR="1").stdout)
    assert "alpha-se" in shown
    assert "messages" in shown
    assert "Questi" in shown
    assert "about pump 1?" not in shown
    assert all(len(line) <= 70 for line in shown.splitlines())


def test_colours_come_only_on_a_terminal_and_not_with_no_color(database: Path) -> None:
    command = (
        f"import pty,sys; sys.exit(pty.spawn([sys.executable,'-m','mnesis.cli','ls','--db',{str(database)!r}]) >> 8)"
    )
    assert "\x1b[" in python(command, TERM="xterm-256color").stdout
    assert "\x1b[" not in python(command, TERM="xterm-256color", NO_COLOR="1").stdout


def test_a_reader_that_leaves_early_is_no_error(database: Path) -> None:
    asyncio.run(store_message(database, "big", "a line\n" * 200_000))
    command = f"{sys.executable} -m mnesis.cli show big --raw --db {database} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("#1  user")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_is_the_command(database: Path) -> None:
    assert [row["id"] for row in json.loads(mnesis("ls", "--json", "--db", database).stdout)] == [
        "alpine",
        "alpha-session",
    ]
    assert mnesis("show", "nobody", "--db", database).returncode == 2
    assert mnesis("no-such-command").returncode == 2


def test_output_that_cannot_be_encoded_is_replaced(database: Path) -> None:
    done = mnesis("show", "alpha", "--db", database, PYTHONIOENCODING="ascii:strict")
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_command() -> None:
    done = mnesis("--help")
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_every_option_is_explained(run: Run) -> None:
    for name in COMMANDS:
        shown = run(name, "--help")
        assert shown.exit_code == 0
        assert "--help" in shown.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mnesis.cli import main\n"
        "assert 'click' not in sys.modules\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', [m for m in ('litellm', 'tiktoken', 'rich', 'jinja2', 'jsonschema', 'regex', 'pydantic') if m in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-1] == "LOADED []"
