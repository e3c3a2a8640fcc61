"""The integrity check of map runs and of references to stored files."""

from __future__ import annotations

import sqlite3

from mnesis.models.finding import Finding
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.runs import count_mismatch

RESTORE_RUN = "restore the database from a backup, or purge the run and run it again"
RESTORE = "restore the database from a backup; the messages themselves are intact"


def run_findings(connection: sqlite3.Connection) -> list[Finding]:
    """Find runs whose counts differ from those of their items."""
    names = [name for (name,) in connection.execute(sql("check_runs"))]
    mismatches = [(name, detail) for name in names if (detail := count_mismatch(connection, name)) is not None]
    return [Finding("error", "runs", f"run {name!r}: {detail}", RESTORE_RUN, (name,)) for name, detail in mismatches]


def file_findings(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    """Find references to files that differ from those in the messages."""
    parameters = {"session_pk": session_pk}
    recorded = set(connection.execute(sql("check_file_refs"), parameters))
    in_messages = set(connection.execute(sql("check_file_parts"), parameters))
    in_messages = {
        (seq, content_id)
        for seq, content_id in in_messages
        if content_id and content_id.isascii() and content_id.isprintable()
    }
    return [
        Finding(
            "error",
            "files",
            f"message {seq} of session {name!r} and the list of references disagree about file {content_id!r}",
            RESTORE,
            (name,),
        )
        for seq, content_id in sorted(recorded ^ in_messages)
    ]
