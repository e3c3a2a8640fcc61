"""Transactions on map runs. A run's counts move with the states of its items."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from mnesis.errors import RunNotFoundError
from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.models.usage import TokenUsage
from mnesis.store.run_validation import (
    Moved,
    finished,
    refuse_misplaced,
    refuse_other_inputs,
    refuse_other_run,
    refuse_total,
)
from mnesis.store.sqlite.queries import sql

PURGE_STEPS = ("purge_run_declare", "purge_run_inputs", "purge_run_items", "purge_run", "purge_run_done")
_FIELDS = (
    *("id", "kind", "fingerprint", "model", "created_at", "total"),
    *("pending", "running", "done", "failed", "attempts"),
)


def begin(connection: sqlite3.Connection, spec: RunSpec, where: str) -> tuple[MapRun, bool]:
    """Insert the run, or find the one that has its id."""
    parameters = {name: getattr(spec, name) for name in ("id", "kind", "fingerprint", "model", "created_at")}
    is_new = connection.execute(sql("insert_run"), parameters).rowcount == 1
    _, run = _stored(connection, spec.id, where)
    refuse_other_run(spec, run)
    return run, is_new


def add(connection: sqlite3.Connection, run_id: str, first_index: int, inputs: Sequence[str], where: str) -> int:
    """Store inputs that are not stored yet."""
    run_pk, run = _stored(connection, run_id, where)
    refuse_misplaced(run, first_index, len(inputs))
    last_index = min(first_index + len(inputs), run.stored) - 1
    span = {"run_pk": run_pk, "first_index": first_index, "last_index": last_index}
    known = [text for (text,) in connection.execute(sql("run_inputs"), span)]
    refuse_other_inputs(run, first_index, known, inputs)
    new = list(enumerate(inputs[len(known) :], first_index + len(known)))
    connection.executemany(sql("insert_run_input"), [(run_pk, index, text) for index, text in new])
    connection.executemany(sql("insert_run_item"), [(run_pk, index) for index, _ in new])
    _move(connection, run_pk, Moved(pending=len(new)))
    return len(new)


def seal(connection: sqlite3.Connection, run_id: str, total: int, where: str) -> MapRun:
    """Say how many inputs there are."""
    run_pk, run = _stored(connection, run_id, where)
    refuse_total(run, total)
    connection.execute(sql("seal_run"), {"run_pk": run_pk, "total": total})
    return _stored(connection, run_id, where)[1]


def claim(
    connection: sqlite3.Connection,
    run_id: str,
    worker: str,
    limit: int,
    now: int,
    lease_ms: int,
    max_claims: int,
    where: str,
) -> list[RunItem]:
    """Give items to a worker."""
    run_pk, _ = _stored(connection, run_id, where)
    asked = {"run_pk": run_pk, "limit": max(limit, 0), "now": now, "max_claims": max_claims}
    found = connection.execute(sql("run_items_abandoned"), asked).fetchall()
    found += connection.execute(sql("run_items_waiting"), asked).fetchall()
    taken = sorted(found)[: asked["limit"]]
    lease = {"run_pk": run_pk, "worker": worker, "lease_until": now + lease_ms}
    connection.executemany(sql("claim_run_item"), [lease | {"item_index": row[0]} for row in taken])
    waited = sum(1 for row in taken if row[2] == "pending")
    _move(connection, run_pk, Moved(pending=-waited, running=waited))
    return [
        RunItem(index, text, "running", claims + 1, attempts, worker, now + lease_ms)
        for index, text, _, claims, attempts, *_ in taken
    ]


def renew(
    connection: sqlite3.Connection,
    run_id: str,
    worker: str,
    indexes: Iterable[int],
    now: int,
    lease_ms: int,
    where: str,
) -> list[int]:
    """Prolong leases, or end them."""
    run_pk, _ = _stored(connection, run_id, where)
    held = {"run_pk": run_pk, "worker": worker, "lease_until": now + lease_ms, "ended": lease_ms == 0}
    return [index for index in indexes if _changed(connection, "renew_run_item", held | {"item_index": index})]


def release(connection: sqlite3.Connection, run_id: str, worker: str, indexes: Iterable[int], where: str) -> None:
    """Give items back."""
    run_pk, _ = _stored(connection, run_id, where)
    held = {"run_pk": run_pk, "worker": worker}
    count = sum(_changed(connection, "release_run_item", held | {"item_index": index}) for index in indexes)
    _move(connection, run_pk, Moved(pending=count, running=-count))


def finish(
    connection: sqlite3.Connection, run_id: str, worker: str, outcomes: Sequence[ItemOutcome], where: str
) -> list[int]:
    """Store what came of items."""
    run_pk, _ = _stored(connection, run_id, where)
    held = {"run_pk": run_pk, "worker": worker}
    accepted = [each for each in outcomes if _changed(connection, "finish_run_item", held | _outcome(each))]
    _move(connection, run_pk, finished(accepted))
    return [outcome.index for outcome in accepted]


def _outcome(outcome: ItemOutcome) -> dict[str, Any]:
    return {
        "item_index": outcome.index,
        "state": outcome.state,
        "attempts": outcome.attempts,
        "outcome": outcome.outcome,
    }


def give_up(
    connection: sqlite3.Connection, run_id: str, now: int, max_claims: int, outcome: str, where: str
) -> list[int]:
    """Fail items that nobody finished."""
    run_pk, _ = _stored(connection, run_id, where)
    asked = {"run_pk": run_pk, "now": now, "max_claims": max_claims}
    lost = [index for (index,) in connection.execute(sql("run_items_lost"), asked)]
    failing = {"run_pk": run_pk, "outcome": outcome}
    connection.executemany(sql("give_up_run_item"), [failing | {"item_index": index} for index in lost])
    _move(connection, run_pk, Moved(running=-len(lost), failed=len(lost)))
    return lost


def retry_failed(connection: sqlite3.Connection, run_id: str, where: str) -> int:
    """Make failed items wait again."""
    run_pk, _ = _stored(connection, run_id, where)
    count = connection.execute(sql("retry_failed_items"), {"run_pk": run_pk}).rowcount
    _move(connection, run_pk, Moved(pending=count, failed=-count))
    return count


def run(connection: sqlite3.Connection, run_id: str, where: str) -> MapRun:
    """One run."""
    return _stored(connection, run_id, where)[1]


def runs(connection: sqlite3.Connection, limit: int) -> list[MapRun]:
    """Runs, newest first."""
    return [_run_from_row(row) for row in connection.execute(sql("runs"), {"limit": max(limit, 0)})]


def items(
    connection: sqlite3.Connection, run_id: str, after_index: int, limit: int, state: ItemState | None, where: str
) -> list[RunItem]:
    """Items in order."""
    run_pk, _ = _stored(connection, run_id, where)
    statement = "run_items_page" if state is None else "run_items_in_state"
    asked = {"run_pk": run_pk, "after_index": after_index, "limit": max(limit, 0), "state": state}
    return [RunItem(*row) for row in connection.execute(sql(statement), asked)]


def purge(connection: sqlite3.Connection, run_id: str, where: str) -> None:
    """Delete every row of a run, in a transaction that declares itself to the triggers."""
    run_pk, _ = _stored(connection, run_id, where)
    for step in PURGE_STEPS:
        connection.execute(sql(step), {"run_pk": run_pk})


def miscounted(connection: sqlite3.Connection, run_id: str, where: str) -> str | None:
    """How the counts of a run differ from its items, if they do."""
    run_pk, run = _stored(connection, run_id, where)
    said = (run.stored, run.pending, run.running, run.done, run.failed, run.attempts, run.stored)
    found = connection.execute(sql("check_run"), {"run_pk": run_pk}).fetchone()
    inputs = connection.execute(sql("check_run_inputs"), {"run_pk": run_pk}).fetchone()
    if said == found and inputs == (run.stored, run.stored) and run.total in (None, run.stored):
        return None
    return f"it says {said} (items, pending, running, done, failed, attempts, end), its items {found}, inputs {inputs}"


def _stored(connection: sqlite3.Connection, run_id: str, where: str) -> tuple[int, MapRun]:
    try:
        row = connection.execute(sql("run"), {"id": run_id}).fetchone()
    except UnicodeEncodeError:
        row = None
    if row is None:
        raise RunNotFoundError(run_id, where=where)
    return row[0], _run_from_row(row)


def _run_from_row(row: tuple[Any, ...]) -> MapRun:
    usage = dict(zip(("input", "output", "cache_read", "cache_write", "total"), row[12:17], strict=True))
    fields = dict(zip(_FIELDS, row[1:12], strict=True))
    return MapRun(usage=TokenUsage(**usage), cost=row[17], **fields)


def _changed(connection: sqlite3.Connection, statement: str, parameters: dict[str, Any]) -> bool:
    return connection.execute(sql(statement), parameters).rowcount == 1


def _move(connection: sqlite3.Connection, run_pk: int, moved: Moved) -> None:
    if moved == Moved():
        return
    counts = {name: getattr(moved, name) for name in ("pending", "running", "done", "failed", "attempts", "cost")}
    usage = {f"usage_{name}": count for name, count in moved.usage.model_dump().items()}
    connection.execute(sql("move_run"), {"run_pk": run_pk} | counts | usage)
