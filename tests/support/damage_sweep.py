"""Every command on a damaged copy of a database: what must hold whatever the damage is.

`python -m tests.support.damage_sweep` runs every command on every kind of damage; the suite runs a sample.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from mnesis.cli.app import cli
from tests.support.damage import Flip, search_tables, store_every_kind, tables

INTACT_SESSION = "t"
"""No damage of one row of session `s` may change what is shown of it."""

READING = {
    "doctor": ("doctor",),
    "verify": ("verify",),
    "ls": ("ls", "--tree"),
    "show": ("show", "s", "-n", "0"),
    "context": ("context", "s"),
    "dag": ("dag", "s"),
    "timeline": ("timeline", "s"),
    "expand": ("expand", "one", "--session", "s", "-n", "0"),
    "export": ("export", "s"),
    "export as openai": ("export", "s", "--format", "openai"),
    "stats": ("stats",),
    "grep": ("grep", "question"),
    "purge": ("purge", "s"),
    "backup": ("backup", "{new}"),
    "salvage": ("salvage", "--to", "{new}"),
    "search": ("search", "question"),
    "search substring": ("search", "question", "--mode", "substring"),
    "reindex": ("reindex",),
    "migrate": ("migrate",),
}
NEVER_SILENT = ("show", "context", "dag", "timeline", "expand", "export", "export as openai", "grep", "search")
"""Commands whose output differs only if they say so."""
SEEN_BY_DOCTOR_ONLY = {
    "show": ("prunes",),
    "context": ("prunes",),
    "grep": ("prunes",),
    "search": ("search_rows", "context_covers", "summaries"),
}
"""Damage that only `doctor` sees: of what a command says about a message, such as its rank or the summary that covers it."""
_MARK = re.compile("damage|cannot be shown")
_REMARKS = re.compile(r"  in \w+|\n *\(the context shows a marker in place of this output\)")
"""What a command says about a message, which may be missing if a page with these remarks was damaged."""
INTACT = {
    "show": ("show", INTACT_SESSION, "-n", "0"),
    "export": ("export", INTACT_SESSION),
    "grep": ("grep", "question", INTACT_SESSION),
}


@dataclass(frozen=True)
class Damage:
    """Something done to a database file, and whether it leaves session `t` as it was."""

    name: str
    apply: Callable[[Path], bool]
    spares_others: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    exit_code: int
    stdout: str
    stderr: str
    error: BaseException | None


def run_command(arguments: tuple[str, ...], database: Path, new: Path) -> Outcome:
    """Run a command in this process."""
    filled = [str(new) if each == "{new}" else each for each in arguments]
    result = CliRunner().invoke(cli, [*filled, "--db", str(database)])
    error = None if isinstance(result.exception, SystemExit) else result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr, error)


def statements(*lines: str) -> Callable[[Path], bool]:
    """Return damage by SQL statements, behind the back of every check of SQLite. It happens if one of them has an effect."""

    def apply(path: Path) -> bool:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            for pragma in ("ignore_check_constraints = ON", "foreign_keys = OFF", "writable_schema = ON"):
                connection.execute(f"PRAGMA {pragma}")
            results = [connection.execute(line).rowcount for line in lines]
            return any(results)
        finally:
            connection.close()

    return apply


def _without_triggers(table: str, change: Callable[[sqlite3.Connection], bool]) -> Callable[[Path], bool]:
    def apply(path: Path) -> bool:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA foreign_keys = OFF")
            triggers = connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (table,)
            ).fetchall()
            for name, _ in triggers:
                connection.execute(f"DROP TRIGGER {name}")
            has_changed = change(connection)
            for _, definition in triggers:
                connection.execute(definition)
            return has_changed
        finally:
            connection.close()

    return apply


def _delete_where(table: str, where: str) -> Callable[[Path], bool]:
    return _without_triggers(
        table, lambda connection: connection.execute(f"DELETE FROM {table} WHERE {where}").rowcount > 0
    )


def flips(path: Path) -> Iterator[Damage]:
    """Yield a flipped bit in the first and the last value of every column of every table, those of the index too."""
    for table, columns in {**tables(path), **search_tables(path)}.items():
        for column in columns:
            for position, bit in ((0, 1), (10**9, 38)):
                flip = Flip(table, column, position, bit)
                place = "first" if position == 0 else "last"
                yield Damage(f"bit {bit} of {table}.{column}, {place} row", flip.apply, position == 0)


def removals(path: Path) -> Iterator[Damage]:
    """Yield a deleted first and last row of every table, and every index, trigger and table dropped."""
    for table in {**tables(path), **search_tables(path)}:
        connection = sqlite3.connect(path)
        keys = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
        connection.close()
        names = ", ".join(keys)
        for order in ("ASC", "DESC"):
            ordered = ", ".join(f"{key} {order}" for key in keys)
            where = f"({names}) IN (SELECT {names} FROM {table} ORDER BY {ordered} LIMIT 1)"
            yield Damage(f"{order} row of {table}", _delete_where(table, where))
    connection = sqlite3.connect(path)
    objects = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name"
    ).fetchall()
    connection.close()
    for kind, name in objects:
        yield Damage(f"{kind} {name} dropped", statements(f"DROP {kind} {name}"))
        yield Damage(
            f"{kind} {name} unreadable",
            statements(f"UPDATE sqlite_master SET sql = 'CREATE {kind} {name} nonsense' WHERE name = '{name}'"),
        )
    connection = sqlite3.connect(path)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'sqlite\\_auto%' ESCAPE '\\'"):
        yield Damage(f"index {name} dropped", statements(f"DELETE FROM sqlite_master WHERE name = '{name}'"))
    connection.close()


def swaps() -> Iterator[Damage]:
    """Yield rows that changed their places, and numbers of the schema that are wrong."""
    for table, column in (("messages", "seq"), ("messages", "id"), ("summaries", "id"), ("sessions", "id")):
        yield Damage(f"swapped {column} of {table}", _swap(table, column))
    for number in (0, 1, 5, 99, -3):
        yield Damage(f"schema version {number}", statements(f"PRAGMA user_version = {number}"))
    yield Damage("application id", statements("PRAGMA application_id = 7"))


def _swap(table: str, column: str) -> Callable[[Path], bool]:
    def change(connection: sqlite3.Connection) -> bool:
        read = f"SELECT {column} FROM {table} WHERE pk = ?"
        values = [connection.execute(read, (pk,)).fetchone()[0] for pk in (1, 2)]
        placeholder = 1_000_000 if isinstance(values[0], int) else "placeholder"
        for value, pk in ((placeholder, 1), (values[0], 2), (values[1], 1)):
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE pk = ?", (value, pk))
        return True

    return _without_triggers(table, change)


def pages(path: Path) -> Iterator[Damage]:
    """Yield every page overwritten with zeros, neighbours that changed places, and files that end too early."""
    connection = sqlite3.connect(path)
    page_bytes, count = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count"))
    names = dict(connection.execute("SELECT rootpage, name FROM sqlite_master WHERE rootpage"))
    connection.close()
    for page in range(count):
        yield Damage(f"page {page + 1} zeroed", _overwrite(page * page_bytes, bytes(page_bytes)))
    for page in range(1, count - 1):
        holds = f"{names.get(page + 1, 'no root')}, {names.get(page + 2, 'no root')}"
        name = f"pages {page + 1} and {page + 2} swapped ({holds})"
        yield Damage(name, _swap_with_next(page * page_bytes, page_bytes))
    for page in range(1, count, max(count // 12, 1)):
        yield Damage(f"truncated to {page} pages", _truncate(page * page_bytes))
    for size in (1, 50, 100, 1_000, page_bytes * count - 1, page_bytes * count - page_bytes // 2):
        yield Damage(f"truncated to {size} bytes", _truncate(size))
    for offset in (0, 16, 18, 20, 21, 28, 32, 36, 44, 52, 56, 60, 68, 92, 96):
        yield Damage(f"header byte {offset}", _flip_byte(offset))


def _overwrite(offset: int, data: bytes) -> Callable[[Path], bool]:
    def apply(path: Path) -> bool:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        return True

    return apply


def _swap_with_next(offset: int, page_bytes: int) -> Callable[[Path], bool]:
    def apply(path: Path) -> bool:
        with path.open("r+b") as file:
            file.seek(offset)
            first, second = file.read(page_bytes), file.read(page_bytes)
            file.seek(offset)
            file.write(second + first)
        return first != second

    return apply


def _truncate(size: int) -> Callable[[Path], bool]:
    def apply(path: Path) -> bool:
        with path.open("r+b") as file:
            file.truncate(size)
        return True

    return apply


def _flip_byte(offset: int) -> Callable[[Path], bool]:
    def apply(path: Path) -> bool:
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0x12]))
        return True

    return apply


def all_damage(path: Path) -> Iterator[Damage]:
    """Yield every kind of damage to a database that `store_every_kind` wrote."""
    yield from flips(path)
    yield from removals(path)
    yield from swaps()
    yield from pages(path)


def fresh_copy(source: Path, directory: Path) -> Path:
    """Return a copy of a database in an empty directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return Path(shutil.copy(source, directory / "copy.db"))


