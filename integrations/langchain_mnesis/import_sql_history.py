"""An importer for SQLite files written by `SQLChatMessageHistory`."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import AsyncIterator, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from anyio import to_thread
from langchain_core.messages import BaseMessage, messages_from_dict

from langchain_mnesis.messages.convert import to_record
from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, InvalidMessageError
from mnesis.ids import new_id
from mnesis.models.message import Message
from mnesis.session.session import MnesisSession
from mnesis.system.open_files import find_identity, refuse_database_file

BATCH_MESSAGES = 500
"""The messages stored in one transaction: enough to be fast, and few enough not to block other writers for long."""
_Row = tuple[int, str, str]


def import_sql_history(
    database: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    table_name: str = "message_store",
) -> dict[str, int]:
    """Copy every session of a SQLite file that `SQLChatMessageHistory` wrote.

    Returns the number of messages copied to each session. The file is only read. Messages keep their order and ids.
    Running the import again copies only new messages. Raises `ConfigurationError` if the file or table does not exist,
    and `InvalidMessageError` if a row does not contain a message.
    """
    return concurrency.run(aimport_sql_history(database, engine=engine, db_path=db_path, table_name=table_name))


async def aimport_sql_history(
    database: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    table_name: str = "message_store",
) -> dict[str, int]:
    """Import like `import_sql_history`, without blocking the event loop."""
    sessions = Sessions(engine=engine, db_path=db_path)
    copied: dict[str, int] = {}
    source: _Source | None = None
    async for session_id, rows in _read_batches(Path(database), table_name):
        session = await sessions.pool.get_or_create(session_id)
        if source is None or source.session is not session:
            stored_rows = [(record.id, record.extra.get("sql_row")) async for record in session.iter_messages()]
            source = _Source(session, {row for _, row in stored_rows}, {message_id for message_id, _ in stored_rows})
        new_rows = [row for row in rows if row[0] not in source.imported_rows]
        if new_rows:
            await session.append([_to_record(row, source.used_ids) for row in new_rows], ends_turn=True)
        copied[session_id] = copied.get(session_id, 0) + len(new_rows)
    return copied


@dataclass
class _Source:
    """The messages that the session being imported already contains."""

    session: MnesisSession
    imported_rows: set[object]
    used_ids: set[str]


async def _read_batches(database: Path, table_name: str) -> AsyncIterator[tuple[str, list[_Row]]]:
    """Read the rows in threads. Yields the rows of one session at a time, `BATCH_MESSAGES` or fewer."""
    rows = _read_rows(database, table_name)
    try:
        while batch := await to_thread.run_sync(lambda: list(islice(rows, BATCH_MESSAGES))):
            for session_id, session_rows in groupby(batch, key=lambda row: row[1]):
                yield session_id, list(session_rows)
    finally:
        await to_thread.run_sync(rows.close)


def _read_rows(database: Path, table_name: str) -> Generator[_Row, None, None]:
    if not database.is_file():
        raise ConfigurationError(f"{os.fspath(database)!r} does not exist; pass the path of a SQLite file")
    if identity := find_identity(database):
        refuse_database_file(database, identity)
    quoted = '"' + table_name.replace('"', '""') + '"'
    # The name is quoted, because a table name cannot be a parameter.
    query = f"SELECT id, session_id, message FROM {quoted} ORDER BY session_id, id"  # noqa: S608  # quoted above
    # The threads that read take turns.
    uri = f"{database.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, check_same_thread=False)) as connection:
        try:
            yield from connection.execute(query)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"{os.fspath(database)!r} has no readable table {table_name!r} ({error}); pass another table_name"
            ) from error


def _to_record(row: _Row, used_ids: set[str]) -> Message:
    number, _, text = row
    record = to_record(_parse_message(number, text))
    if record.id in used_ids:
        record = record.model_copy(update={"id": new_id("msg")})
    used_ids.add(record.id)
    return record.model_copy(update={"extra": {**record.extra, "sql_row": number}})


def _parse_message(number: int, text: str) -> BaseMessage:
    try:
        data: Any = json.loads(text)
        return messages_from_dict([data])[0]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidMessageError(
            f"row {number} contains {text[:80]!r}, which is not a LangChain message; correct or delete the row"
        ) from error
