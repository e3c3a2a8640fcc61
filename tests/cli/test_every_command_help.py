"""What holds for every command: ids, help, documentation and output."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mnesis import Engine
from mnesis.cli.app import COMMANDS, cli
from mnesis.cli.reference import GROUPS, command_pages
from tests.cli.conftest import Run
from tests.support.hostile_commands import ON_A_DATABASE, USES, Fill
from tests.support.warm_python import warm_command

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "name", [name for name, use in USES.items() if use.needs_id and name not in ("chat", "expand")]
)
def test_an_ambiguous_id_names_candidates_and_an_unknown_one_is_refused(
    run: Run, fill: Fill, database: Path, name: str
) -> None:
    ambiguous = run(*fill(name, database, "alp"))
    assert (ambiguous.exit_code, ambiguous.stdout) == (2, "")
    assert "alpha-session" in ambiguous.stderr
    assert "alpine" in ambiguous.stderr
    unknown = run(*fill(name, database, "nobody"))
    assert (unknown.exit_code, unknown.stdout) == (2, "")
    assert "nobody" in unknown.stderr


@pytest.mark.parametrize("name", ON_A_DATABASE)
def test_a_database_without_sessions_is_no_fault(run: Run, fill: Fill, tmp_path: Path, name: str) -> None:
    async def made() -> None:
        async with Engine(tmp_path / "fresh.db"):
            pass

    asyncio.run(made())
    use = USES[name]
    if use.needs_id:
        result = run(
            *[each.replace("{id}", "s").replace("{summary}", "s") for each in use.arguments],
            "--db",
            tmp_path / "fresh.db",
        )
        assert result.exit_code == 2
    else:
        assert run(*fill(name, tmp_path / "fresh.db", "")).exit_code == 0


@pytest.mark.parametrize("name", USES)
def test_every_command_is_explained_with_an_example(run: Run, name: str) -> None:
    shown = run(name, "--help")
    assert shown.exit_code == 0
    assert f"Example: mnesis {name} " in " ".join(shown.stdout.split()) + " "


@pytest.mark.parametrize("name", USES)
def test_options_and_arguments_of_examples_exist(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    example = (command.epilog or "").removeprefix("Example: ").partition(" | ")[0].partition(" > ")[0]
    words = [word.replace("~", "/nowhere") for word in shlex.split(example)][2:]
    if name == "import":
        words[0] = "-"
    command.make_context(name, words)


@pytest.mark.parametrize("value", ["99999999999999999999", "\ud800", "-1"])
def test_odd_ids_are_wrong_usage(run: Run, database: Path, value: str) -> None:
    for arguments in (("show", f"={value}"), ("show", "alpha", f"--from={value}"), ("expand", f"={value}")):
        result = run(*arguments, "--db", database)
        assert (result.exit_code, isinstance(result.exception, SystemExit)) in ((2, True), (0, False)), arguments


def test_an_empty_id_of_a_summary_or_message_begins_none(run: Run, database: Path) -> None:
    for arguments in (("expand", ""), ("show", "alpha", "--from", "")):
        result = run(*arguments, "--db", database)
        assert result.exit_code == 2
        assert "not found: ''" in result.stderr


def test_odd_paths_are_refused_without_a_traceback(run: Run) -> None:
    for path in ("~no-such-user/x.db", "a\0b", "x" * 5_000, ""):
        result = run("ls", "--db", path)
        assert result.exit_code in (2, 3)
        assert isinstance(result.exception, SystemExit)


def test_the_documentation_is_what_the_code_says() -> None:
    stale = [name for name, text in command_pages().items() if (DOCS / name).read_text("utf-8") != text]
    assert stale == [], "run: python docs/generate.py"


def test_every_command_is_in_one_group() -> None:
    assert sorted(name for group in GROUPS for name in group.commands) == sorted(COMMANDS)


def test_the_reference_does_not_depend_on_where_it_is_made() -> None:
    environment = os.environ | {
        "COLUMNS": "40",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "MNESIS_DB": "other.db",
        "PYTHONUTF8": "1",
    }
    made = subprocess.run(
        [sys.executable, "-c", "import json; from mnesis.cli.reference import *; print(json.dumps(command_pages()))"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert json.loads(made.stdout) == command_pages()


def test_no_command_loads_litellm_before_a_model_is_called(database: Path, tmp_path: Path) -> None:
    uses = [
        [each.replace("{id}", "alpha").replace("{new}", str(tmp_path / f"{name}.db")) for each in use.arguments]
        for name, use in USES.items()
    ]
    uses = [arguments for arguments in uses if not any("{" in each for each in arguments)]
    code = (
        "import io, sys; from mnesis.cli import main\n"
        f"for arguments in {uses!r}:\n"
        "    sys.stdin = io.StringIO('hello\\n')\n"
        "    try: main(arguments)\n"
        "    except SystemExit as end: assert not end.code, arguments\n"
        "print('LOADED', [name for name in ('litellm', 'openai', 'matplotlib') if name in sys.modules])"
    )
    environment = os.environ | {"MNESIS_DB": str(database)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.splitlines()[-1:] == ["LOADED []"], done.stderr


def test_marks_that_an_output_cannot_encode_are_replaced_by_similar_ones(database: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "mnesis.cli", "doctor", "--db", str(database)]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert b"\n+ content: " in done.stdout
    assert done.stderr == b""
    tree = subprocess.run(
        [*command[:3], "dag", "alpha", *command[4:]], capture_output=True, check=False, env=environment
    )
    assert b" > " in tree.stdout
    assert b"?" not in tree.stdout.replace(b"pump 1?", b"")
    assert all(byte < 128 for byte in done.stdout + tree.stdout)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
@pytest.mark.parametrize("arguments", [("ls",), ("show", "alpha"), ("stats", "--json"), ("export", "alpha")])
def test_output_that_cannot_be_written_is_told_in_one_line(database: Path, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            warm_command("-m", "mnesis.cli", *arguments, "--db", str(database), has_mnesis=True),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("mnesis: ")
