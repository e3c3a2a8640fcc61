"""An importer for SQLite files written by `SQLChatMessageHistory`."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, messages_from_dict

from langchain_mnesis.messages.convert import to_record
from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, InvalidMessageError
from mnesis.ids import new_id
from mnesis.models.message import Message
from mnesis.open_files import find_identity, refuse_database_file

BATCH_MESSAGES = 500
"""Messages stored in one transaction: many enough to be fast, few enough not to block other writers for long."""
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
    """Import like `import_sql_history`, in an event loop. Reading the file blocks the loop."""
    sessions = Sessions(engine=engine, db_path=db_path)
    copied: dict[str, int] = {}
    for session_id, rows in groupby(_read_rows(Path(database), table_name), key=lambda row: row[1]):
        session = await sessions.pool.get_or_create(session_id)
        stored_rows = [(record.id, record.extra.get("sql_row")) async for record in session.iter_messages()]
        imported_rows, used_ids = {row for _, row in stored_rows}, {message_id for message_id, _ in stored_rows}
        new_rows = [row for row in rows if row[0] not in imported_rows]
        for start in range(0, len(new_rows), BATCH_MESSAGES):
            await session.append(
                [_to_record(row, used_ids) for row in new_rows[start : start + BATCH_MESSAGES]], ends_turn=True
            )
        copied[session_id] = len(new_rows)
    return copied


def _read_rows(database: Path, table_name: str) -> Iterator[_Row]:
    if not database.is_file():
        raise ConfigurationError(f"{os.fspath(database)!r} does not exist; pass the path of a SQLite file")
    if identity := find_identity(database):
        refuse_database_file(database, identity)
    quoted = '"' + table_name.replace('"', '""') + '"'
    # The name is quoted, because a table name cannot be a parameter.
    query = f"SELECT id, session_id, message FROM {quoted} ORDER BY session_id, id"  # noqa: S608  # quoted above
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
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
