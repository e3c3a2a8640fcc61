"""What the commands share: the options that name the database, opening it, reading it without changing it."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from mnesis.errors import MnesisStoreError, SessionNotFoundError

if TYPE_CHECKING:
    from mnesis.config import MnesisConfig
    from mnesis.engine.engine import Engine
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])
DEFAULT_TIMEOUT_SECONDS = 10.0
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Which database a command was told to use, and how long it waits for others who hold it."""

    path: str | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS

    def config(self, *, read_only: bool = False, **groups: Any) -> MnesisConfig:
        """A configuration with this timeout; `groups` are its other parts."""
        from mnesis.config import MnesisConfig, StoreConfig

        store = StoreConfig(connection_timeout=self.timeout_seconds, read_only=read_only)
        return MnesisConfig(store=store, **groups)


def db_option(function: _Command) -> _Command:
    """`--db PATH` and `--timeout SECONDS`, together as the argument `db`, a `Place`."""

    @wraps(function)
    def with_place(*, db: str | None, timeout: float, **others: Any) -> Any:
        return function(db=Place(db, timeout), **others)

    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True, max=86_400),
        default=DEFAULT_TIMEOUT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a process that holds the database.",
    )
    named = click.option("--db", envvar="MNESIS_DB", metavar="PATH", help="The database [env: MNESIS_DB].")
    return cast(_Command, named(timeout(with_place)))


def json_option(function: _Command) -> _Command:
    """`--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def lines_option(function: _Command) -> _Command:
    """`--jsonl`, as the argument `as_lines`."""
    return click.option("--jsonl", "as_lines", is_flag=True, help="Print JSON, one row per line.")(function)


class NoDatabaseError(MnesisStoreError):
    """There is no database at the path, and reading must not make one."""


def database_path(db: Place) -> Path:
    """The path a command works on; it need not exist."""
    from mnesis.config import DEFAULT_DIRECTORY

    if db.path == ":memory:":
        raise click.UsageError("a database in memory ends with its process; name a file with --db")
    if db.path == "" or "\0" in (db.path or ""):
        raise click.UsageError(f"{db.path!r} is no path; name the database with --db, or leave it out")
    try:
        return Path(db.path or f"{DEFAULT_DIRECTORY}/sessions.db").expanduser()
    except RuntimeError as error:
        raise click.UsageError(f"{db.path}: {error}") from error


def existing_database(db: Place) -> Path:
    """The path of a database that is there. Looks with stat only: opening the file would drop SQLite's locks."""
    path = database_path(db)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoDatabaseError(f"no database at {path} yet; name one with --db or MNESIS_DB") from None
    except OSError as error:
        raise NoDatabaseError(f"{path} cannot be used: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise NoDatabaseError(f"{path} is no file; name the database itself with --db")
    if found.st_size == 0:
        raise NoDatabaseError(f"{path} is empty: no session was ever stored there")
    return path


@asynccontextmanager
async def reading(db: Place) -> AsyncIterator[Store]:
    """The store of a database that is there already; nothing is written to it, not even an update of its schema."""
    from mnesis.engine.engine import Engine

    async with Engine(existing_database(db), config=db.config(read_only=True)) as engine:
        yield engine.store


@asynccontextmanager
async def writing(db: Place) -> AsyncIterator[Engine]:
    """An engine on a database that is there already, for commands that change it."""
    from mnesis.engine.engine import Engine

    async with Engine(existing_database(db), config=db.config()) as engine:
        yield engine


async def all_sessions(store: Store) -> AsyncIterator[SessionRecord]:
    """Every session, newest first, read a page at a time."""
    cursor: str | None = None
    while True:
        page = await store.sessions(limit=_PAGE, cursor=cursor)
        for session in page.sessions:
            yield session
        cursor = page.next_cursor
        if cursor is None:
            return


async def is_stored(store: Store, session_id: str) -> bool:
    """Whether there is a session of exactly this id."""
    try:
        await store.session(session_id)
    except SessionNotFoundError:
        return False
    return True
