"""The integrity check, in short reads so that writers do not wait. It changes nothing, and damage does not stop it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from typing import Any, Concatenate, ParamSpec

from mnesis.errors import MnesisStoreError, SessionNotFoundError
from mnesis.models.finding import Finding, LogHead, Verification
from mnesis.store.base import OnChecked
from mnesis.store.codec import summary_digest
from mnesis.store.covers import subtract
from mnesis.store.sqlite.check_changes import change_findings
from mnesis.store.sqlite.check_log import head_findings, log_findings, read_log
from mnesis.store.sqlite.check_reachability import SummaryGraph, reachability_findings
from mnesis.store.sqlite.check_records import record_findings, settings_findings, turn_findings
from mnesis.store.sqlite.check_runs import file_findings, run_findings
from mnesis.store.sqlite.check_search import index_findings, search_findings
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.expected_schema import expected_objects, schema_objects
from mnesis.store.sqlite.fixes import FIND_BACKUP, REINDEX, SALVAGE, SALVAGE_SCHEMA
from mnesis.store.sqlite.lenient import read_leniently
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import load_prunes

P = ParamSpec("P")
Check = Callable[Concatenate[sqlite3.Connection, P], list[Finding]]
Heads = Mapping[str, Collection[bytes]]


async def verify(
    database: Database, session_id: str | None, earlier_heads: Heads, on_progress: OnChecked | None = None
) -> Verification:
    """Check the file, its schema and each session, or only one session.

    `earlier_heads` are earlier heads of logs by session.
    """
    sessions = await read_leniently(database, _sessions)
    if session_id is not None:
        sessions = [(pk, name) for pk, name in sessions if name == session_id]
        if not sessions:
            raise SessionNotFoundError(session_id, location=str(database.path))
    findings = await _run_check(database, _check_file)
    findings += await _run_check(database, _check_schema)
    heads: list[LogHead] = []
    for number, (session_pk, name) in enumerate(sessions, 1):
        head, session_findings = await _check_session(database, session_pk, name, earlier_heads.get(name, ()))
        findings += session_findings
        heads += [head] if head is not None else []
        if on_progress is not None:
            on_progress(number, len(sessions))
    if session_id is None:
        findings += await _run_check(database, change_findings)
        findings += await _run_check(database, run_findings)
        findings += await _run_check(database, index_findings)
    missing = earlier_heads.keys() - {name for _, name in sessions}
    findings += [
        Finding(
            "error", "head", f"session {name!r} is not in the database: it was purged or removed", FIND_BACKUP, (name,)
        )
        for name in sorted(missing)
    ]
    return Verification(tuple(heads), tuple(findings))


async def _check_session(
    database: Database, session_pk: int, name: str, earlier_heads: Collection[bytes]
) -> tuple[LogHead | None, list[Finding]]:
    """Check one session. Returns the head of its log, unless it cannot be read, and the findings."""
    findings: list[Finding] = []
    for part in (
        settings_findings,
        _check_accounts,
        turn_findings,
        _check_summary_hashes,
        _check_reachability,
        record_findings,
        file_findings,
    ):
        findings += await _run_check(database, part, session_pk, name)
    try:
        log = await read_log(database, session_pk, name, earlier_heads)
        recorded = await read_leniently(database, _log_accounts, session_pk)
        findings += [*log_findings(log, *recorded), *head_findings(log)]
        head = LogHead(name, log.message_count, log.head.hex())
    except Exception as error:  # because damaged values can have any type and size
        findings.append(_unreadable(f"the log of session {name!r}", error))
        return None, findings
    findings += await _run_check(database, search_findings, session_pk, name, log)
    return head, findings


async def _run_check(database: Database, part: Check[P], *args: P.args, **kwargs: P.kwargs) -> list[Finding]:
    try:
        return await read_leniently(database, part, *args, **kwargs)
    except Exception as error:  # because damaged values can have any type and size
        return [_unreadable(f"the part {part.__name__.strip('_').replace('_', ' ')!r} of the check", error)]


def _unreadable(subject: str, error: Exception) -> Finding:
    reason = str(error) if isinstance(error, MnesisStoreError) else f"{type(error).__name__}: {error}"
    return Finding("error", "file", f"{subject} cannot be read: {reason}", SALVAGE)


def _sessions(connection: sqlite3.Connection) -> list[tuple[int, str]]:
    return connection.execute(sql("check_sessions")).fetchall()


def _log_accounts(connection: sqlite3.Connection, session_pk: int) -> tuple[int | None, bytes | None, int | None]:
    row: tuple[int, bytes | None, int] | None = connection.execute(
        sql("check_log_accounts"), {"session_pk": session_pk}
    ).fetchone()
    return row or (None, None, None)


def _check_file(connection: sqlite3.Connection) -> list[Finding]:
    complaints = [text for (text,) in connection.execute("PRAGMA quick_check") if text != "ok"]
    orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    findings = [Finding("error", "file", text, SALVAGE) for text in complaints]
    findings += [
        Finding("error", "references", f"row {row} of {table} refers to a missing row of {parent}", SALVAGE)
        for table, row, parent, _ in orphans
    ]
    return findings


def _check_schema(connection: sqlite3.Connection) -> list[Finding]:
    actual, expected = schema_objects(connection), expected_objects()
    findings = [
        Finding(
            "error", "schema", f"{kind} {name} is missing or was changed", _schema_fix(name, (name, kind) in actual)
        )
        for (name, kind), definition in expected.items()
        if actual.get((name, kind)) != definition
    ]
    findings += [
        Finding(
            "warning",
            "schema",
            f"{kind} {name} does not belong to mnesis",
            SALVAGE_SCHEMA,
        )
        for name, kind in actual
        if kind in ("trigger", "view") and (name, kind) not in expected
    ]
    return findings


def _schema_fix(name: str, is_present: bool) -> str:
    """Return the remedy for an object. SQLite cannot drop an object whose definition it cannot read."""
    return REINDEX if name.startswith("search_") and not is_present else SALVAGE


def _check_accounts(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    row = connection.execute(sql("check_accounts"), {"session_pk": session_pk}).fetchone()
    if row is None:  # a separate finding
        return []
    last_seq, turn_count, system, *stored, context = row
    covers = connection.execute(sql("check_covers"), {"session_pk": session_pk}).fetchall()
    shown_spans = json.dumps(subtract([(1, last_seq)], [(first, last) for first, last, _ in covers]))
    parameters = {"session_pk": session_pk, "spans": shown_spans}
    statements = ("tokens_in_spans", "inherited_tokens_in_spans")
    counts = [connection.execute(sql(statement), parameters).fetchone() for statement in statements]
    shown_tokens = [sum(tokens) for tokens in zip(*counts, strict=True)]
    saved = sum(prune.tokens_saved for prune in load_prunes(connection, session_pk, shown_spans))
    summary_tokens = {row[0]: row[5] for row in connection.execute(sql("check_summaries"), {"session_pk": session_pk})}
    summaries = sum(summary_tokens.get(summary_pk, 0) for _, _, summary_pk in covers)
    counted = [shown_tokens[0] - saved, shown_tokens[1] - saved, summaries]
    findings = []
    if stored != counted:
        detail = f"session {name!r}: the accounts say {stored} tokens (messages, tools, summaries), the log {counted}"
        findings.append(Finding("error", "accounts", detail, SALVAGE, (name,)))
    if context < system + stored[0] + stored[2]:
        detail = f"session {name!r}: a context of {context} tokens is smaller than its content"
        findings.append(Finding("error", "accounts", detail, SALVAGE, (name,)))
    if _fetch_one(connection, "check_turns", session_pk) != (turn_count, turn_count - 1):
        detail = f"session {name!r} has {turn_count} turns, but another number of snapshots"
        findings.append(Finding("error", "turns", detail, SALVAGE, (name,)))
    return findings


def _check_summary_hashes(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    summaries = connection.execute(sql("check_summary_hashes"), {"session_pk": session_pk})
    return [
        Finding("error", "content", f"summary {summary_id!r} of session {name!r} is not what was stored", SALVAGE)
        for summary_id, body, digest in summaries
        if summary_digest(summary_id, body) != digest
    ]


def _check_reachability(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    parameters = {"session_pk": session_pk}

    def rows(statement: str) -> list[Any]:
        return connection.execute(sql(statement), parameters).fetchall()

    last_seq = _fetch_one(connection, "check_last_seq", session_pk)[0]
    edges = connection.execute(sql("check_edges"), parameters)
    graph = SummaryGraph.from_rows(rows("check_summaries"), edges, rows("check_children"))
    return reachability_findings(name, last_seq, graph, rows("check_covers"), rows("check_hidden_spans"))


def _fetch_one(connection: sqlite3.Connection, statement: str, session_pk: int) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(sql(statement), {"session_pk": session_pk}).fetchone()
    return row
