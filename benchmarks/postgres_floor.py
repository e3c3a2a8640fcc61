"""What bare psycopg needs for the rows of a turn."""

from __future__ import annotations

import time

import psycopg

from benchmarks.store.sample_turns import Turn, make_turns
from mnesis.database_url import DatabaseURL

TURNS = make_turns(64)


def make_turn(number: int) -> Turn:
    """Return one of the sample turns."""
    return TURNS[number % len(TURNS)]


class Floor:
    """The same rows in one pipelined transaction of psycopg: tables and indexes of the store without triggers and keys."""

    def __init__(self, url: str) -> None:
        target = DatabaseURL(url)
        self._connection = psycopg.connect(target.conninfo, autocommit=True, prepare_threshold=2)
        self._schema = target.schema
        for table in ("messages", "turns", "accounts"):
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._schema}.floor_{table} (LIKE {self._schema}.{table} INCLUDING INDEXES)".encode()
            )

    def add_session(self, session_id: str) -> int:
        """Copy the row of a session's accounts, which turns update. Returns its key."""
        schema = self._schema
        row = self._connection.execute(
            f"INSERT INTO {schema}.floor_accounts SELECT a.* FROM {schema}.accounts AS a JOIN {schema}.sessions AS s"
            " ON s.pk = a.session_pk WHERE s.id = %s RETURNING session_pk".encode(),
            (session_id,),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def write(self, session_pk: int, number: int, turn: Turn) -> None:
        """Write one turn."""
        execute, seq = self._connection.execute, 2 * number + 1
        message = f"INSERT INTO {self._schema}.floor_messages VALUES (%s, %s, 50, 0, 0, %s, %s, %s, NULL, %s)".encode()
        with self._connection.pipeline():
            execute(b"BEGIN")
            for offset, role, text in ((0, "user", turn.user_text), (1, "assistant", turn.assistant_text)):
                values = (session_pk, seq + offset, f"msg_{session_pk}_{seq + offset}", role, b"h" * 32, text.encode())
                execute(message, values)
            execute(
                f"INSERT INTO {self._schema}.floor_turns VALUES (%s, %s, %s, 'assistant', 1, 2, 3, 4, 5, 6)".encode(),
                (session_pk, number, seq + 1),
            )
            execute(
                f"UPDATE {self._schema}.floor_accounts SET last_used = %s, last_seq = %s, turn_count = %s,"
                " message_tokens = %s, context_tokens = %s WHERE session_pk = %s".encode(),
                (time.time_ns(), seq + 1, number + 1, 200 * number, 200 * number, session_pk),
            )
            execute(b"COMMIT")

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()
