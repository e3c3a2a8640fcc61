"""Options that most commands share, such as `--db`, and how commands open the database."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from mnesis.cli.key_files import encryption_key_setting
from mnesis.database_url import DatabaseURL, is_database_url, refuse_other_url
from mnesis.errors import MnesisStoreError, SessionNotFoundError

if TYPE_CHECKING:
    from pydantic import SecretBytes

    from mnesis.config import MnesisConfig
    from mnesis.engine.engine import Engine
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])
DEFAULT_TIMEOUT_SECONDS = 10.0
_PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class DatabaseOption:
    """The database of a command, and how long to wait for a process that has locked it."""

    path: str | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    key_file: Path | None = None

    def with_key_file(self, key_file: Path | None) -> DatabaseOption:
        """Return the same database with the file of its integrity key, if one is given."""
        return self if key_file is None else replace(self, key_file=key_file)

    def config(self, *, read_only: bool = False, **groups: Any) -> MnesisConfig:
        """Return a configuration with this timeout. `groups` are the other groups of settings."""
        from mnesis.config import MnesisConfig, StoreConfig

        is_file = self.path is None or not is_database_url(self.path)
        store = StoreConfig(
            connection_timeout=self.timeout_seconds,
            read_only=read_only,
            integrity_key=self._integrity_key(),
            encryption_key=encryption_key_setting() if is_file else None,
        )
        return MnesisConfig(store=store, **groups)

    def _integrity_key(self) -> SecretBytes | None:
        """Read the key from its file, without the whitespace around it. Returns None if no file is named."""
        from pydantic import SecretBytes

        path = self.key_file or os.environ.get("MNESIS_INTEGRITY_KEY_FILE")
        if not path:
            return None
        try:
            return SecretBytes(Path(path).expanduser().read_bytes().strip())
        except OSError as error:
            raise click.UsageError(
                f"the key file {path} cannot be read: {error}; pass another with --key-file"
            ) from error


def db_option(function: _Command) -> _Command:
    """Add `--db PATH` and `--timeout SECONDS`, passed together as the argument `db`, a `DatabaseOption`."""

    @wraps(function)
    def with_database(*, db: str | None, timeout: float, **others: Any) -> Any:
        return function(db=DatabaseOption(db, timeout), **others)

    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True, max=86_400),
        default=DEFAULT_TIMEOUT_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for another process that has locked the database.",
    )
    path_option = click.option(
        "--db",
        envvar="MNESIS_DB",
        metavar="PATH|URL",
        help="Path of the database, or the URL of a PostgreSQL database [env: MNESIS_DB].",
    )
    return cast(_Command, path_option(timeout(with_database)))


def json_option(function: _Command) -> _Command:
    """Add `--json`, passed as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def jsonl_option(function: _Command) -> _Command:
    """Add `--jsonl`, passed as the argument `as_jsonl`."""
    return click.option("--jsonl", "as_jsonl", is_flag=True, help="Print JSON, one object per line.")(function)


class NoDatabaseError(MnesisStoreError):
    """The path has no database. Reading never creates a database."""


def database_path(db: DatabaseOption) -> Path | DatabaseURL:
    """Return the path or URL of the database, which does not have to exist.

    Raises `click.UsageError` if it is not usable.
    """
    from mnesis.config import DEFAULT_DIRECTORY

    if db.path is not None:
        refuse_other_url(db.path)
        if is_database_url(db.path):
            return DatabaseURL(db.path)

    if db.path == ":memory:":
        raise click.UsageError("':memory:' does not outlive one command; pass the path of a file with --db")
    if db.path == "" or "\0" in (db.path or ""):
        raise click.UsageError(f"{db.path!r} is not a path; pass the path of the database with --db, or omit it")
    try:
        return Path(db.path or f"{DEFAULT_DIRECTORY}/sessions.db").expanduser()
    except RuntimeError as error:
        raise click.UsageError(f"{db.path}: {error}") from error


def existing_database_path(db: DatabaseOption) -> Path | DatabaseURL:
    """Return the path of an existing database, or a URL, which is checked only when it is opened.

    Only calls `stat`, because opening and closing the file would drop SQLite's locks. Raises `NoDatabaseError` if there is
    no database at the path.
    """
    path = database_path(db)
    if isinstance(path, DatabaseURL):
        return path
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoDatabaseError(f"no database at {path} yet; pass its path with --db or MNESIS_DB") from None
    except OSError as error:
        raise NoDatabaseError(f"{path} cannot be used: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise NoDatabaseError(f"{path} is not a file; pass the path of the database with --db")
    if status.st_size == 0:
        raise NoDatabaseError(f"{path} is empty: no session was ever stored in it")
    return path


@asynccontextmanager
async def open_store(db: DatabaseOption) -> AsyncIterator[Store]:
    """Open the store of an existing database read-only. Not even its schema is updated."""
    from mnesis.engine.engine import Engine

    async with Engine(existing_database_path(db), config=db.config(read_only=True)) as engine:
        yield engine.store


@asynccontextmanager
async def open_engine(db: DatabaseOption, **groups: Any) -> AsyncIterator[Engine]:
    """Open an engine on an existing database, for commands that change it. `groups` are further groups of settings."""
    from mnesis.engine.engine import Engine

    async with Engine(existing_database_path(db), config=db.config(**groups)) as engine:
        yield engine


async def all_sessions(store: Store) -> AsyncIterator[SessionRecord]:
    """Yield every session, newest first, read in pages."""
    cursor: str | None = None
    while True:
        page = await store.sessions(limit=_PAGE_SIZE, cursor=cursor)
        for session in page.sessions:
            yield session
        cursor = page.next_cursor
        if cursor is None:
            return


async def session_exists(store: Store, session_id: str) -> bool:
    """Return whether the store has a session with exactly this id."""
    try:
        await store.session(session_id)
    except SessionNotFoundError:
        return False
    return True
