"""Transactions on map runs. The counts of a run change together with the states of its items."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from mnesis.errors import RunNotFoundError
from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.models.usage import TokenUsage
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

PURGE_STEPS = (
    *("purge_run_declare", "purge_run_changes", "purge_run_inputs", "purge_run_items"),
    *("purge_run", "purge_run_done"),
)
_RUN_FIELDS = (
    *("id", "kind", "fingerprint", "model", "created_at", "total"),
    *("pending", "running", "done", "failed", "attempts"),
)


def begin_run(connection: sqlite3.Connection, spec: RunSpec) -> tuple[MapRun, bool]:
    """Insert a run, or load the existing one with its id. Returns whether it was inserted."""
    parameters = {name: getattr(spec, name) for name in ("id", "kind", "fingerprint", "model", "created_at")}
    is_new = connection.execute(sql("insert_run"), parameters).rowcount == 1
    run_pk, run = _load_run(connection, spec.id)
    refuse_other_run(spec, run)
    if is_new:
        note_run_started(connection, run_pk, run)
    return run, is_new


def add_inputs(connection: sqlite3.Connection, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
    """Store the inputs that are not stored yet. Returns their number."""
    run_pk, run = _load_run(connection, run_id)
    refuse_misplaced_inputs(run, first_index, len(inputs))
    last_index = min(first_index + len(inputs), run.item_count) - 1
    span = {"run_pk": run_pk, "first_index": first_index, "last_index": last_index}
    known = [text for (text,) in connection.execute(sql("run_inputs"), span)]
    refuse_changed_inputs(run, first_index, known, inputs)
    new = list(enumerate(inputs[len(known) :], first_index + len(known)))
    connection.executemany(sql("insert_run_input"), [(run_pk, index, text) for index, text in new])
    connection.executemany(sql("insert_run_item"), [(run_pk, index) for index, _ in new])
    _apply_delta(connection, run_pk, RunDelta(pending=len(new)))
    return len(new)


def seal_run(connection: sqlite3.Connection, run_id: str, total: int) -> MapRun:
    """Store the total number of inputs."""
    run_pk, run = _load_run(connection, run_id)
    refuse_wrong_total(run, total)
    connection.execute(sql("seal_run"), {"run_pk": run_pk, "total": total})
    if run.total is None and run.done + run.failed == total:
        note_run_completed(connection, run_pk, total)
    return _load_run(connection, run_id)[1]


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
    run_pk, _ = _load_run(connection, run_id)
    parameters = {"run_pk": run_pk, "limit": max(limit, 0), "now": now_ms, "max_claims": max_claims}
    candidates = connection.execute(sql("run_items_abandoned"), parameters).fetchall()
    candidates += connection.execute(sql("run_items_waiting"), parameters).fetchall()
    rows = sorted(candidates)[: parameters["limit"]]
    lease = {"run_pk": run_pk, "worker": worker, "lease_until": now_ms + lease_ms}
    connection.executemany(sql("claim_run_item"), [lease | {"item_index": row[0]} for row in rows])
    pending_count = sum(1 for row in rows if row[2] == "pending")
    _apply_delta(connection, run_pk, RunDelta(pending=-pending_count, running=pending_count))
    return [
        RunItem(index, text, "running", claims + 1, attempts, worker, now_ms + lease_ms)
        for index, text, _, claims, attempts, *_ in rows
    ]


def renew_items(
    connection: sqlite3.Connection,
    run_id: str,
    worker: str,
    indexes: Iterable[int],
    now_ms: int,
    lease_ms: int,
) -> list[int]:
    """Extend the leases of a worker, or end them."""
    run_pk, _ = _load_run(connection, run_id)
    lease = {"run_pk": run_pk, "worker": worker, "lease_until": now_ms + lease_ms, "ended": lease_ms == 0}
    return [index for index in indexes if _update_one(connection, "renew_run_item", lease | {"item_index": index})]


def release_items(connection: sqlite3.Connection, run_id: str, worker: str, indexes: Iterable[int]) -> None:
    """Return items to the pending state."""
    run_pk, _ = _load_run(connection, run_id)
    lease = {"run_pk": run_pk, "worker": worker}
    count = sum(_update_one(connection, "release_run_item", lease | {"item_index": index}) for index in indexes)
    _apply_delta(connection, run_pk, RunDelta(pending=count, running=-count))


def finish_items(
    connection: sqlite3.Connection, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]
) -> list[int]:
    """Store the outcomes of items. Returns the accepted indexes."""
    run_pk, run = _load_run(connection, run_id)
    lease = {"run_pk": run_pk, "worker": worker}
    accepted = [each for each in outcomes if _update_one(connection, "finish_run_item", lease | _outcome(each))]
    _apply_delta(connection, run_pk, completion_delta(accepted))
    note_run_items(connection, run_pk, run, [each.state == "done" for each in accepted])
    return [outcome.index for outcome in accepted]


def _outcome(outcome: ItemOutcome) -> dict[str, Any]:
    return {
        "item_index": outcome.index,
        "state": outcome.state,
        "attempts": outcome.attempts,
        "outcome": outcome.outcome,
    }


def give_up_items(connection: sqlite3.Connection, run_id: str, now_ms: int, max_claims: int, outcome: str) -> list[int]:
    """Fail abandoned items that may not be claimed again. Returns their indexes."""
    run_pk, run = _load_run(connection, run_id)
    parameters = {"run_pk": run_pk, "now": now_ms, "max_claims": max_claims}
    lost = [index for (index,) in connection.execute(sql("run_items_lost"), parameters)]
    failure = {"run_pk": run_pk, "outcome": outcome}
    connection.executemany(sql("give_up_run_item"), [failure | {"item_index": index} for index in lost])
    _apply_delta(connection, run_pk, RunDelta(running=-len(lost), failed=len(lost)))
    note_run_items(connection, run_pk, run, [False] * len(lost))
    return lost


def retry_failures(connection: sqlite3.Connection, run_id: str) -> int:
    """Make failed items pending again. Returns their number."""
    run_pk, _ = _load_run(connection, run_id)
    count = connection.execute(sql("retry_failed_items"), {"run_pk": run_pk}).rowcount
    _apply_delta(connection, run_pk, RunDelta(pending=count, failed=-count))
    return count


def run(connection: sqlite3.Connection, run_id: str) -> MapRun:
    """Load one run."""
    return _load_run(connection, run_id)[1]


def runs(connection: sqlite3.Connection, limit: int) -> list[MapRun]:
    """Load runs, newest first."""
    return [_run_from_row(row) for row in connection.execute(sql("runs"), {"limit": max(limit, 0)})]


def page_items(
    connection: sqlite3.Connection, run_id: str, after_index: int, limit: int, state: ItemState | None
) -> list[RunItem]:
    """Load items in order."""
    run_pk, _ = _load_run(connection, run_id)
    statement = "run_items_page" if state is None else "run_items_in_state"
    parameters = {"run_pk": run_pk, "after_index": after_index, "limit": max(limit, 0), "state": state}
    return [RunItem(*row) for row in connection.execute(sql(statement), parameters)]


def purge_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Delete every row of a run. The transaction first declares the purge to the triggers."""
    run_pk, _ = _load_run(connection, run_id)
    note_run_deleted(connection)
    for step in PURGE_STEPS:
        connection.execute(sql(step), {"run_pk": run_pk})


