"""What the commands share: the option that names the database, opening it, finding a session by the start of its id."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mnesis.cli.screen import clean
from mnesis.errors import MnesisStoreError, SessionNotFoundError

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])
CANDIDATES_SHOWN = 5
_PAGE = 500


def db_option(function: _Command) -> _Command:
    """`--db PATH`, as the argument `db`."""
    return click.option("--db", envvar="MNESIS_DB", metavar="PATH", help="The database [env: MNESIS_DB].")(function)


def json_option(function: _Command) -> _Command:
    """`--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


class NoDatabaseError(MnesisStoreError):
    """There is no database at the path, and reading must not make one."""


def database_path(db: str | None) -> Path:
    """The path a command works on; it need not exist."""
    from mnesis.config import DEFAULT_DIRECTORY

    if db == ":memory:":
        raise click.UsageError("a database in memory ends with its process; name a file with --db")
    return Path(db or f"{DEFAULT_DIRECTORY}/sessions.db").expanduser()


def existing_database(db: str | None) -> Path:
    """The path of a database that is there. Looks with stat only: opening the file would drop SQLite's locks."""
    path = database_path(db)
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoDatabaseError(f"no database at {path} yet; name one with --db or MNESIS_DB") from None
    except (OSError, ValueError) as error:
        raise NoDatabaseError(f"{path} cannot be used: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise NoDatabaseError(f"{path} is no file; name the database itself with --db")
    if found.st_size == 0:
        raise NoDatabaseError(f"{path} is empty: no session was ever stored there")
    return path


@asynccontextmanager
async def reading(db: str | None) -> AsyncIterator[Store]:
    """The store of a database that is there already."""
    from mnesis.engine import Engine

    async with Engine(existing_database(db)) as engine:
        yield engine.store


async def find_session(store: Store, text: str) -> SessionRecord:
    """The session of this id, or the only one whose id begins so."""
    try:
        return await store.session(text)
    except SessionNotFoundError:
        matches = [session async for session in all_sessions(store) if session.id.startswith(text)]
        if not matches:
            raise
    if len(matches) > 1:
        names = ", ".join(clean(session.id) for session in matches[:CANDIDATES_SHOWN])
        raise click.UsageError(f"{clean(text)!r} begins {len(matches)} ids: {names}; write more of the one you mean")
    return matches[0]


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
