"""Transactions on whole sessions: create, read, update, list, purge, and record interruptions."""

from __future__ import annotations

from dataclasses import asdict

from mnesis.errors import SessionForkedError
from mnesis.models.session import Interruption, SessionRecord
from mnesis.store.accounting import new_record, with_settings
from mnesis.store.base import SessionPage
from mnesis.store.chain import session_hash
from mnesis.store.codec import DamagedValueError, from_json, to_json
from mnesis.store.damaged import damaged_session
from mnesis.store.postgres.accounts import insert_accounts, insert_session, read_record_heads, save_accounts
from mnesis.store.postgres.changes import note_created, note_deleted, note_update
from mnesis.store.postgres.rows import Parameters, Row, from_text, to_text
from mnesis.store.postgres.search import lock_index
from mnesis.store.postgres.stored_session import StoredSession, intact_session
from mnesis.store.postgres.transaction import Transaction, session_parameters, stored_session
from mnesis.store.session_cursor import format_cursor, parse_cursor
from mnesis.store.settings import settings_json

LAST_USED_COLUMN = 25
"""The place of `last_used` in rows of statements that read sessions."""


def create(transaction: Transaction, session: SessionRecord) -> tuple[SessionRecord, bool]:
    """Insert a session, or load the existing one with its id. Returns whether it was inserted."""
    session = new_record(session)
    inserted = insert_session(transaction, session)
    if inserted is None:
        return load(transaction, session.id).record, False
    transaction.ask_number()
    transaction.read_number()
    session_pk, profile_hash = inserted
    insert_accounts(transaction, session_pk, session, profile_hash)
    note_created(transaction, session_pk, session)
    return session, True


def load(transaction: Transaction, session_id: str) -> StoredSession:
    """Load a session without locking it. Raises `SessionNotFoundError`."""
    return stored_session(session_id, transaction.send("session", session_parameters(session_id)))


def session(transaction: Transaction, session_id: str) -> SessionRecord:
    """Load one session."""
    return load(transaction, session_id).record


def update(transaction: Transaction, session_id: str, changes: dict[str, object]) -> SessionRecord:
    """Change the settings of a session."""
    stored = transaction.lock_session(session_id).read()
    after = with_settings(stored.record, changes)
    profile = settings_json(after)
    profile_hash = session_hash(after.id, after.parent_id, after.created_at, profile)
    transaction.send("update_profile", {"session_pk": stored.pk, "profile": profile, "hash": profile_hash})
    save_accounts(transaction, stored, after, profile_hash=profile_hash)
    note_update(transaction, stored.pk, after)
    return after


def page(transaction: Transaction, limit: int, cursor: str | None, parent_id: str | None) -> SessionPage:
    """Load one page of sessions, ordered by last use, newest first."""
    last_used, session_pk = parse_cursor(cursor)
    parameters: Parameters = {"last_used": last_used, "session_pk": session_pk, "limit": limit + 1}
    if parent_id is not None:
        parameters["parent_id"] = to_text(parent_id)
    rows = transaction.rows("sessions_page" if parent_id is None else "children_page", parameters)
    listed, next_cursor = rows[:limit], None
    if listed and len(rows) > limit:
        next_cursor = format_cursor(listed[-1][LAST_USED_COLUMN], listed[-1][0])
    return SessionPage(tuple(_listed_record(row) for row in listed), next_cursor)


def _listed_record(row: Row) -> SessionRecord:
    """Convert a row of a list. A damaged session is listed as such, because it must not hide the others."""
    try:
        return intact_session(row).record
    except DamagedValueError:
        name, parent_id = from_text(row[1]), None if row[2] is None else from_text(row[2])
        return damaged_session(
            (row[0], name, parent_id, row[3]), "its settings or accounts are damaged; run mnesis doctor"
        )


def record_interruption(transaction: Transaction, session_id: str, interruption: Interruption) -> None:
    """Insert an interruption: a model call that gave no reply."""
    body = to_json(asdict(interruption), f"an interruption of session {session_id!r}")
    lock = transaction.lock_session(session_id)
    heads_answer = transaction.send("record_heads", session_parameters(session_id))
    stored = lock.read()
    heads = read_record_heads(heads_answer, session_id)
    heads.add_interruption(transaction.value("insert_interruption", {"session_pk": stored.pk, "body": body}), body)
    save_accounts(transaction, stored, stored.record, records=heads)
    note_update(transaction, stored.pk, stored.record)


def interruptions(transaction: Transaction, session_id: str) -> list[Interruption]:
    """Load the interruptions of a session, oldest first."""
    parameters = session_parameters(session_id)
    found, rows = transaction.send("session", parameters), transaction.send("interruptions", parameters)
    stored_session(session_id, found)
    return [Interruption(**from_json(body)) for (body,) in rows.rows()]


def forks(transaction: Transaction, session_id: str) -> list[str]:
    """Load the ids of the sessions that share messages or summaries of a session."""
    return load_forks(transaction, load(transaction, session_id).pk)


def load_forks(transaction: Transaction, session_pk: int) -> list[str]:
    """Load the ids of the sessions that share messages or summaries of a session."""
    return [from_text(fork_id) for (fork_id,) in transaction.rows("forks", {"session_pk": session_pk})]


def purge(transaction: Transaction, session_id: str) -> tuple[int, int]:
    """Delete every row of a session.

    Returns the row number and the creation time of the session, by which its deletion is listed.
    """
    stored = transaction.lock_session(session_id).read()
    if fork_ids := load_forks(transaction, stored.pk):
        raise SessionForkedError(session_id, fork_ids)
    lock_index(transaction)
    note_deleted(transaction, stored.pk, stored.record)
    transaction.send("purge_session", {"session_pk": stored.pk})
    return stored.pk, stored.record.created_at
