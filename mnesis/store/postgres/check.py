"""The integrity check, in short reads. It changes nothing. PostgreSQL checks its own files (`initdb --data-checksums`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mnesis.errors import SessionNotFoundError
from mnesis.models.finding import Finding, LogHead, Verification
from mnesis.store.accounting import file_ids
from mnesis.store.base import OnChecked
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import is_message_intact, summary_digest
from mnesis.store.postgres.check_changes import (
    damaged_change_findings,
    run_change_findings,
    session_change_findings,
)
from mnesis.store.postgres.check_records import record_findings, run_findings, settings_findings
from mnesis.store.postgres.fixes import REBUILD, RESTORE, RESTORE_RUN
from mnesis.store.postgres.rows import Row, encoded_from_row, from_text, message_from_row
from mnesis.store.postgres.segments import load_segments
from mnesis.store.postgres.transaction import Transaction
from mnesis.store.sqlite.check_reachability import SummaryGraph, reachability_findings

if TYPE_CHECKING:
    from mnesis.store.postgres.database import PostgresDatabase

PAGE_MESSAGES = 1_000
"""The number of messages whose hashes one read checks."""
Check = Callable[[Transaction, int, str], list[Finding]]


async def verify(
    database: PostgresDatabase,
    session_id: str | None,
    earlier_heads: Mapping[str, Collection[bytes]],
    on_progress: OnChecked | None = None,
) -> Verification:
    """Check the schema and each session, or only one session, and compute the head of each log."""
    sessions = await database.read(_sessions, session_id)
    findings = await database.read(_check_schema)
    findings += await database.read(_check_references)
    heads: list[LogHead] = []
    for number, (session_pk, name) in enumerate(sessions, 1):
        for part in (
            *(settings_findings, _check_log, _check_accounts, _check_summaries),
            *(record_findings, session_change_findings),
        ):
            findings += await database.read(part, session_pk, name)
        head, log_findings = await _check_messages(database, session_pk, name, earlier_heads.get(name, ()))
        heads.append(head)
        findings += log_findings
        if on_progress is not None:
            on_progress(number, len(sessions))
    known_ids = {name for _, name in sessions}
    findings += [
        Finding("error", "head", f"session {name!r} is not in the store: it was purged or removed", RESTORE, (name,))
        for name in sorted(earlier_heads.keys() - known_ids)
    ]
    if session_id is None:
        findings += await database.read(_check_runs)
        findings += await database.read(run_findings)
        findings += await database.read(damaged_change_findings)
        findings += await database.read(run_change_findings)
    return Verification(tuple(heads), tuple(findings))


def _sessions(transaction: Transaction, session_id: str | None) -> list[tuple[int, str]]:
    sessions = [(pk, from_text(name)) for pk, name in transaction.rows("check_sessions")]
    if session_id is None:
        return sessions
    found = [(pk, name) for pk, name in sessions if name == session_id]
    if not found:
        raise SessionNotFoundError(session_id, location=transaction.location)
    return found


def _check_schema(transaction: Transaction) -> list[Finding]:
    fix = "ALTER TABLE <schema>.<table> ENABLE TRIGGER ALL, as the owner; then compare the log with a backup"
    return [
        Finding("error", "schema", f"trigger {trigger} of table {table} is disabled", fix)
        for table, trigger in transaction.rows("check_triggers")
    ]


def _check_references(transaction: Transaction) -> list[Finding]:
    """Find rows whose session or run is missing. Foreign keys prevent such rows, unless they were disabled."""
    return [
        Finding("error", "references", f"{count} rows of {table} belong to a missing {kind}", RESTORE)
        for table, kind, count in transaction.rows("check_orphans")
        if count
    ]


def _check_log(transaction: Transaction, session_pk: int, name: str) -> list[Finding]:
    count, first, last = _row(transaction, "check_log", session_pk)
    last_seq = _row(transaction, "check_accounts", session_pk)[0]
    if (count, first, last) == (last_seq, 1, last_seq):
        return []
    detail = f"session {name!r} has {count} messages from {first} to {last}; its accounts say {last_seq} from 1"
    return [Finding("error", "log", detail, RESTORE, (name,))]


def _check_accounts(transaction: Transaction, session_pk: int, name: str) -> list[Finding]:
    _, turn_count, system, *stored, context, _ = _row(transaction, "check_accounts", session_pk)
    tokens, tool_tokens, saved, summary_tokens = _row(transaction, "check_visible_tokens", session_pk)
    counted = [tokens - saved, tool_tokens - saved, summary_tokens]
    findings: list[Finding] = []
    if counted != stored:
        detail = f"session {name!r}: the accounts say {stored} tokens (messages, tools, summaries), the log {counted}"
        findings.append(Finding("error", "accounts", detail, REBUILD, (name,)))
    if context < system + stored[0] + stored[2]:
        detail = f"session {name!r}: a context of {context} tokens is smaller than its content"
        findings.append(Finding("error", "accounts", detail, REBUILD, (name,)))
    if _row(transaction, "check_turns", session_pk) != (turn_count, turn_count - 1):
        detail = f"session {name!r} has {turn_count} turns, but another number of snapshots"
        findings.append(Finding("error", "turns", detail, RESTORE, (name,)))
    return findings


def _check_summaries(transaction: Transaction, session_pk: int, name: str) -> list[Finding]:
    parameters = {"session_pk": session_pk}
    names = ("check_summaries", "check_edges", "check_children", "check_covers", "check_hidden_spans")
    answers = [transaction.send(each, parameters) for each in names]
    last_seq = _row(transaction, "check_accounts", session_pk)[0]
    rows, covered_spans, children, covers, hidden = [answer.rows() for answer in answers]
    findings = [
        Finding(
            "error", "content", f"summary {from_text(row[1])!r} of session {name!r} is not what was stored", RESTORE
        )
        for row in rows
        if summary_digest(from_text(row[1]), row[6]) != row[7]
    ]
    graph = SummaryGraph.from_rows(
        [(pk, from_text(key), *counts) for pk, key, *counts, _, _ in rows],
        (),
        children,
    )
    for summary_pk, first, last in covered_spans:
        graph.messages[summary_pk].append((first, last))
    return findings + reachability_findings(name, last_seq, graph, covers, hidden)


@dataclass
class _LogState:
    """The progress of a pass over the messages of a session."""

    owner_id: str
    """The session that stores the next messages: this one, or another whose messages a fork shares."""
    heads: list[bytes]
    """The head after the last page, preceded by the earlier heads that were found on the way."""
    earlier_heads: Collection[bytes]
    last_seq: int = 0
    damaged: list[tuple[int, str]] = field(default_factory=list)
    references: set[tuple[int, str]] = field(default_factory=set)

    def add(self, row: Row) -> None:
        """Add the next message."""
        message = encoded_from_row(row)
        is_intact = is_message_intact(self.owner_id, row[0], message)
        head = extend_chain(self.heads[-1], message.stored_hash)
        if self.heads[-1] not in self.earlier_heads:
            self.heads.pop()
        self.heads.append(head)
        self.last_seq = row[0]
        if not is_intact:
            self.damaged.append((row[0], message.id))
        elif b'"content_id"' in message.parts:
            decoded = message_from_row(self.owner_id, row)
            self.references.update((row[0], content_id) for content_id in file_ids(decoded))


async def _check_messages(
    database: PostgresDatabase, session_pk: int, name: str, earlier_heads: Collection[bytes]
) -> tuple[LogHead, list[Finding]]:
    """Check each message and all in order, and that the references to files are those in the messages."""
    recorded = await database.read(_file_references, session_pk)
    segments = await database.read(load_segments, session_pk)
    parts = [*((each.source_pk, each.last_seq, owner_id) for each, owner_id in segments), (session_pk, None, name)]
    state = _LogState(name, [first_log_head(parts[0][2])], earlier_heads)
    for source_pk, until_seq, owner_id in parts:
        state.owner_id = owner_id
        state.references.clear()  # the messages of other sessions are checked with those sessions
        while rows := await database.read(_message_page, source_pk, state.last_seq, until_seq):
            for row in rows:
                state.add(row)
    findings = [
        Finding(
            "error",
            "content",
            f"message {message_id!r} (seq {seq}) of session {name!r} is not what was stored",
            RESTORE,
            (message_id,),
        )
        for seq, message_id in state.damaged
    ]
    log_head = (await database.read(_row, "check_accounts", session_pk))[7]
    if not findings and state.heads[-1] != log_head:
        detail = f"the messages of session {name!r} do not lead to its head: some were changed, removed or reordered"
        findings.append(Finding("error", "log", detail, RESTORE, (name,)))
    findings += [
        Finding(
            "error", "head", f"session {name!r} does not continue the history with head {head.hex()}", RESTORE, (name,)
        )
        for head in set(earlier_heads) - set(state.heads)
    ]
    findings += [
        Finding(
            "error",
            "files",
            f"message {seq} of session {name!r} and the list of references disagree about file {content_id!r}",
            RESTORE,
            (name,),
        )
        for seq, content_id in sorted(recorded ^ state.references)
    ]
    return LogHead(name, state.last_seq, state.heads[-1].hex()), findings


def _file_references(transaction: Transaction, session_pk: int) -> set[tuple[int, str]]:
    rows = transaction.rows("check_file_refs", {"session_pk": session_pk})
    return {(seq, from_text(content_id)) for seq, content_id in rows}


def _message_page(transaction: Transaction, session_pk: int, after_seq: int, until_seq: int | None) -> list[Row]:
    limit = PAGE_MESSAGES if until_seq is None else min(PAGE_MESSAGES, until_seq - after_seq)
    rows = transaction.rows("check_messages", {"session_pk": session_pk, "after_seq": after_seq, "limit": limit})
    return [row for row in rows if until_seq is None or row[0] <= until_seq]


def _check_runs(transaction: Transaction) -> list[Finding]:
    return [
        Finding(
            "error",
            "runs",
            f"run {from_text(name)!r}: its counts are {recorded} (pending, running, done, failed, attempts, inputs, total),"
            f" those of its items are {counted}",
            RESTORE_RUN,
            (from_text(name),),
        )
        for name, recorded, counted in transaction.rows("check_runs")
        if recorded != counted
    ]


def _row(transaction: Transaction, statement: str, session_pk: int) -> tuple[Any, ...]:
    row = transaction.row(statement, {"session_pk": session_pk})
    return row if row is not None else (0,) * 8
