"""Transactions on sessions as wholes."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict

from mnesis.models.session import Interruption, SessionRecord
from mnesis.store.accounting import changed, opened
from mnesis.store.base import SessionPage
from mnesis.store.codec import to_json
from mnesis.store.session_cursor import format_cursor, parse_cursor
from mnesis.store.sqlite.fulltext import empty
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import (
    accounts,
    interruption_from_row,
    profile,
    save_accounts,
    session_from_row,
    stored_session,
)

PURGE_STEPS = (
    "purge_declare",
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


def create(connection: sqlite3.Connection, session: SessionRecord, where: str) -> tuple[SessionRecord, bool]:
    """Insert the session, or find the one that has its id."""
    session = opened(session)
    inserted = connection.execute(
        sql("insert_session"),
        {
            "id": session.id,
            "parent_id": session.parent_id,
            "created_at": session.created_at,
            "profile": profile(session),
        },
    )
    if inserted.rowcount == 0:
        return stored_session(connection, session.id, where).record, False
    session_pk = inserted.lastrowid or 0
    connection.execute(sql("insert_accounts"), accounts(session_pk, session))
    return session, True


def session(connection: sqlite3.Connection, session_id: str, where: str) -> SessionRecord:
    """One session."""
    return stored_session(connection, session_id, where).record


def update(connection: sqlite3.Connection, session_id: str, changes: dict[str, object], where: str) -> SessionRecord:
    """Change settings."""
    stored = stored_session(connection, session_id, where)
    after = changed(stored.record, changes)
    connection.execute(sql("update_profile"), {"session_pk": stored.pk, "profile": profile(after)})
    save_accounts(connection, stored.pk, after)
    return after


def page(connection: sqlite3.Connection, limit: int, cursor: str | None, parent_id: str | None) -> SessionPage:
    """Sessions by last use."""
    last_used, session_pk = parse_cursor(cursor)
    statement = "sessions_page" if parent_id is None else "children_page"
    parameters = {"last_used": last_used, "session_pk": session_pk, "limit": limit + 1, "parent_id": parent_id}
    found = [session_from_row(row) for row in connection.execute(sql(statement), parameters)]
    shown = found[:limit]
    more = len(found) > limit and shown
    return SessionPage(
        tuple(stored.record for stored in shown), format_cursor(shown[-1].last_used, shown[-1].pk) if more else None
    )


def interrupted(connection: sqlite3.Connection, session_id: str, interruption: Interruption, where: str) -> None:
    """Note a call that gave no answer."""
    stored = stored_session(connection, session_id, where)
    body = to_json(asdict(interruption), f"an interruption of session {session_id!r}")
    connection.execute(sql("insert_interruption"), {"session_pk": stored.pk, "body": body})


def interruptions(connection: sqlite3.Connection, session_id: str, where: str) -> list[Interruption]:
    """Calls that gave no answer."""
    stored = stored_session(connection, session_id, where)
    rows = connection.execute(sql("interruptions"), {"session_pk": stored.pk})
    return [interruption_from_row(body) for (body,) in rows]


def purge(connection: sqlite3.Connection, session_id: str, where: str) -> None:
    """Delete every row of a session, in a transaction that declares itself to the triggers."""
    stored = stored_session(connection, session_id, where)
    if connection.execute(sql("search_indexed"), {"session_pk": stored.pk}).fetchone():
        empty(connection)
    for step in PURGE_STEPS:
        connection.execute(sql(step), {"session_pk": stored.pk})
