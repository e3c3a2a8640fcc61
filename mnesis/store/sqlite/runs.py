"""Transactions on map runs. The counts of a run change together with the states of its items."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.store.run_hashes import plan_head
from mnesis.store.run_validation import (
    RunDelta,
    completion_delta,
    refuse_changed_inputs,
    refuse_misplaced_inputs,
    refuse_other_run,
    refuse_wrong_total,
)
from mnesis.store.sqlite.changes import note_run_completed, note_run_deleted, note_run_items, note_run_started
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.run_rows import (
    ItemRow,
    StoredRun,
    insert_items,
    item_from_row,
    load_held_item,
    load_item,
    load_run,
    load_run_for_update,
    save_item,
    save_run_hash,
    stored_run,
)

PURGE_STEPS = (
    *("purge_run_declare", "purge_run_changes", "purge_run_plan", "purge_run_inputs", "purge_run_items"),
    *("purge_run", "purge_run_done"),
)


def begin_run(connection: sqlite3.Connection, spec: RunSpec) -> tuple[MapRun, bool]:
    """Insert a run, or load the existing one with its id. Returns whether it was inserted."""
    parameters = {name: getattr(spec, name) for name in ("id", "kind", "fingerprint", "model", "created_at")}
    is_new = connection.execute(sql("insert_run"), parameters).rowcount == 1
    stored = load_run(connection, spec.id)
    refuse_other_run(spec, stored.run)
    if is_new:
        if spec.plan:
            connection.execute(sql("insert_run_plan"), {"run_pk": stored.pk, "plan": spec.plan})
        note_run_started(connection, stored.pk, stored.run)
        save_run_hash(connection, spec.id, plan_head(spec.plan))
    return stored.run, is_new


def add_inputs(connection: sqlite3.Connection, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
    """Store the inputs that are not stored yet. Returns their number."""
    stored = load_run_for_update(connection, run_id)
    run = stored.run
    refuse_misplaced_inputs(run, first_index, len(inputs))
    last_index = min(first_index + len(inputs), run.item_count) - 1
    span = {"run_pk": stored.pk, "first_index": first_index, "last_index": last_index}
    known = [text for (text,) in connection.execute(sql("run_inputs"), span)]
    refuse_changed_inputs(run, first_index, known, inputs)
    new = list(enumerate(inputs[len(known) :], first_index + len(known)))
    if new:
        input_head = insert_items(connection, stored, new)
        _apply_delta(connection, stored.pk, RunDelta(pending=len(new)))
        save_run_hash(connection, run_id, input_head)
    return len(new)


def seal_run(connection: sqlite3.Connection, run_id: str, total: int) -> MapRun:
    """Store the total number of inputs."""
    stored = load_run_for_update(connection, run_id)
    run = stored.run
    refuse_wrong_total(run, total)
    connection.execute(sql("set_run_total"), {"run_pk": stored.pk, "total": total})
    if run.total is None and run.done + run.failed == total:
        note_run_completed(connection, stored.pk, total)
    return save_run_hash(connection, run_id, stored.input_head)


def claim_items(
    connection: sqlite3.Connection,
    run_id: str,
    worker: str,
    limit: int,
    now_ms: int,
    lease_ms: int,
    max_claims: int,
) -> list[RunItem]:
    """Assign items to a worker for the duration of a lease."""
    stored = load_run_for_update(connection, run_id)
    parameters = {"run_pk": stored.pk, "limit": max(limit, 0), "now": now_ms, "max_claims": max_claims}
    candidates = connection.execute(sql("run_items_abandoned"), parameters).fetchall()
    candidates += connection.execute(sql("run_items_waiting"), parameters).fetchall()
    rows = sorted(candidates, key=lambda row: row[0])[: parameters["limit"]]
    items = [item_from_row(run_id, row) for row in rows]
    pending_count = sum(1 for item in items if item.state == "pending")
    lease: dict[str, Any] = {"state": "running", "worker": worker, "lease_until": now_ms + lease_ms}
    claimed = [replace(item, claims=item.claims + 1, **lease) for item in items]
    for item in claimed:
        state = (item.state, item.claims, item.attempts, item.worker, item.lease_until, item.outcome)
        save_item(connection, stored, ItemRow(item.index, *state))
    _apply_change(connection, stored, RunDelta(pending=-pending_count, running=pending_count))
    return claimed


def renew_items(
    connection: sqlite3.Connection,
    run_id: str,
    worker: str,
    indexes: Iterable[int],
    now_ms: int,
    lease_ms: int,
) -> list[int]:
    """Extend the leases of a worker, or end them."""
    stored = load_run_for_update(connection, run_id)
    renewed = []
    for index in indexes:
        if (item := load_held_item(connection, stored, worker, index)) is not None:
            longest = max(item.lease_until or 0, now_ms + lease_ms)
            save_item(connection, stored, item._replace(lease_until=longest if lease_ms else now_ms))
            renewed.append(index)
    return renewed


def release_items(connection: sqlite3.Connection, run_id: str, worker: str, indexes: Iterable[int]) -> None:
    """Return items to the pending state."""
    stored = load_run_for_update(connection, run_id)
    count = 0
    for index in indexes:
        if (item := load_held_item(connection, stored, worker, index)) is not None:
            waiting = item._replace(state="pending", claims=item.claims - 1, worker=None, lease_until=None)
            save_item(connection, stored, waiting)
            count += 1
    _apply_change(connection, stored, RunDelta(pending=count, running=-count))


def finish_items(
    connection: sqlite3.Connection, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]
) -> list[int]:
    """Store the outcomes of items. Returns the accepted indexes."""
    stored = load_run_for_update(connection, run_id)
    accepted = [each for each in outcomes if _finish_item(connection, stored, worker, each)]
    note_run_items(connection, stored.pk, stored.run, [each.state == "done" for each in accepted])
    _apply_change(connection, stored, completion_delta(accepted))
    return [outcome.index for outcome in accepted]


def _finish_item(connection: sqlite3.Connection, stored: StoredRun, worker: str, outcome: ItemOutcome) -> bool:
    """Store the outcome of an item. Returns whether the worker still held the item."""
    item = load_held_item(connection, stored, worker, outcome.index)
    if item is None:
        return False
    attempts = item.attempts + outcome.attempts
    save_item(
        connection, stored, ItemRow(item.item_index, outcome.state, item.claims, attempts, None, None, outcome.outcome)
    )
    return True


def give_up_items(connection: sqlite3.Connection, run_id: str, now_ms: int, max_claims: int, outcome: str) -> list[int]:
    """Fail abandoned items that may not be claimed again. Returns their indexes."""
    stored = load_run_for_update(connection, run_id)
    parameters = {"run_pk": stored.pk, "now": now_ms, "max_claims": max_claims}
    lost = [index for (index,) in connection.execute(sql("run_items_lost"), parameters)]
    for index in lost:
        if (item := load_item(connection, stored, index)) is not None:
            failed = item._replace(state="failed", worker=None, lease_until=None, outcome=outcome)
            save_item(connection, stored, failed)
    note_run_items(connection, stored.pk, stored.run, [False] * len(lost))
    _apply_change(connection, stored, RunDelta(running=-len(lost), failed=len(lost)))
    return lost


def retry_failures(connection: sqlite3.Connection, run_id: str) -> int:
    """Make failed items pending again. Returns their number."""
    stored = load_run_for_update(connection, run_id)
    failed = [index for (index,) in connection.execute(sql("run_items_failed"), {"run_pk": stored.pk})]
    for index in failed:
        if (item := load_item(connection, stored, index)) is not None:
            save_item(connection, stored, item._replace(state="pending", claims=0, outcome=None))
    _apply_change(connection, stored, RunDelta(pending=len(failed), failed=-len(failed)))
    return len(failed)


def run(connection: sqlite3.Connection, run_id: str) -> MapRun:
    """Load one run."""
    return load_run(connection, run_id).run


def run_plan(connection: sqlite3.Connection, run_id: str) -> str:
    """Load the plan of a run, "" if none was stored."""
    row = connection.execute(sql("run_plan"), {"run_pk": load_run(connection, run_id).pk}).fetchone()
    return row[0] if row is not None else ""


def runs(connection: sqlite3.Connection, limit: int) -> list[MapRun]:
    """Load runs, newest first."""
    return [stored_run(row).run for row in connection.execute(sql("runs"), {"limit": max(limit, 0)})]


def page_items(
    connection: sqlite3.Connection, run_id: str, after_index: int, limit: int, state: ItemState | None
) -> list[RunItem]:
    """Load items in order."""
    run_pk = load_run(connection, run_id).pk
    statement = "run_items_page" if state is None else "run_items_in_state"
    parameters = {"run_pk": run_pk, "after_index": after_index, "limit": max(limit, 0), "state": state}
    return [item_from_row(run_id, row) for row in connection.execute(sql(statement), parameters)]


def purge_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Delete every row of a run. The transaction first declares the purge to the triggers."""
    run_pk = load_run(connection, run_id).pk
    note_run_deleted(connection)
    for step in PURGE_STEPS:
        connection.execute(sql(step), {"run_pk": run_pk})


