"""Copying the map runs of a damaged database: intact inputs, and intact outcomes of items."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce

from mnesis.errors import MnesisStoreError
from mnesis.models.run import ItemOutcome, MapRun, RunItem, RunSpec
from mnesis.models.usage import TokenUsage
from mnesis.store.chain import extend_chain
from mnesis.store.codec import DamagedValueError
from mnesis.store.run_hashes import hash_input, plan_head
from mnesis.store.sqlite.run_rows import item_from_row, stored_run
from mnesis.store.sqlite.salvage_reader import DamagedDatabase, Row
from mnesis.store.sqlite.store import SqliteStore

WORKER = "salvage"
LEASE_MS = 600_000
BATCH_ITEMS = 500


@dataclass(frozen=True, slots=True)
class SalvagedRun:
    """The result of copying a map run. A run is copied only with all of its inputs.

    `pending_items` are the indexes of items whose outcome is damaged, and that are pending in the copy.
    """

    run_id: str
    is_copied: bool
    item_count: int = 0
    pending_items: tuple[int, ...] = ()


async def copy_runs(database: DamagedDatabase, store: SqliteStore) -> tuple[SalvagedRun, ...]:
    """Copy every run whose row and inputs are intact, oldest first."""
    return tuple([await _copy_run(database, row, store) for row in database.rows("check_runs")])


async def _copy_run(database: DamagedDatabase, row: Row, store: SqliteStore) -> SalvagedRun:
    name = str(row[1])
    try:
        run = stored_run(row).run
        rows = database.rows("check_run_rows", {"run_pk": row[0]})
        inputs = [_input(name, index, item) for index, item in enumerate(rows)]
        if len(inputs) != run.item_count:
            raise DamagedValueError(f"the inputs of run {name!r}")
        plan = _intact_plan(database, row, [hash_input(name, index, text) for index, text in enumerate(inputs)])
        await store.begin_run(RunSpec(name, run.kind, run.fingerprint, run.model, run.created_at, plan))
    except (DamagedValueError, MnesisStoreError, TypeError, ValueError, AttributeError):
        return SalvagedRun(name, False)
    for start in range(0, len(inputs), BATCH_ITEMS):
        await store.add_items(name, start, inputs[start : start + BATCH_ITEMS])
    if run.total is not None:
        await store.seal_run(name, run.total)
    items = {index: _intact_item(name, item) for index, item in enumerate(rows)}
    await _copy_outcomes(store, run, items)
    return SalvagedRun(name, True, len(inputs), tuple(index for index, item in items.items() if item is None))


def _input(run_id: str, index: int, row: Row) -> str:
    """Return an input if it is intact. Raises `DamagedValueError`."""
    # The item may be damaged, so the input is checked with an item that has no hash.
    text = item_from_row(run_id, (*row[:8], None, None, row[10])).input
    if row[0] != index or not isinstance(text, str):
        raise DamagedValueError(f"input {index} of run {run_id!r}")
    return text


def _intact_plan(database: DamagedDatabase, row: Row, input_hashes: Iterable[bytes]) -> str:
    """Return the plan of a run, or "" if there is none or it is damaged."""
    plans = database.rows("run_plan", {"run_pk": row[0]})
    plan = plans[0][0] if plans and isinstance(plans[0][0], str) else ""
    return plan if row[19] is None or reduce(extend_chain, input_hashes, plan_head(plan)) == row[19] else ""


def _intact_item(run_id: str, row: Row) -> RunItem | None:
    with suppress(DamagedValueError, TypeError, ValueError, AttributeError):
        return item_from_row(run_id, row)
    return None


async def _copy_outcomes(store: SqliteStore, run: MapRun, items: dict[int, RunItem | None]) -> None:
    sums: tuple[TokenUsage, float] | None = (run.usage, run.cost)
    unfinished: list[int] = []
    while claimed := await store.claim_items(
        run.id, WORKER, limit=BATCH_ITEMS, now_ms=LEASE_MS, lease_ms=LEASE_MS, max_claims=2**31
    ):
        outcomes: list[ItemOutcome] = []
        for each in claimed:
            item = items.get(each.index)
            if item is None or item.outcome is None or item.state not in ("done", "failed"):
                unfinished.append(each.index)
                continue
            # The target stores usage per run only, so the first outcome contains it.
            usage, cost = sums or (TokenUsage(), 0.0)
            sums = None
            outcomes.append(ItemOutcome(each.index, item.state, item.outcome, item.attempts, usage, cost))
        await store.finish_items(run.id, WORKER, outcomes)
    await store.release_items(run.id, WORKER, unfinished)
