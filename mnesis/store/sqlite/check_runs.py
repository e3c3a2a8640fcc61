"""Looking for damage in map runs and in the references to stored files."""

from __future__ import annotations

import sqlite3

from mnesis.models.finding import Finding
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.runs import miscounted

RESTORE_RUN = "restore the database from a backup, or purge the run and do it again"
RESTORE = "restore the database from a backup; the messages themselves are intact"


def run_findings(connection: sqlite3.Connection, where: str) -> list[Finding]:
    """Runs whose counts are not those of their items."""
    names = [name for (name,) in connection.execute(sql("check_runs"))]
    found = [(name, detail) for name in names if (detail := miscounted(connection, name, where)) is not None]
    return [Finding("error", "runs", f"run {name!r}: {detail}", RESTORE_RUN, (name,)) for name, detail in found]


def file_findings(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    """References to files that differ from what the messages say."""
    parameters = {"session_pk": session_pk}
    kept = set(connection.execute(sql("check_file_refs"), parameters))
    said = set(connection.execute(sql("check_file_parts"), parameters))
    said = {
        (seq, content_id)
        for seq, content_id in said
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
        for seq, content_id in sorted(kept ^ said)
    ]
