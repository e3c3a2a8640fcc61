"""The integrity check of a session's settings, accounts, turns and other records against their hashes."""

from __future__ import annotations

import sqlite3

from mnesis.models.finding import Finding
from mnesis.store.chain import EMPTY_HEAD, encode_turn, extend_chain, is_seal
from mnesis.store.codec import DamagedValueError
from mnesis.store.record_heads import RecordHeads
from mnesis.store.sqlite.accounts import StoredSession, key_of, session_from_row
from mnesis.store.sqlite.fixes import MIGRATE, SALVAGE, SEAL, UNFINISHED_IMPORT
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.records import compute_record_heads


def settings_findings(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    """Find damaged settings and accounts, and a seal that does not belong to the key of the connection."""
    row = connection.execute(sql("check_session"), {"session_pk": session_pk}).fetchone()
    if row is None:
        return [_error("accounts", f"session {name!r} has no accounts", name)]
    try:
        stored = session_from_row(row)
    except DamagedValueError:
        return [_error("settings", f"the settings of session {name!r} are not what was stored", name)]
    if stored.hash is None:
        return [Finding("warning", "accounts", f"session {name!r} has no hashes yet", MIGRATE, (name,))]
    if stored.hash != stored.computed_hash():
        return [_error("accounts", f"the accounts of session {name!r} are not what was stored", name)]
    if stored.record.unfinished is not None:
        detail = f"session {name!r} is incomplete: its {stored.record.unfinished} was not finished, or is still running"
        return [Finding("warning", "unfinished", detail, UNFINISHED_IMPORT, (name,))]
    return _seal_findings(key_of(connection), stored, name)


def _seal_findings(key: bytes | None, stored: StoredSession, name: str) -> list[Finding]:
    if key is None or is_seal(key, stored.hash or b"", stored.seal):
        return []
    if stored.seal is None:
        return [Finding("error", "seal", f"session {name!r} is not sealed with a key", SEAL, (name,))]
    detail = f"session {name!r} is sealed with another key, or was changed by someone without the key"
    return [Finding("error", "seal", detail, SEAL, (name,))]


def turn_findings(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    """Compare the snapshots of turns with the head of their chain."""
    expected = _account(connection, session_pk, "turn_head")
    head = EMPTY_HEAD
    for row in connection.execute(sql("check_turn_rows"), {"session_pk": session_pk}):
        head = extend_chain(head, encode_turn(row))
    if expected is None or head == expected:
        return []
    return [_error("turns", f"the snapshots of turns of session {name!r} are not what was stored", name)]


def record_findings(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    """Compare summaries, sweeps, interruptions, hidden spans, prunes, covers and pins with their hashes."""
    expected = _account(connection, session_pk, "record_head")
    if expected is None:
        return []
    row = connection.execute(sql("record_heads"), (session_pk,)).fetchone()
    if row is None:
        return [_error("records", f"the hashes of the records of session {name!r} are missing", name)]
    stored, computed = RecordHeads(*row), compute_record_heads(connection, session_pk)
    kinds = [kind for kind in RecordHeads.__slots__ if getattr(stored, kind) != getattr(computed, kind)]
    findings = [
        _error("records", f"the {kind.replace('_', ' ')} of session {name!r} are not what was stored", name)
        for kind in kinds
    ]
    if not findings and stored.combine() != expected:
        findings.append(_error("records", f"the hashes of the records of session {name!r} were changed", name))
    return findings


def _account(connection: sqlite3.Connection, session_pk: int, column: str) -> bytes | None:
    row = connection.execute(sql("check_account_heads"), {"session_pk": session_pk}).fetchone()
    return None if row is None else {"turn_head": row[0], "record_head": row[1]}[column]


def _error(check: str, detail: str, *ids: str) -> Finding:
    return Finding("error", check, detail, SALVAGE, ids)
