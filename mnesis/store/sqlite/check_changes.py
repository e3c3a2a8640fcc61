"""The integrity check of the list of changes: each row against its checksum, and all rows against the sums that count them."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from mnesis.models.finding import Finding
from mnesis.store.sqlite.changes import change_crc
from mnesis.store.sqlite.fixes import SALVAGE_EVENTS
from mnesis.store.sqlite.queries import sql


def change_findings(connection: sqlite3.Connection) -> list[Finding]:
    """Find changes that are damaged, missing or renumbered. All sessions and runs are compared in one pass."""
    damaged: list[int] = []
    sums: defaultdict[tuple[str, int], int] = defaultdict(int)
    for pk, origin, kind, session_pk, run_pk, body, crc in connection.execute(sql("check_changes")):
        if crc is not None and crc != change_crc((origin, kind, session_pk, run_pk, body)):
            damaged.append(pk)
        if kind in ("deleted", "run_deleted"):
            owner = ("deletions", 1)
        else:
            owner = ("run", run_pk) if run_pk is not None else ("session", session_pk)
        sums[owner] += pk
    expected = {(kind, pk): total for kind, pk, total in connection.execute(sql("check_change_sums"))}
    findings = [_error(f"change {pk} is not what was stored") for pk in damaged]
    if not damaged and any(sums.get(owner, 0) != expected.get(owner, 0) for owner in sums.keys() | expected.keys()):
        findings.append(_error("changes are missing or were renumbered"))
    return findings


def _error(detail: str) -> Finding:
    return Finding("error", "changes", detail, SALVAGE_EVENTS)
