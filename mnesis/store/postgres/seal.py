"""Hashes for rows that a schema before version 6 wrote, and seals with a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mnesis.store.chain import EMPTY_HEAD, encode_turn, extend_chain, seal
from mnesis.store.postgres.accounts import insert_record_heads, rows_of_session, save_accounts
from mnesis.store.postgres.rows import Row, to_text
from mnesis.store.postgres.run_rows import StoredRun, item_from_row, run_from_row, save_run
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Transaction
from mnesis.store.record_heads import compute_record_heads
from mnesis.store.run_hashes import hash_input, plan_head

PAGE_ITEMS = 1_000
"""The number of a run's items that one statement reads."""
ALL_RUNS = 2**62


OnHashed = Callable[[int, int], None]
"""Called with the number of sessions and runs that have hashes, and the total."""


def add_missing_hashes(transaction: Transaction, on_progress: OnHashed | None = None) -> None:
    """Compute the hashes of all sessions and runs, in the transaction of the migration that adds their columns."""
    sessions = transaction.rows("check_sessions")
    runs = transaction.rows("runs", {"limit": ALL_RUNS})
    report = on_progress or (lambda done, total: None)
    for number, (session_pk, escaped_id) in enumerate(sessions, 1):
        row = transaction.row("session", {"id": escaped_id})
        if row is not None:
            _add_session_hashes(transaction, session_pk, StoredSession(row))
        report(number, len(sessions) + len(runs))
    for number, row in enumerate(runs, len(sessions) + 1):
        _add_run_hashes(transaction, run_from_row(row))
        report(number, len(sessions) + len(runs))


def compute_turn_head(transaction: Transaction, session_pk: int) -> bytes:
    """Compute the head of the chain of a session's turns from its rows."""
    head = EMPTY_HEAD
    for turn in transaction.rows("check_turn_rows", {"session_pk": session_pk}):
        head = extend_chain(head, encode_turn(turn))
    return head


def run_item_pages(transaction: Transaction, run_id: str) -> Iterator[list[Row]]:
    """Yield all items of a run with their inputs, a page at a time. `run_id` is escaped."""
    after_index = -1
    parameters = {"id": run_id, "limit": PAGE_ITEMS}
    while page := transaction.rows("run_items_page", parameters | {"after_index": after_index}):
        yield page
        after_index = page[-1][0]


def _add_session_hashes(transaction: Transaction, session_pk: int, stored: StoredSession) -> None:
    records = compute_record_heads(rows_of_session(transaction, session_pk, stored.record.id))
    insert_record_heads(transaction, session_pk, records)
    transaction.send("save_profile_hash", {"session_pk": session_pk, "hash": stored.profile_hash})
    turn_head = compute_turn_head(transaction, session_pk)
    save_accounts(transaction, stored, stored.record, turn_head=turn_head, records=records)


def _add_run_hashes(transaction: Transaction, stored: StoredRun) -> None:
    escaped_id, run_id = to_text(stored.run.id), stored.run.id
    plan = transaction.value("run_plan", {"id": escaped_id})
    head = plan_head("" if plan is None else plan.decode())
    for page in run_item_pages(transaction, escaped_id):
        input_hashes = [hash_input(run_id, row[0], row[1].decode("utf-8", "replace")) for row in page]
        for each in input_hashes:
            head = extend_chain(head, each)
        items = [item_from_row((row[0], *row[2:])) for row in page]
        hashes = [None if item is None else item.hash(run_id) for item in items]
        place = {"run_pk": stored.pk, "indexes": [row[0] for row in page]}
        transaction.send("save_item_hashes", place | {"hashes": hashes})
        transaction.send("save_input_hashes", place | {"hashes": input_hashes})
    save_run(transaction, stored, input_head=head)


def seal_all(transaction: Transaction) -> int:
    """Seal every session and run with the key of the transaction. Returns their number."""
    key = transaction.key or b""
    counts: list[int] = []
    for kind in ("accounts", "runs", "run_items"):
        rows = transaction.rows(f"hashes_of_{kind}")
        counts.append(len(rows))
        seals = [seal(key, row[-1]) for row in rows]
        parameters = {"pks": [row[0] for row in rows], "indexes": [row[1] for row in rows], "seals": seals}
        transaction.send(f"seal_{kind}", parameters)
    return counts[0] + counts[1]
