"""What holds for every command: hostile content, bad databases, locks, ids, help, nothing written by a look."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mnesis.cli.app import COMMANDS
from mnesis.cli.database_option import DatabaseOption
from mnesis.cli.json_output import OUTPUTS, json_schema
from tests.cli.conftest import Run
from tests.support.hostile_commands import ON_A_DATABASE, SESSION, USES, Fill

HARMFUL = set("\x1b\x07\x9b\x7f\u202e\u2066\r\x08\x00")


# The file that the hostile session names was never stored.
FOUND = {"doctor": 1}


READING = [name for name in ON_A_DATABASE if USES[name].reads]


MORE = [
    ("expand", "{summary}", "--session", "{id}", "--raw"),
    ("show", "{id}", "--raw", "-n", "5"),
    ("search", "question", "{id}"),
    ("search", "question", "--mode", "substring"),
    ("grep", "-E", "q.*n [0-9]"),
    ("ls",),
    ("show", "nobody \x1b[2J"),
    ("ls", "--no-such-option\x1b[2J"),
    ("search", "x", "--after", "\x1b[2J\u202e"),
    ("doctor", "{id}"),
    ("timeline", "{id}", "--csv"),
    ("compact", "{id}", "--context-limit", "4000"),
    ("purge", "child", "--apply"),
]


def test_the_table_has_every_command() -> None:
    # The servers run until they are interrupted; tests/inspect and tests/mcp run them. The others use no database.
    assert {*USES, "inspect", "mcp", "rekey", "schema", "completion"} == set(COMMANDS)


@pytest.mark.parametrize("name", USES)
def test_hostile_content_does_nothing_to_a_terminal(run: Run, fill: Fill, hostile: Path, name: str) -> None:
    shown = run(*fill(name, hostile, SESSION), input="hello \x1b[2J\n/context\n/search gnirts\n")
    assert shown.exit_code == FOUND.get(name, 0), shown.stderr[:2_000]
    assert not set(shown.stdout + shown.stderr) & HARMFUL
    if name != "export":
        assert len(shown.stdout) + len(shown.stderr) < 100_000


def test_the_hostile_database_is_hostile_wherever_it_can_be(run: Run, hostile: Path) -> None:
    """Or the laws around it would hold for want of attackers."""
    said = json.loads(run("show", SESSION, "--from", 1, "-n", 1, "--json", "--db", hostile).stdout)["messages"][0]
    assert "\x1b" in said["id"]
    assert "\x1b" in said["summary_id"]
    hits = json.loads(run("search", "question", SESSION, "--json", "--db", hostile).stdout)["hits"]
    assert any("\x1b" in hit["message_id"] and "\x1b" in hit["session_id"] for hit in hits)
    purge = json.loads(run("purge", SESSION, "--json", "--db", hostile).stdout)
    assert "\x1b" in purge["child_session_ids"][0]


@pytest.mark.parametrize("arguments", MORE, ids=" ".join)
def test_hostile_content_does_nothing_whatever_the_options(
    run: Run, fill: Fill, hostile: Path, arguments: tuple[str, ...]
) -> None:
    names = {"{id}": SESSION, "{summary}": "sum_"}
    if "{summary}" in arguments:
        names["{summary}"] = fill("expand", hostile, SESSION)[1]
    shown = run(*[names.get(each, each) for each in arguments], "--db", hostile)
    assert isinstance(shown.exception, SystemExit | None)
    assert shown.stdout + shown.stderr
    assert not set(shown.stdout + shown.stderr) & HARMFUL


@pytest.mark.parametrize("name", [name for name, use in USES.items() if use.json])
def test_json_of_hostile_content_is_one_document_in_printable_ascii(
    run: Run, fill: Fill, hostile: Path, name: str
) -> None:
    shown = run(*fill(name, hostile, SESSION, *USES[name].json), input="hello \x1b[2J\n")
    assert shown.exit_code == FOUND.get(name, 0), shown.stderr[:2_000]
    assert all(" " <= character <= "~" or character == "\n" for character in shown.stdout)
    document = json.loads(shown.stdout)
    output = OUTPUTS[name]
    notation = output.line if USES[name].json == ("--jsonl",) else output.document
    Draft202012Validator(json_schema(notation)).validate(document)
    assert not set(shown.stderr) & HARMFUL


@pytest.mark.parametrize("name", READING)
def test_a_look_leaves_every_byte_as_it_was(run: Run, fill: Fill, database: Path, name: str) -> None:
    before = hashlib.sha256(database.read_bytes()).hexdigest(), sorted(os.listdir(database.parent))
    assert run(*fill(name, database, "alpha-session")).exit_code == 0
    assert (hashlib.sha256(database.read_bytes()).hexdigest(), sorted(os.listdir(database.parent))) == before


@pytest.mark.parametrize("name", ON_A_DATABASE)
def test_no_command_but_those_that_begin_something_makes_a_database(
    run: Run, fill: Fill, tmp_path: Path, name: str
) -> None:
    missing = tmp_path / "not" / "there.db"
    result = run(*fill(name, missing, "nobody"))
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (3, True), result.output
    assert "no database at" in result.stdout + result.stderr
    assert not missing.parent.exists()


@pytest.mark.parametrize("name", [name for name in USES if name != "demo"])
def test_what_is_no_database_is_left_alone_and_named(
    run: Run, fill: Fill, tmp_path: Path, database: Path, name: str
) -> None:
    text, directory = tmp_path / "notes.txt", tmp_path / "directory"
    text.write_text("dear diary\n" * 1_000)
    directory.mkdir()
    for path in (text, directory):
        arguments = fill(name, database, "alpha-session")[:-1]
        result = run(*arguments, path)
        assert (result.exit_code, isinstance(result.exception, SystemExit)) == (3, True), result.output
        assert path.name in result.stdout + result.stderr
    assert text.read_text() == "dear diary\n" * 1_000
    assert os.listdir(directory) == []


@pytest.mark.parametrize("name", [name for name in USES if name != "demo"])
def test_a_newer_database_is_refused_and_left_alone(run: Run, fill: Fill, database: Path, name: str) -> None:
    arguments = fill(name, database, "alpha-session")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = database.read_bytes()
    result = run(*arguments)
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (3, True), result.output
    assert "9999" in result.stdout + result.stderr
    assert database.read_bytes() == before


@pytest.mark.parametrize("name", [name for name in USES if name != "demo"])
def test_a_locked_database_is_waited_for_until_the_limit(run: Run, fill: Fill, database: Path, name: str) -> None:
    arguments = fill(name, database, "alpha-session")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        result = run(*arguments, "--timeout", "0.05", input="hello\n")
    finally:
        holder.close()
    assert (result.exit_code, isinstance(result.exception, SystemExit)) == (3, True), result.output
    assert "held" in result.stdout + result.stderr


def test_the_timeout_is_the_one_that_was_given() -> None:
    assert DatabaseOption(None, 0.05).config().store.connection_timeout == 0.05


@pytest.mark.parametrize("name", READING)
def test_a_writer_holds_up_nobody_who_only_looks(run: Run, fill: Fill, database: Path, name: str) -> None:
    arguments = fill(name, database, "alpha-session")
    holder = sqlite3.connect(database, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert run(*arguments, "--timeout", "0.05").exit_code == 0
    finally:
        holder.close()
