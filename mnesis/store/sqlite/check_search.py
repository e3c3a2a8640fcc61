"""The check of the full-text index. Findings are warnings, because the index can be rebuilt from the log.

Every row and block of the index has a checksum, so the check reads each of them once and analyses no message.
"""

from __future__ import annotations

import sqlite3

from mnesis.models.finding import Finding
from mnesis.search.analysis import ANALYSIS_VERSION
from mnesis.store.sqlite.check_log import LogState
from mnesis.store.sqlite.fixes import REINDEX
from mnesis.store.sqlite.fulltext import checksum
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.search_blocks import mismatched_blocks
from mnesis.store.sqlite.search_scope import key_of, seq_of
from mnesis.store.sqlite.search_vectors import vector_checksum


def index_findings(connection: sqlite3.Connection) -> list[Finding]:
    """Check the blocks of the index, and that all of it belongs to sessions."""
    findings = [_warning(f"the table {table} is not what was written") for table in mismatched_blocks(connection)]
    strays = [pk for (pk,) in connection.execute(sql("check_search_strays"))]
    if strays:
        findings.append(_warning(f"{len(strays)} sessions in the index do not exist"))
    return findings


def search_findings(connection: sqlite3.Connection, session_pk: int, session_id: str, log: LogState) -> list[Finding]:
    """Compare the index of a session with its log. Messages that are not indexed yet are not findings."""
    state = connection.execute(sql("search_state_row"), {"session_pk": session_pk}).fetchone()
    details = []
    if state is not None and checksum((session_pk, *state[:3])) != state[3]:
        details.append("the last indexed message is not what was written")
    if not details and state is not None and state[0] != ANALYSIS_VERSION:
        return []  # an earlier release built it with other rules, so the next search builds it again
    words_seq = state[1] if state is not None and state[0] == ANALYSIS_VERSION else 0
    if not details and state is not None and max(words_seq, state[2]) > log.last_seq:
        details.append("the index ends after the log")
    mismatched = _mismatched_seqs(connection, session_pk, min(words_seq, log.last_seq), log)
    if not details and mismatched:
        details.append(f"{len(mismatched)} messages from {min(mismatched)} on differ from the index")
    span = {"first_key": key_of(session_pk, 0), "last_key": key_of(session_pk + 1, 0) - 1, "session_pk": session_pk}
    if not details and any(
        vector_checksum(*row[:3]) != row[3] for row in connection.execute(sql("check_search_vectors"), span)
    ):
        details.append("vectors are not what was written")
    if not details and connection.execute(sql("check_search_speakers"), span).fetchone():
        details.append("the number of messages per speaker differs from the index")
    return [_warning(f"session {session_id!r}: {detail}") for detail in details]


def _mismatched_seqs(connection: sqlite3.Connection, session_pk: int, words_seq: int, log: LogState) -> set[int]:
    """Return the seqs whose row in the index is damaged, missing, or not that of the message."""
    span = {"first_key": key_of(session_pk, 0), "last_key": key_of(session_pk + 1, 0) - 1}
    mismatched: set[int] = set()
    next_seq = log.shared_seq + 1
    for *row, crc in connection.execute(sql("check_search_rows"), span):
        seq = seq_of(row[0])
        if checksum(tuple(row)) != crc or not log.shared_seq < seq <= words_seq:
            mismatched.add(seq)
        if seq > next_seq:
            mismatched |= {missing for missing in range(next_seq, min(seq, words_seq + 1)) if log.is_readable(missing)}
        next_seq = max(next_seq, seq + 1)
    mismatched |= {missing for missing in range(next_seq, words_seq + 1) if log.is_readable(missing)}
    others = connection.execute(sql("check_search_messages"), {"session_pk": session_pk})
    return mismatched | {seq_of(key) for (key,) in others}


def _warning(detail: str) -> Finding:
    return Finding("warning", "search", detail, REINDEX)
