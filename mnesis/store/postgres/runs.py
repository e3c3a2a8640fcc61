"""Transactions on map runs. The counts of a run change together with the states of its items, under the lock of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mnesis.errors import RunNotFoundError
from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.store.chain import seal
from mnesis.store.postgres.changes import note_run_completed, note_run_deleted, note_run_items, note_run_started
from mnesis.store.postgres.rows import Parameters, to_text
from mnesis.store.postgres.run_rows import (
    StoredItem,
    StoredRun,
    insert_items,
    intact_run,
    items_by_index,
    lock_run,
    read_run,
    run_item_from_row,
    run_parameters,
    save_items,
    save_run,
)
from mnesis.store.postgres.transaction import Transaction
from mnesis.store.run_hashes import plan_head
from mnesis.store.run_validation import (
    RunDelta,
    completion_delta,
    refuse_changed_inputs,
    refuse_misplaced_inputs,
    refuse_other_run,
    refuse_wrong_total,
)


def begin_run(transaction: Transaction, spec: RunSpec) -> tuple[MapRun, bool]:
    """Insert a run, or load the existing one with its id. Returns whether it was inserted."""
    texts = {name: getattr(spec, name) for name in ("id", "kind", "fingerprint", "model")}
    new = StoredRun(0, MapRun(created_at=spec.created_at, **texts), plan_head(spec.plan), None, None)
    row_hash = new.computed_hash()
    parameters: Parameters = {name: to_text(text) for name, text in texts.items()}
    hashes = {
        "input_head": new.input_head,
        "hash": row_hash,
        "seal": None if transaction.key is None else seal(transaction.key, row_hash),
    }
    inserted = transaction.row("insert_run", parameters | hashes | {"created_at": spec.created_at})
    transaction.ask_number()
    transaction.read_number()
    if inserted is None:
        run = read_run(spec.id, transaction.send("run", {"id": to_text(spec.id)})).run
        refuse_other_run(spec, run)
        return run, False
    if spec.plan:
        transaction.send("insert_run_plan", {"run_pk": inserted[0], "plan": spec.plan.encode()})
    note_run_started(transaction, inserted[0], new.run)
    return new.run, True


def add_inputs(transaction: Transaction, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
    """Store the inputs that are not stored yet. Returns their number."""
    span = {"first_index": first_index, "last_index": first_index + len(inputs) - 1}
    stored, (rows,) = lock_run(transaction, run_id, ("run_inputs", span))
    refuse_misplaced_inputs(stored.run, first_index, len(inputs))
    known = [text.decode() for (text,) in rows]
    refuse_changed_inputs(stored.run, first_index, known, inputs)
    new = inputs[len(known) :]
    if new:
        input_head = insert_items(transaction, stored, first_index + len(known), new)
        save_run(transaction, stored, RunDelta(pending=len(new)), input_head=input_head)
    return len(new)


def seal_run(transaction: Transaction, run_id: str, total: int) -> MapRun:
    """Store the total number of inputs."""
    stored, _ = lock_run(transaction, run_id)
    run = stored.run
    refuse_wrong_total(run, total)
    if run.total is None and run.done + run.failed == total:
        note_run_completed(transaction, stored.pk, total)
    return save_run(transaction, stored, total=total).run


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
    stored, (rows,) = lock_run(transaction, run_id, ("run_items_to_claim", candidates))
    waiting = [run_item_from_row(run_id, row) for row in rows]
    if not waiting:
        return []
    until = now_ms + lease_ms
    claimed = [
        replace(item, state="running", claims=item.claims + 1, worker=worker, lease_until=until) for item in waiting
    ]
    states = [StoredItem(i.index, i.state, i.claims, i.attempts, i.worker, i.lease_until, i.outcome) for i in claimed]
    save_items(transaction, stored, states)
    pending_count = sum(1 for item in waiting if item.state == "pending")
    save_run(transaction, stored, RunDelta(pending=-pending_count, running=pending_count))
    return claimed


def renew_items(
    transaction: Transaction,
    run_id: str,
    worker: str,
    indexes: Sequence[int],
    now_ms: int,
    lease_ms: int,
) -> list[int]:
    """Extend the leases of a worker, or end them."""
    stored, held = _lock_held_items(transaction, run_id, worker, indexes)
    until = now_ms + lease_ms
    renewed = [
        replace(item, lease_until=until if lease_ms == 0 else max(item.lease_until or 0, until))
        for item in held.values()
    ]
    save_items(transaction, stored, renewed)
    return [index for index in indexes if index in held]


def release_items(transaction: Transaction, run_id: str, worker: str, indexes: Sequence[int]) -> None:
    """Return items to the pending state."""
    stored, held = _lock_held_items(transaction, run_id, worker, indexes)
    released = [
        replace(item, state="pending", claims=item.claims - 1, worker=None, lease_until=None) for item in held.values()
    ]
    save_items(transaction, stored, released)
    if released:
        save_run(transaction, stored, RunDelta(pending=len(released), running=-len(released)))


def finish_items(transaction: Transaction, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
    """Store the outcomes of items. Returns the accepted indexes."""
    stored, held = _lock_held_items(transaction, run_id, worker, [each.index for each in outcomes])
    accepted: dict[int, ItemOutcome] = {}
    for outcome in outcomes:
        if outcome.index in held:
            accepted.setdefault(outcome.index, outcome)
    save_items(transaction, stored, [_finish(held[index], outcome) for index, outcome in accepted.items()])
    if accepted:
        save_run(transaction, stored, completion_delta(list(accepted.values())))
    note_run_items(transaction, stored.pk, stored.run, [each.state == "done" for each in accepted.values()])
    return list(accepted)


def _finish(item: StoredItem, outcome: ItemOutcome) -> StoredItem:
    attempts = item.attempts + outcome.attempts
    return StoredItem(item.index, outcome.state, item.claims, attempts, None, None, outcome.outcome)


def give_up_items(transaction: Transaction, run_id: str, now_ms: int, max_claims: int, outcome: str) -> list[int]:
    """Fail abandoned items that may not be claimed again. Returns their indexes."""
    parameters: Parameters = {"now": now_ms, "max_claims": max_claims}
    stored, (rows,) = lock_run(transaction, run_id, ("run_items_lost", parameters))
    lost = items_by_index(run_id, rows)
    if lost:
        failed = [
            replace(item, state="failed", worker=None, lease_until=None, outcome=outcome) for item in lost.values()
        ]
        save_items(transaction, stored, failed)
        save_run(transaction, stored, RunDelta(running=-len(lost), failed=len(lost)))
        note_run_items(transaction, stored.pk, stored.run, [False] * len(lost))
    return list(lost)


def retry_failures(transaction: Transaction, run_id: str) -> int:
    """Make failed items pending again. Returns their number."""
    stored, (rows,) = lock_run(transaction, run_id, ("run_items_failed", {}))
    failed = items_by_index(run_id, rows)
    save_items(
        transaction, stored, [replace(item, state="pending", claims=0, outcome=None) for item in failed.values()]
    )
    if failed:
        save_run(transaction, stored, RunDelta(pending=len(failed), failed=-len(failed)))
    return len(failed)


def run(transaction: Transaction, run_id: str) -> MapRun:
    """Load one run."""
    return read_run(run_id, transaction.send("run", run_parameters(run_id))).run


def run_plan(transaction: Transaction, run_id: str) -> str:
    """Load the plan of a run, "" if none was stored."""
    row = transaction.row("run_plan", run_parameters(run_id))
    if row is None:
        raise RunNotFoundError(run_id)
    return "" if row[0] is None else bytes(row[0]).decode()


def runs(transaction: Transaction, limit: int) -> list[MapRun]:
    """Load runs, newest first."""
    return [intact_run(row).run for row in transaction.rows("runs", {"limit": max(limit, 0)})]


def page_items(
    transaction: Transaction, run_id: str, after_index: int, limit: int, state: ItemState | None
) -> list[RunItem]:
    """Load items in order."""
    selected = run_parameters(run_id)
    found = transaction.send("run", selected)
    parameters = selected | {"after_index": after_index, "limit": max(limit, 0)}
    if state is None:
        answer = transaction.send("run_items_page", parameters)
    else:
        answer = transaction.send("run_items_in_state", parameters | {"state": state})
    read_run(run_id, found)
    return [run_item_from_row(run_id, row) for row in answer.rows()]


def purge_run(transaction: Transaction, run_id: str) -> None:
    """Delete every row of a run."""
    stored, _ = lock_run(transaction, run_id)
    note_run_deleted(transaction)
    transaction.send("purge_run", {"run_pk": stored.pk})


def _lock_held_items(
    transaction: Transaction, run_id: str, worker: str, indexes: Sequence[int]
) -> tuple[StoredRun, dict[int, StoredItem]]:
    """Lock a run, and load the given items that a worker holds."""
    stored, (rows,) = lock_run(transaction, run_id, ("run_item_states", {"indexes": list(indexes)}))
    items = items_by_index(run_id, rows)
    held = {index: item for index, item in items.items() if item.state == "running" and item.worker == worker}
    return stored, held
