"""Transactions on whole sessions: create, read, update, list, purge, and record interruptions."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict

from mnesis.models.session import Interruption, SessionRecord
from mnesis.store.accounting import new_record, with_settings
from mnesis.store.base import SessionPage
from mnesis.store.codec import to_json
from mnesis.store.session_cursor import format_cursor, parse_cursor
from mnesis.store.sqlite.changes import note_created, note_deleted, note_update
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import (
    account_parameters,
    interruption_from_row,
    load_session,
    save_accounts,
    session_from_row,
    settings_json,
)
from mnesis.store.sqlite.unindex import remove_newest

PURGE_STEPS = (
    "purge_declare",
    "purge_changes",
    "purge_children",
    "purge_edges",
    "purge_covers",
    "purge_hidden_spans",
    "purge_prunes",
    "purge_pins",
    "purge_file_refs",
    "purge_turns",
    "purge_compactions",
    "purge_interruptions",
    "purge_summaries",
    "purge_messages",
    "purge_accounts",
    "purge_session",
    "purge_done",
)


def create(connection: sqlite3.Connection, session: SessionRecord) -> tuple[SessionRecord, bool]:
    """Insert a session, or load the existing one with its id. Returns whether it was inserted."""
    session = new_record(session)
    inserted = connection.execute(
        sql("insert_session"),
        {
            "id": session.id,
            "parent_id": session.parent_id,
            "created_at": session.created_at,
            "profile": settings_json(session),
        },
    )
    if inserted.rowcount == 0:
        return load_session(connection, session.id).record, False
    session_pk = inserted.lastrowid or 0
    connection.execute(sql("insert_accounts"), account_parameters(session_pk, session))
    note_created(connection, session_pk, session)
    return session, True


def session(connection: sqlite3.Connection, session_id: str) -> SessionRecord:
    """Load one session."""
    return load_session(connection, session_id).record


def update(connection: sqlite3.Connection, session_id: str, changes: dict[str, object]) -> SessionRecord:
    """Change the settings of a session."""
    stored = load_session(connection, session_id)
    after = with_settings(stored.record, changes)
    connection.execute(sql("update_profile"), {"session_pk": stored.pk, "profile": settings_json(after)})
    save_accounts(connection, stored.pk, after)
    note_update(connection, stored.pk, after)
    return after


def page(connection: sqlite3.Connection, limit: int, cursor: str | None, parent_id: str | None) -> SessionPage:
    """Load one page of sessions, ordered by last use, newest first."""
    last_used, session_pk = parse_cursor(cursor)
    statement = "sessions_page" if parent_id is None else "children_page"
    parameters = {"last_used": last_used, "session_pk": session_pk, "limit": limit + 1, "parent_id": parent_id}
    sessions = [session_from_row(row) for row in connection.execute(sql(statement), parameters)]
    page_sessions = sessions[:limit]
    next_cursor = None
    if page_sessions and len(sessions) > limit:
        next_cursor = format_cursor(page_sessions[-1].last_used, page_sessions[-1].pk)
    return SessionPage(tuple(stored.record for stored in page_sessions), next_cursor)


def record_interruption(connection: sqlite3.Connection, session_id: str, interruption: Interruption) -> None:
    """Insert an interruption: a model call that gave no reply."""
    stored = load_session(connection, session_id)
    body = to_json(asdict(interruption), f"an interruption of session {session_id!r}")
    connection.execute(sql("insert_interruption"), {"session_pk": stored.pk, "body": body})
    note_update(connection, stored.pk, stored.record)


def interruptions(connection: sqlite3.Connection, session_id: str) -> list[Interruption]:
    """Load the interruptions of a session, oldest first."""
    stored = load_session(connection, session_id)
    rows = connection.execute(sql("interruptions"), {"session_pk": stored.pk})
    return [interruption_from_row(body) for (body,) in rows]


def purge(connection: sqlite3.Connection, session_id: str) -> tuple[int, int]:
    """Delete every row of a session, after declaring the purge to the triggers.

    Returns the row number and the creation time of the session, by which its deletion is listed.
    """
    stored = load_session(connection, session_id)
    if connection.execute(sql("search_indexed"), {"session_pk": stored.pk}).fetchone():
        remove_newest(connection, stored.pk, session_id)
    note_deleted(connection, stored.pk, stored.record)
    for step in PURGE_STEPS:
        connection.execute(sql(step), {"session_pk": stored.pk})
    return stored.pk, stored.record.created_at
