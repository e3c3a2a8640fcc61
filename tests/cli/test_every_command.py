"""What holds for every command: hostile content, bad databases, locks, ids, help, nothing written by a look."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from mnesis import Engine, MnesisSession
from mnesis.cli.app import COMMANDS, cli
from mnesis.cli.database_option import DatabaseOption
from mnesis.cli.json_output import OUTPUTS, json_schema
from mnesis.cli.reference import command_reference
from mnesis.config import CompactionConfig, MnesisConfig, ModelOverrides
from mnesis.ids import new_id
from mnesis.llm.no_model import NoModel
from mnesis.models.message import DataPart, FileRefPart, Message, ReasoningPart, TextPart, ToolPart, ToolStatus
from mnesis.models.session import Interruption
from tests.cli.conftest import Run

HOSTILE = "[/red]\x1b[2J\x1b]0;owned\x07 [bold]\u202egnirts\u2066\x9b31m\x7f\r\x08 <script>alert(1)</script>"
HARMFUL = set("\x1b\x07\x9b\x7f\u202e\u2066\r\x08\x00")
LONG_LINE = "x" * 5_000_000
SESSION = f"hostile {HOSTILE}"
DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@dataclass(frozen=True)
class Use:
    """One way to call a command. `reads`: it only looks. `json`: what makes it print JSON."""

    arguments: tuple[str, ...]
    reads: bool = True
    json: tuple[str, ...] = ("--json",)
    needs_id: bool = True
    makes_database: bool = False


# {id} is a session, {summary} a summary of it, {new} a file that is not there, {export} an export of another session.
USES = {
    "demo": Use(("demo", "--turns", "3"), needs_id=False, makes_database=True),
    "chat": Use(("chat", "{id}", "--mock"), reads=False, json=("--jsonl",), makes_database=True),
    "ls": Use(("ls", "--tree"), needs_id=False),
    "show": Use(("show", "{id}", "-n", "0")),
    "context": Use(("context", "{id}", "--context-limit", "4000")),
    "dag": Use(("dag", "{id}")),
    "timeline": Use(("timeline", "{id}")),
    "search": Use(("search", "gnirts"), reads=False, needs_id=False),
    "grep": Use(("grep", "gnirts", "{id}", "-C", "2")),
    "expand": Use(("expand", "{summary}", "--session", "{id}", "-n", "0")),
    "stats": Use(("stats",), needs_id=False),
    "export": Use(("export", "{id}"), json=()),
    "import": Use(("import", "{export}", "--as", "{unique}"), reads=False, needs_id=False, makes_database=True),
    "compact": Use(("compact", "{id}", "--dry-run")),
    "purge": Use(("purge", "{id}")),
    "doctor": Use(("doctor", "--deep"), needs_id=False),
    "verify": Use(("verify",), needs_id=False),
    "salvage": Use(("salvage", "--to", "{new}"), reads=False, needs_id=False),
    "seal": Use(("seal", "--key-file", "{key}"), reads=False, needs_id=False),
    "backup": Use(("backup", "{new}"), reads=False, needs_id=False),
    "reindex": Use(("reindex",), reads=False, needs_id=False),
    "migrate": Use(("migrate",), reads=False, needs_id=False),
}
# The file that the hostile session names was never stored.
FOUND = {"doctor": 1}
ON_A_DATABASE = [name for name, use in USES.items() if not use.makes_database]
READING = [name for name in ON_A_DATABASE if USES[name].reads]


async def hostile_session(path: Path) -> None:
    """A session that is hostile wherever it can be, folded, with an interruption, a file and a line of 5 MB."""
    config = MnesisConfig(
        model_overrides=ModelOverrides(context_limit=4_000, max_output_tokens=500),
        compaction=CompactionConfig(auto=False, compaction_output_budget=1_000),
    )
    call = ToolPart(
        tool_name=HOSTILE,
        tool_call_id=HOSTILE,
        input={HOSTILE: HOSTILE},
        output=f"{HOSTILE}\n" * 30,
        status=ToolStatus(state="completed"),
    )
    file = FileRefPart(
        content_id="ab" * 32, path=f"/tmp/{HOSTILE}", file_type=HOSTILE, token_count=9, exploration_summary=HOSTILE
    )
    async with (
        Engine(path, config=config, llm=NoModel()) as engine,
        MnesisSession.open(
            model=f"demo/{HOSTILE}", system_prompt=HOSTILE, session_id=SESSION, agent=HOSTILE, engine=engine
        ) as session,
    ):
        await engine.store.update_session(SESSION, title=HOSTILE)
        for number in range(8):
            said = [TextPart(text=f"{HOSTILE} {number}"), ReasoningPart(text=HOSTILE), call]
            await session.record(f"{HOSTILE}\nquestion {number}", said)
        odd = (file, DataPart(kind=HOSTILE, data={HOSTILE: HOSTILE}, text=HOSTILE))
        await session.append([Message(id=f"m {HOSTILE}", role="user", parts=odd)])
        await session.compact()
        await session.append([Message(id="long", role="user", parts=(TextPart(text=f"{HOSTILE}\n{LONG_LINE}"),))])
        note = Interruption(3, "failed", HOSTILE, HOSTILE, HOSTILE, 1)
        await engine.store.record_interruption(SESSION, note)


async def hostile_child(path: Path) -> None:
    """A session of a sub-agent, so that a purge has something to name."""
    async with Engine(path) as engine:
        child = f"child {HOSTILE}"
        await (await MnesisSession.create(model=None, session_id=child, parent_id=SESSION, engine=engine)).close()


@pytest.fixture(scope="module")
def hostile_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile session, gone through an export in which somebody made the ids of summaries and messages hostile."""
    directory = tmp_path_factory.mktemp("hostile")
    asyncio.run(hostile_session(directory / "first.db"))
    lines = CliRunner().invoke(cli, ["export", SESSION, "--db", str(directory / "first.db")]).stdout
    ids = re.compile(r'"((?:sum|msg)_[0-9a-z]+)"')
    (directory / "export.jsonl").write_text(ids.sub(lambda found: json.dumps(found[1] + HOSTILE), lines))
    path = directory / "hostile.db"
    done = CliRunner().invoke(cli, ["import", str(directory / "export.jsonl"), "--db", str(path)])
    assert done.exit_code == 0, done.output
    asyncio.run(hostile_child(path))
    return path


