"""The translation of PostgreSQL's errors into typed store errors, by SQLSTATE (Appendix A of the PostgreSQL manual)."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors

from mnesis.errors import (
    ConfigurationError,
    CorruptStoreError,
    InvalidMessageError,
    MnesisError,
    MnesisStoreError,
    ReadOnlyStoreError,
    StoreAccessDeniedError,
    StoreBusyError,
    StoreFullError,
    StoreUnavailableError,
)
from mnesis.store.codec import DamagedValueError

LOST_CONNECTION_CLASSES = ("08", "57P")
"""Connection exceptions, and shutdowns of the server or of this connection."""
REPEATABLE_STATES = ("40001", "40P01", "53300", "53400", "55006")
"""Serialization failure, deadlock, too many connections, configuration limit, object in use. Nothing was written."""


def is_connection_lost(error: Exception) -> bool:
    """Return whether an error means that the connection is gone, or could not be made for a reason that may pass."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    if error.sqlstate is not None:
        return error.sqlstate.startswith(LOST_CONNECTION_CLASSES)
    # Failed logins have no SQLSTATE in libpq: https://github.com/psycopg/psycopg/issues/846
    return not is_login_refused(error)


def is_repeatable(error: Exception) -> bool:
    """Return whether the same transaction may succeed on another attempt, and certainly wrote nothing if it had an answer."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state in REPEATABLE_STATES or is_connection_lost(error) or _is_full_of_connections(error)


def is_login_refused(error: Exception) -> bool:
    """Return whether the server answered that this login is not allowed: another attempt would fail too."""
    return _login_remedy(str(error)) is not None


def translate_error(error: Exception, location: str) -> MnesisError:
    """Return the typed error for an error of psycopg or of the codec. `location` is the URL without its password."""
    if isinstance(error, DamagedValueError):
        return error.at(location)
    if isinstance(error, UnicodeEncodeError):
        return InvalidMessageError(f"names and ids must be valid Unicode, without lone surrogates: {error.object!r}")
    if not isinstance(error, psycopg.Error):
        return MnesisStoreError(f"{location}: {error}")
    remedy = _login_remedy(str(error))
    if remedy is not None:
        return StoreAccessDeniedError(f"{location}: the server refuses the login; {remedy}", db_path=location)
    return _translate_state(error, location)


def _translate_state(error: psycopg.Error, location: str) -> MnesisError:
    state = error.sqlstate or ""
    reason = (str(error).splitlines() or [""])[0]
    if state == "3D000" or re.search(r'database "[^"]*" does not exist', reason):
        return ConfigurationError(f"{location}: the server has no such database; create it, or correct the URL")
    is_malformed = (
        isinstance(error, psycopg.ProgrammingError) or "for connection option" in reason or "invalid port" in reason
    )
    if is_malformed and not state:
        return ConfigurationError(f"{location} is not a usable PostgreSQL URL: {reason}")
    if state in ("55P03", "57014", *REPEATABLE_STATES) or _is_full_of_connections(error):
        return StoreBusyError(
            f"{location} was busy for longer than the connection timeout ({reason}). Nothing was written; it is safe to try"
            " again. Look for a long transaction, or raise StoreConfig.connection_timeout",
            db_path=location,
        )
    if state.startswith("53"):
        return StoreFullError(
            f"the server of {location} has no space or memory left ({reason}). This call stored nothing; free some space"
            " and try again",
            db_path=location,
        )
    if state == "25006":
        return ReadOnlyStoreError(
            f"{location} accepts no writes: it is a standby or its transactions are read-only; use the URL of the primary"
            " server, with target_session_attrs=read-write",
            db_path=location,
        )
    if state in ("42501", "28000", "28P01"):
        return StoreAccessDeniedError(
            f"{location}: the role lacks a right ({reason}); the owner of the schema can run SELECT"
            " <schema>.grant_access('<role>')",
            db_path=location,
        )
    if isinstance(error, errors.DataError) or state == "54000":
        return InvalidMessageError(
            f"a value is too large for {location}: a text must be below 1 GB and a number must fit 64 bits ({reason})"
        )
    if state.startswith("XX") or state in ("42P01", "42703", "3F000"):
        return CorruptStoreError(
            f"{location} is damaged, or its schema is incomplete ({reason}); run `mnesis doctor` on it and restore it from a"
            " backup",
            db_path=location,
        )
    if is_connection_lost(error):
        return unavailable_error(location, reason)
    return MnesisStoreError(f"{location}: {reason}")


def unavailable_error(location: str, reason: str, *, is_outcome_unknown: bool = False) -> StoreUnavailableError:
    """Return the error for a server that cannot be reached in time."""
    outcome = (
        "The transaction may have been committed; repeat the call, which stores nothing twice"
        if is_outcome_unknown
        else "Nothing was written; check that the server runs and accepts connections, and try again"
    )
    return StoreUnavailableError(
        f"{location} cannot be reached ({reason}). {outcome}", db_path=location, is_outcome_unknown=is_outcome_unknown
    )


def _login_remedy(text: str) -> str | None:
    if "password authentication failed" in text or "no password supplied" in text:
        return "check the user and the password in the URL, in PGPASSWORD or in ~/.pgpass"
    if re.search(r'role "[^"]*" does not exist', text):
        return "create the role, or correct the user in the URL"
    if "no pg_hba.conf entry" in text or "pg_hba.conf rejects" in text:
        return "add the user, database and address to the server's pg_hba.conf, or use sslmode=require"
    if "permission denied for database" in text or "is not permitted to log in" in text:
        return "grant CONNECT on the database and LOGIN to the role"
    return None


def _is_full_of_connections(error: Exception) -> bool:
    text = str(error)
    return "too many clients already" in text or "too many connections" in text or "remaining connection slots" in text
