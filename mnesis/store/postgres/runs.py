"""Transactions on map runs. The counts of a run change together with the states of its items, under the lock of the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mnesis.errors import RunNotFoundError
from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.models.usage import TokenUsage
from mnesis.store.postgres.changes import note_run_completed, note_run_deleted, note_run_items, note_run_started
from mnesis.store.postgres.rows import Parameters, Row, from_text, is_storable_id, to_text
from mnesis.store.postgres.transaction import Answer, Transaction
from mnesis.store.run_validation import (
    RunDelta,
    completion_delta,
    refuse_changed_inputs,
    refuse_misplaced_inputs,
    refuse_other_run,
    refuse_wrong_total,
)

_RUN_FIELDS = (
    *("id", "kind", "fingerprint", "model", "created_at", "total"),
    *("pending", "running", "done", "failed", "attempts"),
)
_TEXT_FIELDS = ("id", "kind", "fingerprint", "model")


def begin_run(transaction: Transaction, spec: RunSpec) -> tuple[MapRun, bool]:
    """Insert a run, or load the existing one with its id. Returns whether it was inserted."""
    parameters: Parameters = {name: to_text(getattr(spec, name)) for name in _TEXT_FIELDS}
    is_new = transaction.row("insert_run", parameters | {"created_at": spec.created_at}) is not None
    transaction.ask_number()
    run_pk, run = _read_run(spec.id, transaction.send("run", {"id": to_text(spec.id)}))
    transaction.read_number()
    refuse_other_run(spec, run)
    if is_new:
        if spec.plan:
            transaction.send("insert_run_plan", {"run_pk": run_pk, "plan": spec.plan.encode()})
        note_run_started(transaction, run_pk, run)
    return run, is_new


def add_inputs(transaction: Transaction, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
    """Store the inputs that are not stored yet. Returns their number."""
    span = {"first_index": first_index, "last_index": first_index + len(inputs) - 1}
    (run_pk, run), (stored,) = _lock(transaction, run_id, ("run_inputs", span))
    refuse_misplaced_inputs(run, first_index, len(inputs))
    known = [text.decode() for (text,) in stored]
    refuse_changed_inputs(run, first_index, known, inputs)
    new = list(enumerate(inputs[len(known) :], first_index + len(known)))
    if new:
        indexes = [index for index, _ in new]
        texts = [text.encode() for _, text in new]
        transaction.send("insert_run_inputs", {"run_pk": run_pk, "indexes": indexes, "inputs": texts})
        transaction.send("insert_run_items", {"run_pk": run_pk, "indexes": indexes})
    _apply_delta(transaction, run_pk, RunDelta(pending=len(new)))
    return len(new)


def seal_run(transaction: Transaction, run_id: str, total: int) -> MapRun:
    """Store the total number of inputs."""
    (run_pk, run), _ = _lock(transaction, run_id)
    refuse_wrong_total(run, total)
    transaction.send("seal_run", {"run_pk": run_pk, "total": total})
    if run.total is None and run.done + run.failed == total:
        note_run_completed(transaction, run_pk, total)
    return _read_run(run_id, transaction.send("run", {"id": to_text(run_id)}))[1]


def claim_items(
    transaction: Transaction,
    run_id: str,
    worker: str,
    limit: int,
    now_ms: int,
    lease_ms: int,
    max_claims: int,
) -> list[RunItem]:
    """Assign items to a worker for the duration of a lease."""
    candidates: Parameters = {"limit": max(limit, 0), "now": now_ms, "max_claims": max_claims}
    (run_pk, _), (rows,) = _lock(transaction, run_id, ("run_items_to_claim", candidates))
    if rows:
        lease: Parameters = {"run_pk": run_pk, "worker": to_text(worker), "lease_until": now_ms + lease_ms}
        transaction.send("claim_run_items", lease | {"indexes": [row[0] for row in rows]})
    pending_count = sum(1 for row in rows if row[2] == "pending")
    _apply_delta(transaction, run_pk, RunDelta(pending=-pending_count, running=pending_count))
    return [
        RunItem(index, text.decode(), "running", claims + 1, attempts, worker, now_ms + lease_ms)
        for index, text, _, claims, attempts, *_ in rows
    ]


def renew_items(
    transaction: Transaction,
    run_id: str,
    worker: str,
    indexes: Sequence[int],
    now_ms: int,
    lease_ms: int,
) -> list[int]:
    """Extend the leases of a worker, or end them."""
    (run_pk, _), _ = _lock(transaction, run_id)
    lease: Parameters = {"run_pk": run_pk, "worker": to_text(worker), "lease_until": now_ms + lease_ms}
    rows = transaction.rows("renew_run_items", lease | {"indexes": list(indexes), "ended": lease_ms == 0})
    held = {index for (index,) in rows}
    return [index for index in indexes if index in held]


def release_items(transaction: Transaction, run_id: str, worker: str, indexes: Iterable[int]) -> None:
    """Return items to the pending state."""
    (run_pk, _), _ = _lock(transaction, run_id)
    parameters: Parameters = {"run_pk": run_pk, "worker": to_text(worker), "indexes": list(indexes)}
    count = len(transaction.rows("release_run_items", parameters))
    _apply_delta(transaction, run_pk, RunDelta(pending=count, running=-count))


def finish_items(transaction: Transaction, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
    """Store the outcomes of items. Returns the accepted indexes."""
    (run_pk, run), _ = _lock(transaction, run_id)
    lease: Parameters = {"run_pk": run_pk, "worker": to_text(worker)}
    answers = [transaction.send("finish_run_item", lease | _outcome_parameters(each)) for each in outcomes]
    accepted = [each for each, answer in zip(outcomes, answers, strict=True) if answer.row() is not None]
    _apply_delta(transaction, run_pk, completion_delta(accepted))
    note_run_items(transaction, run_pk, run, [each.state == "done" for each in accepted])
    return [outcome.index for outcome in accepted]


def _outcome_parameters(outcome: ItemOutcome) -> Parameters:
    return {
        "item_index": outcome.index,
        "state": outcome.state,
        "attempts": outcome.attempts,
        "outcome": outcome.outcome.encode(),
    }


def give_up_items(transaction: Transaction, run_id: str, now_ms: int, max_claims: int, outcome: str) -> list[int]:
    """Fail abandoned items that may not be claimed again. Returns their indexes."""
    parameters: Parameters = {"now": now_ms, "max_claims": max_claims}
    (run_pk, run), (rows,) = _lock(transaction, run_id, ("run_items_lost", parameters))
    lost = [index for (index,) in rows]
    if lost:
        transaction.send("give_up_run_items", {"run_pk": run_pk, "indexes": lost, "outcome": outcome.encode()})
    _apply_delta(transaction, run_pk, RunDelta(running=-len(lost), failed=len(lost)))
    note_run_items(transaction, run_pk, run, [False] * len(lost))
    return lost


def retry_failures(transaction: Transaction, run_id: str) -> int:
    """Make failed items pending again. Returns their number."""
    (run_pk, _), _ = _lock(transaction, run_id)
    count = len(transaction.rows("retry_failed_items", {"run_pk": run_pk}))
    _apply_delta(transaction, run_pk, RunDelta(pending=count, failed=-count))
    return count


def run(transaction: Transaction, run_id: str) -> MapRun:
    """Load one run."""
    return _read_run(run_id, transaction.send("run", _run_parameters(run_id)))[1]


def run_plan(transaction: Transaction, run_id: str) -> str:
    """Load the plan of a run, "" if none was stored."""
    row = transaction.row("run_plan", _run_parameters(run_id))
    if row is None:
        raise RunNotFoundError(run_id)
    return "" if row[0] is None else bytes(row[0]).decode()


def runs(transaction: Transaction, limit: int) -> list[MapRun]:
    """Load runs, newest first."""
    return [_run_from_row(row) for row in transaction.rows("runs", {"limit": max(limit, 0)})]


def page_items(
    transaction: Transaction, run_id: str, after_index: int, limit: int, state: ItemState | None
) -> list[RunItem]:
    """Load items in order."""
    selected = _run_parameters(run_id)
    found = transaction.send("run", selected)
    parameters = selected | {"after_index": after_index, "limit": max(limit, 0)}
    if state is None:
        answer = transaction.send("run_items_page", parameters)
    else:
        answer = transaction.send("run_items_in_state", parameters | {"state": state})
    _read_run(run_id, found)
    return [_item_from_row(row) for row in answer.rows()]


def purge_run(transaction: Transaction, run_id: str) -> None:
    """Delete every row of a run."""
    (run_pk, _), _ = _lock(transaction, run_id)
    note_run_deleted(transaction)
    transaction.send("purge_run", {"run_pk": run_pk})


def _run_parameters(run_id: str) -> Parameters:
    if not is_storable_id(run_id):
        raise RunNotFoundError(run_id)
    return {"id": to_text(run_id)}


def _lock(
    transaction: Transaction, run_id: str, *statements: tuple[str, Parameters]
) -> tuple[tuple[int, MapRun], list[list[Row]]]:
    """Lock and load a run, and the rows of statements about it, in one round trip."""
    transaction.lock_run(run_id)
    selected = _run_parameters(run_id)
    found = transaction.send("run", selected)
    answers = [transaction.send(name, selected | parameters) for name, parameters in statements]
    stored = _read_run(run_id, found)
    transaction.read_number()
    return stored, [answer.rows() for answer in answers]


def _read_run(run_id: str, answer: Answer) -> tuple[int, MapRun]:
    row = answer.row()
    if row is None:
        raise RunNotFoundError(run_id)
    return row[0], _run_from_row(row)


def _run_from_row(row: Row) -> MapRun:
    usage = dict(zip(("input", "output", "cache_read", "cache_write", "total"), row[12:17], strict=True))
    fields: dict[str, Any] = dict(zip(_RUN_FIELDS, row[1:12], strict=True))
    fields.update((name, from_text(fields[name])) for name in _TEXT_FIELDS)
    return MapRun(usage=TokenUsage(**usage), cost=row[17], **fields)


def _item_from_row(row: Row) -> RunItem:
    index, text, state, claims, attempts, worker, lease_until, outcome = row
    return RunItem(
        index,
        text.decode(),
        state,
        claims,
        attempts,
        None if worker is None else from_text(worker),
        lease_until,
        None if outcome is None else outcome.decode(),
    )


def _apply_delta(transaction: Transaction, run_pk: int, delta: RunDelta) -> None:
    if delta == RunDelta():
        return
    counts = {name: getattr(delta, name) for name in ("pending", "running", "done", "failed", "attempts", "cost")}
    usage = {f"usage_{name}": count for name, count in delta.usage.model_dump().items()}
    transaction.send("move_run", {"run_pk": run_pk} | counts | usage)