def _without_remarks(output: str) -> str:
    return _REMARKS.sub("", output)


class Sweep:
    """Runs commands on damaged copies of a database, and compares what they print with what they print of the original."""

    def __init__(self, source: Path, directory: Path) -> None:
        self._source = source
        self._directory = directory
        self._expected: dict[tuple[str, ...], str] = {}

    def find_violations(self, damage: Damage, commands: Iterable[str]) -> list[str]:
        """Apply damage to a copy and run commands on it. Returns what must not happen, which should be nothing."""
        path = fresh_copy(self._source, self._directory)
        if not damage.apply(path):
            return []
        damaged = path.read_bytes()
        found = []
        for name in commands:
            outcome = self._run(READING[name], damaged)
            if fault := self._fault(name, damage, outcome):
                found.append(f"{damage.name}: {name}: {fault}")
        if damage.spares_others:
            for name, arguments in INTACT.items():
                if self._run(arguments, damaged).stdout != self._expected_output(arguments):
                    found.append(f"{damage.name}: {name}: another session is affected")
        return found

    def _fault(self, name: str, damage: Damage, outcome: Outcome) -> str | None:
        if outcome.error is not None:
            lines = traceback.format_exception(outcome.error)
            return f"{outcome.error!r} {lines[-2].strip()}"
        if outcome.exit_code not in (0, 1, 2, 3):
            return f"exit code {outcome.exit_code}"
        if name == "doctor" and outcome.exit_code == 0 and "0 errors, 0 warnings" in outcome.stdout:
            return "the damage is not found"
        if name in NEVER_SILENT and not any(each in damage.name for each in SEEN_BY_DOCTOR_ONLY.get(name, ())):
            is_same = _without_remarks(outcome.stdout) == _without_remarks(self._expected_output(READING[name]))
            is_told = outcome.exit_code or outcome.stderr or _MARK.search(outcome.stdout)
            return None if is_same or is_told else "other output, and no word about it"
        return None

    def _run(self, arguments: tuple[str, ...], data: bytes) -> Outcome:
        for leftover in self._directory.iterdir():
            leftover.unlink()
        path = self._directory / "copy.db"
        path.write_bytes(data)
        return run_command(arguments, path, self._directory / "new.db")

    def _expected_output(self, arguments: tuple[str, ...]) -> str:
        if arguments not in self._expected:
            self._expected[arguments] = self._run(arguments, self._source.read_bytes()).stdout
        return self._expected[arguments]


def main() -> None:
    """Run the sweep and print violations. Exits with 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.damage_sweep", description=__doc__)
    parser.add_argument("--only", default="", help="only damage whose name contains this")
    options = parser.parse_args()
    total, violations = 0, []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source.db"
        asyncio.run(store_every_kind(source))
        sweep = Sweep(source, Path(name) / "work")
        for damage in all_damage(source):
            if options.only in damage.name:
                total += 1
                found = sweep.find_violations(damage, READING)
                violations += found
                for line in found:
                    print(line, flush=True)
    print(f"{total} kinds of damage, {len(READING)} commands, {len(violations)} violations")
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
