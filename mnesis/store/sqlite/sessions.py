"""Transactions on whole sessions: create, read, update, list, purge, and record interruptions."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict

from mnesis.errors import SessionForkedError
from mnesis.models.session import Interruption, SessionRecord
from mnesis.redaction import get_logger
from mnesis.store.accounting import new_record, with_settings
from mnesis.store.base import SessionPage
from mnesis.store.codec import DamagedValueError, to_json
from mnesis.store.damaged import damaged_session
from mnesis.store.session_cursor import format_cursor, parse_cursor
from mnesis.store.settings import settings_json
from mnesis.store.sqlite.accounts import (
    SessionChange,
    insert_session_accounts,
    intact_session_from_row,
    load_session,
    load_session_for_update,
    profile_hash,
    save_session,
)
from mnesis.store.sqlite.changes import note_created, note_deleted, note_update
from mnesis.store.sqlite.lenient import lenient_text
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.records import load_record_heads, save_record_heads
from mnesis.store.sqlite.refuse_damage import refuse_damaged_records
from mnesis.store.sqlite.rows import Row, interruption_from_row
from mnesis.store.sqlite.unindex import remove_newest

logger = get_logger(__name__)

PURGE_STEPS = (
    "purge_declare",
    "purge_changes",
    "purge_children",
    "purge_edges",
    "purge_inherited_summaries",
    "purge_segments",
    "purge_covers",
    "purge_hidden_spans",
    "purge_prunes",
    "purge_pins",
    "purge_search_vectors",
    "purge_file_refs",
    "purge_turns",
    "purge_compactions",
    "purge_interruptions",
    "purge_summaries",
    "purge_messages",
    "purge_record_heads",
    "purge_turn_leases",
    "purge_accounts",
    "purge_session",
    "purge_done",
)


def create(connection: sqlite3.Connection, session: SessionRecord) -> tuple[SessionRecord, bool]:
    """Insert a session, or load the existing one with its id. Returns whether it was inserted."""
    session = new_record(session)
    profile = settings_json(session)
    names = {"id": session.id, "parent_id": session.parent_id, "created_at": session.created_at}
    hash_of_profile = profile_hash(session, profile)
    inserted = connection.execute(sql("insert_session"), {**names, "profile": profile, "hash": hash_of_profile})
    if inserted.rowcount == 0:
        return load_session(connection, session.id).record, False
    session_pk = inserted.lastrowid or 0
    change_pk = note_created(connection, session_pk, session)
    insert_session_accounts(connection, session_pk, session, change_pk, hash_of_profile)
    return session, True


def session(connection: sqlite3.Connection, session_id: str) -> SessionRecord:
    """Load one session."""
    return load_session(connection, session_id).record


def update(connection: sqlite3.Connection, session_id: str, changes: dict[str, object]) -> SessionRecord:
    """Change the settings of a session."""
    stored = load_session_for_update(connection, session_id)
    after = with_settings(stored.record, changes)
    profile = settings_json(after)
    change = SessionChange(profile_hash=profile_hash(after, profile))
    parameters = {"session_pk": stored.pk, "profile": profile, "hash": change.profile_hash}
    connection.execute(sql("update_profile"), parameters)
    change.change_pk = note_update(connection, stored.pk, after)
    save_session(connection, stored, after, change)
    return after


def page(connection: sqlite3.Connection, limit: int, cursor: str | None, parent_id: str | None) -> SessionPage:
    """Load one page of sessions, ordered by last use, newest first."""
    last_used, session_pk = parse_cursor(cursor)
    statement = "sessions_page" if parent_id is None else "children_page"
    parameters = {"last_used": last_used, "session_pk": session_pk, "limit": limit + 1, "parent_id": parent_id}
    with lenient_text(connection):
        rows = connection.execute(sql(statement), parameters).fetchall()
        is_last = len(rows) <= limit
        without_accounts = connection.execute(sql("sessions_without_accounts")).fetchall() if is_last else []
    if is_last:
        _warn_about_nameless(connection)
    records = [_listed_record(row) for row in rows[:limit]]
    if parent_id is None:
        records += [damaged_session(row, "its accounts are missing; run mnesis doctor") for row in without_accounts]
    next_cursor = format_cursor(rows[limit - 1][6], rows[limit - 1][0]) if limit and not is_last else None
    return SessionPage(tuple(records), next_cursor)


def _warn_about_nameless(connection: sqlite3.Connection) -> None:
    """Log how many sessions cannot be listed, because the row with their name is missing."""
    count = connection.execute(sql("accounts_without_sessions")).fetchone()[0]
    if count:
        logger.warning("%d sessions cannot be listed: their names are missing; run mnesis doctor", count)


def _listed_record(row: Row) -> SessionRecord:
    """Convert a row of a list. A damaged session is listed as such, because it must not hide the others."""
    try:
        return intact_session_from_row(row).record
    except (DamagedValueError, UnicodeEncodeError, TypeError):
        return damaged_session(row, "its settings or accounts are damaged; run mnesis doctor")


def record_interruption(connection: sqlite3.Connection, session_id: str, interruption: Interruption) -> None:
    """Insert an interruption: a model call that gave no reply."""
    stored = load_session_for_update(connection, session_id)
    body = to_json(asdict(interruption), f"an interruption of session {session_id!r}")
    heads = load_record_heads(connection, stored.pk, session_id)
    inserted = connection.execute(sql("insert_interruption"), {"session_pk": stored.pk, "body": body})
    heads.add_interruption(inserted.lastrowid or 0, body)
    change = SessionChange(record_head=save_record_heads(connection, stored.pk, heads))
    change.change_pk = note_update(connection, stored.pk, stored.record)
    save_session(connection, stored, stored.record, change)


def interruptions(connection: sqlite3.Connection, session_id: str) -> list[Interruption]:
    """Load the interruptions of a session, oldest first."""
    stored = load_session(connection, session_id)
    refuse_damaged_records(connection, stored, "interruptions")
    rows = connection.execute(sql("interruptions"), {"session_pk": stored.pk})
    return [interruption_from_row(body) for (body,) in rows]


def forks(connection: sqlite3.Connection, session_id: str) -> list[str]:
    """Load the ids of the sessions that share messages or summaries of a session."""
    return load_forks(connection, load_session(connection, session_id).pk)


def load_forks(connection: sqlite3.Connection, session_pk: int) -> list[str]:
    """Load the ids of the sessions that share messages or summaries of a session."""
    return [fork_id for (fork_id,) in connection.execute(sql("forks"), {"session_pk": session_pk})]


def purge(connection: sqlite3.Connection, session_id: str) -> tuple[int, int]:
    """Delete every row of a session, after declaring the purge to the triggers.

    Returns the row number and the creation time of the session, by which its deletion is listed.
    """
    stored = load_session(connection, session_id)
    if fork_ids := load_forks(connection, stored.pk):
        raise SessionForkedError(session_id, fork_ids)
    if connection.execute(sql("search_indexed"), {"session_pk": stored.pk}).fetchone():
        remove_newest(connection, stored.pk, session_id)
    note_deleted(connection, stored.pk, stored.record)
    for step in PURGE_STEPS:
        connection.execute(sql(step), {"session_pk": stored.pk})
    return stored.pk, stored.record.created_at