@pytest.fixture
def hostile(hostile_source: Path, tmp_path: Path) -> Path:
    """A copy of the hostile database, because commands such as compact and chat change it."""
    return Path(shutil.copy(hostile_source, tmp_path / "hostile.db"))


@pytest.fixture
def fill(tmp_path: Path, run: Run) -> Fill:
    return Fill(tmp_path, run)


@dataclass
class Fill:
    """Puts names into the arguments of a use."""

    directory: Path
    run: Run

    def __call__(self, name: str, path: Path, session_id: str, *more: str) -> list[str]:
        arguments = [*USES[name].arguments, *more]
        if any("{summary}" in each for each in arguments):
            arguments = [each.replace("{summary}", self._summary(path, session_id)) for each in arguments]
        if any("{export}" in each for each in arguments):
            arguments = [each.replace("{export}", str(self._export(path, session_id))) for each in arguments]
        new = str(self.directory / "new.db")
        key = self.directory / "key"
        if name == "seal":
            path = self._copy(path) if path.name == "hostile.db" else path
            key.write_text("k" * 32)
        names = {"{id}": session_id, "{new}": new, "{unique}": new_id("again"), "{key}": str(key)}
        filled = [names.get(each, each) for each in arguments]
        return filled if name == "demo" else [*filled, "--db", str(path)]

    def _summary(self, path: Path, session_id: str) -> str:
        if not path.is_file() or path.suffix != ".db":
            return "sum_"

        async def first() -> str:
            async with Engine(path) as engine:
                return (await engine.store.summaries(session_id))[0].id

        return asyncio.run(first())

    def _copy(self, path: Path) -> Path:
        """A copy to seal: commands without the key could no longer write the database itself."""
        return Path(shutil.copy(path, self.directory / "to-seal.db"))

    def _export(self, path: Path, session_id: str) -> Path:
        target = self.directory / "export.jsonl"
        assert self.run("export", session_id, "--db", path, "-o", target, "--force").exit_code == 0
        return target


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
    assert {*USES, "inspect", "mcp", "schema", "completion"} == set(COMMANDS)


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
    assert DOCS.read_text() == command_reference(), "run: python -m mnesis.cli.reference > docs/cli.md"


def test_the_reference_does_not_depend_on_where_it_is_made() -> None:
    environment = os.environ | {
        "COLUMNS": "40",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "MNESIS_DB": "other.db",
        "PYTHONUTF8": "1",
    }
    made = subprocess.run(
        [sys.executable, "-m", "mnesis.cli.reference"], capture_output=True, text=True, check=True, env=environment
    )
    assert made.stdout == command_reference()


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
            [sys.executable, "-m", "mnesis.cli", *arguments, "--db", str(database)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("mnesis: ")
