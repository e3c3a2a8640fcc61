"""Bringing in what `SQLChatMessageHistory` stored in SQLite."""

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

BATCH = 500
_Row = tuple[int, str, str]


def import_sql_history(
    database: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    table_name: str = "message_store",
) -> dict[str, int]:
    """Copy every session of a SQLite file that `SQLChatMessageHistory` wrote; how many messages each got now.

    The file is only read. Messages keep their order and ids. Doing it again copies only what came since. Raises
    `ConfigurationError` if there is no such file or table, `InvalidMessageError` naming the row that holds no message.
    """
    return concurrency.run(aimport_sql_history(database, engine=engine, db_path=db_path, table_name=table_name))


async def aimport_sql_history(
    database: str | os.PathLike[str],
    *,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    table_name: str = "message_store",
) -> dict[str, int]:
    """`import_sql_history`, for code with an event loop; the file is read on it."""
    sessions = Sessions(engine=engine, db_path=db_path)
    copied: dict[str, int] = {}
    for session_id, rows in groupby(_rows(Path(database), table_name), key=lambda row: row[1]):
        session = await sessions.session(session_id)
        present = [(record.id, record.extra.get("sql_row")) async for record in session.iter_messages()]
        done, taken = {row for _, row in present}, {name for name, _ in present}
        new = [row for row in rows if row[0] not in done]
        for start in range(0, len(new), BATCH):
            await session.append([_record(row, taken) for row in new[start : start + BATCH]], ends_turn=True)
        copied[session_id] = len(new)
    return copied


def _rows(database: Path, table_name: str) -> Iterator[_Row]:
    if not database.is_file():
        raise ConfigurationError(f"there is no database {os.fspath(database)!r}")
    quoted = '"' + table_name.replace('"', '""') + '"'
    # The name stands in quotes; parameters cannot name tables.
    query = f"SELECT id, session_id, message FROM {quoted} ORDER BY session_id, id"  # noqa: S608  # quoted above
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            yield from connection.execute(query)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"{os.fspath(database)!r} has no readable table {table_name!r}: {error}"
            ) from error


def _record(row: _Row, taken: set[str]) -> Message:
    number, _, text = row
    record = to_record(_message(number, text))
    if record.id in taken:
        record = record.model_copy(update={"id": new_id("msg")})
    taken.add(record.id)
    return record.model_copy(update={"extra": {**record.extra, "sql_row": number}})


def _message(number: int, text: str) -> BaseMessage:
    try:
        data: Any = json.loads(text)
        return messages_from_dict([data])[0]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidMessageError(f"row {number} holds no LangChain message: {text[:80]!r}") from error
