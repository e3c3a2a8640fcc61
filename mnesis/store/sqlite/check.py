"""The integrity check, in short reads so that writers do not wait. It changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec

from mnesis.errors import CorruptStoreError
from mnesis.models.finding import Finding
from mnesis.store.codec import EncodedMessage, is_message_intact, summary_digest
from mnesis.store.covers import subtract
from mnesis.store.sqlite.check_reachability import SummaryGraph, reachability_findings
from mnesis.store.sqlite.check_runs import file_findings, run_findings
from mnesis.store.sqlite.check_search import search_findings
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.migrate import migrations
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import load_prunes, load_session

P = ParamSpec("P")
Check = Callable[Concatenate[sqlite3.Connection, P], list[Finding]]

PAGE_MESSAGES = 1_000
"""Messages whose hashes one read checks."""
RESTORE = "restore the database from a backup; messages not listed here are intact"
REBUILD = "export the session, purge it and import it again: the accounts are then recounted from the log"


async def check(database: Database, session_id: str | None) -> list[Finding]:
    """Check the file, its schema and each session, or only one session."""
    sessions = await database.read(_sessions, session_id)
    findings = await _run_check(database, _check_file)
    findings += await _run_check(database, _check_schema)
    for session_pk, name in sessions:
        for part in (_check_log, _check_accounts, _check_summary_hashes, _check_reachability, file_findings):
            findings += await _run_check(database, part, session_pk, name)
        findings += await _check_message_hashes(database, session_pk, name)
        findings += await search_findings(database, session_pk, name)
    if session_id is None:
        findings += await _run_check(database, run_findings)
    return findings


async def _run_check(database: Database, part: Check[P], *args: P.args, **kwargs: P.kwargs) -> list[Finding]:
    try:
        return await database.read(part, *args, **kwargs)
    except CorruptStoreError as error:
        return [Finding("error", "file", str(error), RESTORE)]


def _sessions(connection: sqlite3.Connection, session_id: str | None) -> list[tuple[int, str]]:
    if session_id is not None:
        return [(load_session(connection, session_id).pk, session_id)]
    return connection.execute(sql("check_sessions")).fetchall()


def _check_file(connection: sqlite3.Connection) -> list[Finding]:
    complaints = [text for (text,) in connection.execute("PRAGMA quick_check") if text != "ok"]
    orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    findings = [Finding("error", "file", text, RESTORE) for text in complaints]
    findings += [
        Finding("error", "references", f"row {row} of {table} refers to a missing row of {parent}", RESTORE)
        for table, row, parent, _ in orphans
    ]
    return findings


def _check_schema(connection: sqlite3.Connection) -> list[Finding]:
    actual, expected = _schema_objects(connection), _expected_objects()
    findings = [
        Finding("error", "schema", f"{kind} {name} is missing or was changed", RESTORE)
        for (name, kind), definition in expected.items()
        if actual.get((name, kind)) != definition
    ]
    findings += [
        Finding(
            "warning",
            "schema",
            f"{kind} {name} does not belong to mnesis",
            f"DROP {kind.upper()} {name}, unless it is yours",
        )
        for name, kind in actual
        if kind in ("trigger", "view") and (name, kind) not in expected
    ]
    return findings


def _schema_objects(connection: sqlite3.Connection) -> dict[tuple[str, str], str]:
    return {(name, kind): definition for name, kind, definition in connection.execute(sql("check_schema"))}


def _expected_objects() -> dict[tuple[str, str], str]:
    fresh = sqlite3.connect(":memory:")
    try:
        for migration in migrations():
            fresh.executescript(migration.sql)
        return _schema_objects(fresh)
    finally:
        fresh.close()


def _check_log(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    count, first, last = _fetch_one(connection, "check_log", session_pk)
    last_seq = _fetch_one(connection, "check_accounts", session_pk)[0]
    if (count, first, last) == (last_seq, 1, last_seq):
        return []
    detail = f"session {name!r} has {count} messages from {first} to {last}; its accounts say {last_seq} from 1"
    return [Finding("error", "log", detail, RESTORE, (name,))]


def _check_accounts(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    last_seq, turn_count, system, *stored, context = _fetch_one(connection, "check_accounts", session_pk)
    covers = connection.execute(sql("check_covers"), {"session_pk": session_pk}).fetchall()
    shown_spans = json.dumps(subtract([(1, last_seq)], [(first, last) for first, last, _ in covers]))
    shown_tokens = connection.execute(
        sql("tokens_in_spans"), {"session_pk": session_pk, "spans": shown_spans}
    ).fetchone()
    saved = sum(prune.tokens_saved for prune in load_prunes(connection, session_pk, shown_spans))
    summary_tokens = {row[0]: row[5] for row in connection.execute(sql("check_summaries"), {"session_pk": session_pk})}
    summaries = sum(summary_tokens.get(summary_pk, 0) for _, _, summary_pk in covers)
    counted = [shown_tokens[0] - saved, shown_tokens[1] - saved, summaries]
    findings = []
    if stored != counted:
        detail = f"session {name!r}: the accounts say {stored} tokens (messages, tools, summaries), the log {counted}"
        findings.append(Finding("error", "accounts", detail, REBUILD, (name,)))
    if context < system + stored[0] + stored[2]:
        detail = f"session {name!r}: a context of {context} tokens is smaller than its content"
        findings.append(Finding("error", "accounts", detail, REBUILD, (name,)))
    if _fetch_one(connection, "check_turns", session_pk) != (turn_count, turn_count - 1):
        detail = f"session {name!r} has {turn_count} turns, but another number of snapshots"
        findings.append(Finding("error", "turns", detail, RESTORE, (name,)))
    return findings


def _check_summary_hashes(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    rows = connection.execute(sql("check_summary_hashes"), {"session_pk": session_pk})
    summaries = [(summary_id.decode(errors="replace"), body, digest) for summary_id, body, digest in rows]
    return [
        Finding("error", "content", f"summary {summary_id!r} of session {name!r} is not what was stored", RESTORE)
        for summary_id, body, digest in summaries
        if summary_digest(summary_id, body) != digest
    ]


def _check_reachability(connection: sqlite3.Connection, session_pk: int, name: str) -> list[Finding]:
    parameters = {"session_pk": session_pk}

    def rows(statement: str) -> list[Any]:
        return connection.execute(sql(statement), parameters).fetchall()

    last_seq = _fetch_one(connection, "check_accounts", session_pk)[0]
    graph = SummaryGraph.from_rows(rows("check_summaries"), rows("check_edges"), rows("check_children"))
    return reachability_findings(name, last_seq, graph, rows("check_covers"), rows("check_hidden_spans"))


async def _check_message_hashes(database: Database, session_pk: int, name: str) -> list[Finding]:
    findings: list[Finding] = []
    after_seq: int | None = 0
    while after_seq is not None:
        try:
            damaged, after_seq = await database.read(_hash_page, session_pk, after_seq)
        except CorruptStoreError as error:
            return [*findings, Finding("error", "file", str(error), RESTORE, (name,))]
        findings += [
            Finding(
                "error",
                "content",
                f"message {message_id!r} (seq {seq}) of session {name!r} is not what was stored",
                RESTORE,
                (message_id,),
            )
            for seq, message_id in damaged
        ]
    return findings


def _hash_page(
    connection: sqlite3.Connection, session_pk: int, after_seq: int
) -> tuple[list[tuple[int, str]], int | None]:
    """Return seq and id of each damaged message, and the seq after which the next page starts."""
    parameters = {"session_pk": session_pk, "after_seq": after_seq, "limit": PAGE_MESSAGES}
    rows = connection.execute(sql("check_hashes"), parameters).fetchall()
    damaged = [(seq, message.id) for seq, message in _messages_to_check(rows) if not is_message_intact(message)]
    return damaged, rows[-1][0] if rows else None


def _messages_to_check(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[int, EncodedMessage]]:
    for seq, message_id, role, parts, meta, digest in rows:
        yield (
            seq,
            EncodedMessage(
                message_id.decode(errors="replace"), role.decode(errors="replace"), parts, meta, digest, 0, 0, 0
            ),
        )


def _fetch_one(connection: sqlite3.Connection, statement: str, session_pk: int) -> tuple[Any, ...]:
    row: tuple[Any, ...] = connection.execute(sql(statement), {"session_pk": session_pk}).fetchone()
    return row
