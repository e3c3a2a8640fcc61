"""The integrity check of a log: every message against its hash, and all of them in order against the head."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from mnesis.models.finding import Finding
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import EncodedMessage, hash_of, is_message_intact, stored_message
from mnesis.store.covers import contains
from mnesis.store.sqlite.database import Database
from mnesis.store.sqlite.fixes import FIND_BACKUP, SALVAGE
from mnesis.store.sqlite.forks import load_segments
from mnesis.store.sqlite.lenient import read_leniently
from mnesis.store.sqlite.queries import sql

PAGE_MESSAGES = 1_000
"""The number of messages that one read checks."""
MAX_LISTED_MESSAGES = 20
"""The number of damaged messages of one session that are listed individually."""


@dataclass(slots=True)
class LogState:
    """The progress of a pass over the messages of a session.

    `owner_id` is the session that stores the next messages: this one, or another whose messages a fork shares, up to
    `shared_seq`.
    """

    session_id: str
    owner_id: str
    head: bytes
    earlier_heads: Collection[bytes]
    shared_seq: int = 0
    last_seq: int = 0
    message_count: int = 0
    message_pks: int = 0
    known_heads: set[bytes] = field(default_factory=set)
    damaged: list[tuple[int, str]] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)

    def is_readable(self, seq: int) -> bool:
        """Return whether a message exists and equals the stored one."""
        return not contains(self.missing, seq) and all(seq != damaged for damaged, _ in self.damaged)


async def read_log(database: Database, session_pk: int, session_id: str, earlier_heads: Collection[bytes]) -> LogState:
    """Read the whole log of a session in short reads, so that writers do not wait."""
    segments = await read_leniently(database, load_segments, session_pk)
    head = first_log_head(segments[0][1] if segments else session_id)
    state = LogState(session_id, session_id, head, earlier_heads, known_heads={head} & set(earlier_heads))
    for segment, owner_id in segments:
        state.owner_id, state.shared_seq = owner_id, segment.last_seq
        while await read_leniently(database, _read_page, segment.source_pk, state, segment.last_seq):
            pass
    state.owner_id, state.message_pks = session_id, 0
    while await read_leniently(database, _read_page, session_pk, state):
        pass
    return state


def _read_page(connection: sqlite3.Connection, session_pk: int, state: LogState, until_seq: int | None = None) -> bool:
    """Check the next messages that one session stores, up to `until_seq`. Returns whether there were any."""
    limit = PAGE_MESSAGES if until_seq is None else min(PAGE_MESSAGES, until_seq - state.last_seq)
    parameters = {"session_pk": session_pk, "after_seq": state.last_seq, "limit": limit}
    rows = connection.execute(sql("check_hashes"), parameters).fetchall()
    rows = [row for row in rows if until_seq is None or row[1] <= until_seq]
    for pk, seq, *row in rows:
        _check_message(state, pk, seq, row)
    return bool(rows)


def _check_message(state: LogState, pk: int, seq: int, row: list[Any]) -> None:
    if seq != state.last_seq + 1:
        state.missing.append((state.last_seq + 1, seq - 1))
    state.last_seq, state.message_count, state.message_pks = seq, state.message_count + 1, state.message_pks + pk
    try:
        message = stored_message(row)
        is_intact = is_message_intact(state.owner_id, seq, message)
        # An intact message of an older release is chained by the hash that this release computes.
        link = hash_of(state.owner_id, seq, message) if is_intact else message.stored_hash
    except (UnicodeEncodeError, TypeError, AttributeError):
        message, is_intact, link = None, False, b""
    if not is_intact:
        state.damaged.append((seq, _id_of(message, row)))
    state.head = extend_chain(state.head, link)
    if state.head in state.earlier_heads:
        state.known_heads.add(state.head)


def _id_of(message: EncodedMessage | None, row: list[Any]) -> str:
    return message.id if message is not None else str(row[0])


def log_findings(
    state: LogState, last_seq: int | None, log_head: bytes | None, message_pks: int | None
) -> list[Finding]:
    """Compare a log with the accounts of its session: the last seq, the head and the sum of row numbers."""
    name = state.session_id
    end = last_seq if last_seq is not None else state.last_seq
    missing = [*state.missing, *([(state.last_seq + 1, end)] if end > state.last_seq else [])]
    findings = [
        _error("log", f"messages {first} to {last} of session {name!r} are missing", name) for first, last in missing
    ]
    if end < state.last_seq:
        findings.append(_error("log", f"session {name!r} has messages after its end, {end}", name))
    findings += [
        _error("content", f"message {message_id!r} (seq {seq}) of session {name!r} is not what was stored", message_id)
        for seq, message_id in state.damaged[:MAX_LISTED_MESSAGES]
    ]
    if (more := len(state.damaged) - MAX_LISTED_MESSAGES) > 0:
        findings.append(_error("content", f"{more} more messages of session {name!r} are not what was stored", name))
    if not findings and log_head is not None and state.head != log_head:
        detail = f"the messages of session {name!r} do not lead to its head: some were changed, replaced or reordered"
        findings.append(_error("log", detail, name))
    if not findings and message_pks is not None and state.message_pks != message_pks:
        findings.append(_error("log", f"the row numbers of messages of session {name!r} were changed", name))
    return findings


def head_findings(state: LogState) -> list[Finding]:
    """Find earlier heads that the log does not lead to."""
    return [
        Finding(
            "error",
            "head",
            f"session {state.session_id!r} does not continue the history with head {head.hex()}: messages up to that point"
            " were changed, removed or reordered",
            FIND_BACKUP,
            (state.session_id,),
        )
        for head in state.earlier_heads
        if head not in state.known_heads
    ]


def _error(check: str, detail: str, *ids: str) -> Finding:
    return Finding("error", check, detail, SALVAGE, ids)