def count_mismatch(connection: sqlite3.Connection, run_id: str) -> str | None:
    """Describe how the counts of a run differ from its items, or return None if they agree."""
    run_pk, run = _load_run(connection, run_id)
    recorded = (run.item_count, run.pending, run.running, run.done, run.failed, run.attempts, run.item_count)
    counted = connection.execute(sql("check_run"), {"run_pk": run_pk}).fetchone()
    inputs = connection.execute(sql("check_run_inputs"), {"run_pk": run_pk}).fetchone()
    if recorded == counted and inputs == (run.item_count, run.item_count) and run.total in (None, run.item_count):
        return None
    return (
        f"its counts are {recorded} (items, pending, running, done, failed, attempts, end),"
        f" those of its items are {counted}, of its inputs {inputs}"
    )


def _load_run(connection: sqlite3.Connection, run_id: str) -> tuple[int, MapRun]:
    try:
        row = connection.execute(sql("run"), {"id": run_id}).fetchone()
    except UnicodeEncodeError:
        row = None
    if row is None:
        raise RunNotFoundError(run_id)
    return row[0], _run_from_row(row)


def _run_from_row(row: tuple[Any, ...]) -> MapRun:
    usage = dict(zip(("input", "output", "cache_read", "cache_write", "total"), row[12:17], strict=True))
    fields = dict(zip(_RUN_FIELDS, row[1:12], strict=True))
    return MapRun(usage=TokenUsage(**usage), cost=row[17], **fields)


def _update_one(connection: sqlite3.Connection, statement: str, parameters: dict[str, Any]) -> bool:
    return connection.execute(sql(statement), parameters).rowcount == 1


def _apply_delta(connection: sqlite3.Connection, run_pk: int, moved: RunDelta) -> None:
    if moved == RunDelta():
        return
    counts = {name: getattr(moved, name) for name in ("pending", "running", "done", "failed", "attempts", "cost")}
    usage = {f"usage_{name}": count for name, count in moved.usage.model_dump().items()}
    connection.execute(sql("move_run"), {"run_pk": run_pk} | counts | usage)
