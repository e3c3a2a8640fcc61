"""Explorer of SQLite databases, opened read-only and untrusted: tables, columns, row counts, indexes, views."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural, total_note
from mnesis.files.explorers.source import Source

MAX_COUNT_SECONDS = 5.0
"""The time for the row counts of all tables together. Tables not counted by then are reported as having too many
rows."""
MAX_OBJECTS = 500
MAX_COPY_BYTES = 64 << 20
"""Decrypted content is read in memory only."""
_STEPS_BETWEEN_CHECKS = 20_000

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ})
_PRAGMAS = frozenset(
    {
        "table_xinfo",
        "trusted_schema",
        "query_only",
        "cell_size_check",
        "cache_size",
        "encoding",
        "page_size",
        "user_version",
    }
)


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    with closing(_connect(source)) as connection:
        _restrict(connection)
        objects = _schema_objects(connection)
        tables = [(name, sql) for type_, name, sql in objects if type_ == "table"]
        report.add_line(
            f"SQLite database, {format_size(source.size_bytes)}, {plural(len(tables), 'table')}{_settings(connection)}"
        )
        if source.head[18:20] == b"\x02\x02":
            report.add_line("It used a write-ahead log: rows that were still in its -wal file are not included")
        until = source.remaining_seconds - MAX_COUNT_SECONDS
        connection.set_progress_handler(
            lambda: source.is_expired or source.remaining_seconds < until, _STEPS_BETWEEN_CHECKS
        )
        for name, sql in tables:
            if report.is_full:
                break
            # A virtual table runs code of its module on untrusted data, so it is named but not opened.
            if (sql or "").upper().lstrip().startswith("CREATE VIRTUAL"):
                report.add_line(f"virtual table {clean_line(name, 80)}: {clean_line(sql, 150)}", 1)
                continue
            report.add_line(f"table {clean_line(name, 80)}: {_count_rows(connection, name)}", 1)
            report.add_line(", ".join(_columns(connection, name)), 2)
        for type_, names in _other_objects(objects).items():
            report.add_line(f"{type_}: {', '.join(names[:30])}{total_note(len(names), 30)}")
    return kind


def _connect(source: Source) -> sqlite3.Connection:
    """Open the database as immutable: no locks, and no other files are created or read."""
    if source.path is not None:
        uri = f"{source.path.absolute().as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(uri, uri=True, check_same_thread=False)
    if source.size_bytes > MAX_COPY_BYTES:
        raise ValueError("it is too large to be read while it is encrypted")
    content = bytearray(source.read(0, source.size_bytes))
    content[18:20] = b"\1\1"  # a database in memory has no write-ahead log (https://sqlite.org/fileformat.html, 1.3.3)
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.deserialize(bytes(content))
    return connection


def _restrict(connection: sqlite3.Connection) -> None:
    """Prevent code in the schema from running."""
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for limit, value in ((sqlite3.SQLITE_LIMIT_LENGTH, 1 << 24), (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 1 << 24)):
        connection.setlimit(limit, value)
    for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "cache_size = -2000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.set_authorizer(_authorize)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    if action in _ALLOWED or (action == sqlite3.SQLITE_PRAGMA and first in _PRAGMAS):
        return sqlite3.SQLITE_OK
    is_count = action == sqlite3.SQLITE_FUNCTION and second in ("count", "substr")
    return sqlite3.SQLITE_OK if is_count else sqlite3.SQLITE_DENY


def _schema_objects(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    rows = connection.execute("SELECT type, name, substr(sql, 1, 200) FROM sqlite_schema").fetchmany(MAX_OBJECTS)
    return [entry for entry in rows if not entry[1].startswith("sqlite_")]


def _settings(connection: sqlite3.Connection) -> str:
    encoding, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("encoding", "user_version"))
    return f", encoding {encoding}" + (f", user_version {version}" if version else "")


def _count_rows(connection: sqlite3.Connection, table: str) -> str:
    # count(*) is a single step of SQLite's virtual machine, which can be interrupted between steps only.
    try:
        (rows,) = connection.execute(f"SELECT count(1) FROM {_quote_name(table)}").fetchone()  # noqa: S608 - quoted below
    except sqlite3.OperationalError as failure:
        return "too many rows to count in time" if "interrupted" in str(failure) else f"rows not counted ({failure})"
    except sqlite3.DatabaseError as failure:
        return f"rows not counted ({failure})"
    return plural(rows, "row")


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    try:
        described = connection.execute(f"PRAGMA table_xinfo({_quote_name(table)})").fetchmany(200)
    except sqlite3.DatabaseError as failure:
        return [f"columns not read ({failure})"]
    return [
        f"{clean_line(name, 60)} {clean_line(type_, 30)}".strip()
        + (" (key)" if key else "")
        + (" not null" if required else "")
        for _, name, type_, required, _, key, _ in described
    ]


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _other_objects(objects: list[tuple[str, str, str]]) -> dict[str, list[str]]:
    named = {"index": "Indexes", "view": "Views", "trigger": "Triggers"}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for type_, name, _ in objects:
        if type_ in named:
            found[named[type_]].append(clean_line(name, 60))
    return found
