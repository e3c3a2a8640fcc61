"""The integrity check of the list of changes: each row against its hash, and the rows of a session against its log."""

from __future__ import annotations

from mnesis.models.finding import Finding
from mnesis.store.postgres.fixes import IGNORE_EVENTS
from mnesis.store.postgres.rows import from_text
from mnesis.store.postgres.transaction import Transaction


def damaged_change_findings(transaction: Transaction) -> list[Finding]:
    """Find changes that are not what was stored."""
    count = transaction.value("count_damaged_changes")
    return [_error(f"{count} changes are not what was stored", ())] if count else []


def session_change_findings(transaction: Transaction, session_pk: int, name: str) -> list[Finding]:
    """Find a session with messages, a creation or a sweep that were not announced, or not in order.

    Other updates, such as a new title, may be missing without being noticed.
    """
    row = transaction.row("check_changes_of_session", {"session_pk": session_pk})
    if row is None or all(row):
        return []
    return [_error(f"changes of session {name!r} are missing", (name,))]


def run_change_findings(transaction: Transaction) -> list[Finding]:
    """Find runs whose beginning or whose finished items were not all announced."""
    return [
        _error(f"changes of run {from_text(run_id)!r} are missing", (from_text(run_id),))
        for (run_id,) in transaction.rows("check_changes_of_runs")
    ]


def _error(detail: str, ids: tuple[str, ...]) -> Finding:
    return Finding("error", "changes", detail, IGNORE_EVENTS, ids)