def count_mismatch(connection: sqlite3.Connection, stored: StoredRun) -> str | None:
    """Describe how the counts of a run differ from its items, or return None if they agree."""
    run_pk, run = stored.pk, stored.run
    recorded = (run.item_count, run.pending, run.running, run.done, run.failed, run.attempts, run.item_count)
    counted = connection.execute(sql("check_run"), {"run_pk": run_pk}).fetchone()
    inputs = connection.execute(sql("check_run_inputs"), {"run_pk": run_pk}).fetchone()
    if recorded == counted and inputs == (run.item_count, run.item_count) and run.total in (None, run.item_count):
        return None
    return (
        f"its counts are {recorded} (items, pending, running, done, failed, attempts, end),"
        f" those of its items are {counted}, of its inputs {inputs}"
    )


def _apply_change(connection: sqlite3.Connection, stored: StoredRun, delta: RunDelta) -> None:
    _apply_delta(connection, stored.pk, delta)
    save_run_hash(connection, stored.run.id, stored.input_head)


def _apply_delta(connection: sqlite3.Connection, run_pk: int, moved: RunDelta) -> None:
    if moved == RunDelta():
        return
    counts = {name: getattr(moved, name) for name in ("pending", "running", "done", "failed", "attempts", "cost")}
    usage = {f"usage_{name}": count for name, count in moved.usage.model_dump().items()}
    connection.execute(sql("move_run"), {"run_pk": run_pk} | counts | usage)
