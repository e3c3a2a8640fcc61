"""Rows of map runs and their items: check them against their hashes, and write them with new hashes and seals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnesis.errors import RunNotFoundError
from mnesis.models.run import ItemState, MapRun, RunItem
from mnesis.models.usage import TokenUsage
from mnesis.store.chain import EMPTY_HEAD, extend_chain, seal
from mnesis.store.codec import DamagedValueError
from mnesis.store.postgres.rows import Parameters, Row, from_text, is_storable_id, to_text
from mnesis.store.postgres.transaction import Answer, Transaction
from mnesis.store.run_hashes import hash_input, hash_item, hash_run
from mnesis.store.run_validation import RunDelta
from mnesis.store.seals import refuse_unsealed

_RUN_FIELDS = (
    *("id", "kind", "fingerprint", "model", "created_at", "total"),
    *("pending", "running", "done", "failed", "attempts"),
)
_USAGE = ("input", "output", "cache_read", "cache_write", "total")


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run and the key of its rows."""

    pk: int
    run: MapRun
    input_head: bytes
    hash: bytes | None
    seal: bytes | None

    def computed_hash(self) -> bytes:
        """Compute its hash from its other columns."""
        run = self.run
        values = [getattr(run, name) for name in _RUN_FIELDS]
        usage = [getattr(run.usage, name) for name in _USAGE]
        # 0 is the sum of row numbers of changes, which only SQLite files keep.
        return hash_run((self.pk, *values, *usage, run.cost, 0, self.input_head))


@dataclass(frozen=True, slots=True)
class StoredItem:
    """The state of an item, without its input."""

    index: int
    state: ItemState
    claims: int
    attempts: int
    worker: str | None
    lease_until: int | None
    outcome: str | None

    def hash(self, run_id: str) -> bytes:
        """Compute its hash."""
        values = (self.index, self.state, self.claims, self.attempts, self.worker, self.lease_until, self.outcome)
        return hash_item(run_id, values)


def run_parameters(run_id: str) -> Parameters:
    """Return the parameter that selects a run. Raises `RunNotFoundError` for an id that no run can have."""
    if not is_storable_id(run_id):
        raise RunNotFoundError(run_id)
    return {"id": to_text(run_id)}


def lock_run(
    transaction: Transaction, run_id: str, *statements: tuple[str, Parameters]
) -> tuple[StoredRun, list[list[Row]]]:
    """Lock and load a run, and the rows of statements about it, in one round trip.

    Raises `RunNotFoundError`, `DamagedValueError`, and `IntegrityKeyError` if its seal was made with another key.
    """
    transaction.lock_run(run_id)
    selected = run_parameters(run_id)
    found = transaction.send("run", selected)
    answers = [transaction.send(name, selected | parameters) for name, parameters in statements]
    stored = read_run(run_id, found)
    transaction.read_number()
    refuse_unsealed(transaction.key, stored.hash or b"", stored.seal, f"run {run_id!r}")
    return stored, [answer.rows() for answer in answers]


def read_run(run_id: str, answer: Answer) -> StoredRun:
    """Return the run in an answer. Raises `RunNotFoundError`, and `DamagedValueError` if the run has changed."""
    row = answer.row()
    if row is None:
        raise RunNotFoundError(run_id)
    return intact_run(row)


def intact_run(row: Row) -> StoredRun:
    """Convert a row of a statement that reads runs. Raises `DamagedValueError` if the run has changed."""
    stored = run_from_row(row)
    if stored.hash != stored.computed_hash():
        raise DamagedValueError(f"run {stored.run.id!r}")
    return stored


def run_from_row(row: Row) -> StoredRun:
    """Convert a row of a statement that reads runs. Raises `DamagedValueError` if a value is impossible."""
    fields: dict[str, Any] = dict(zip(_RUN_FIELDS, row[1:12], strict=True))
    fields.update((name, from_text(fields[name])) for name in ("id", "kind", "fingerprint", "model"))
    try:
        usage = TokenUsage(**dict(zip(_USAGE, row[12:17], strict=True)))
    except ValueError as error:
        raise DamagedValueError(f"run {fields['id']!r}") from error
    return StoredRun(row[0], MapRun(usage=usage, cost=row[17], **fields), row[18] or EMPTY_HEAD, row[19], row[20])


def save_run(
    transaction: Transaction,
    stored: StoredRun,
    delta: RunDelta | None = None,
    *,
    input_head: bytes | None = None,
    total: int | None = None,
) -> StoredRun:
    """Write the counts of a locked run, with its new hash and seal. Returns the written run. None keeps a value."""
    delta, run = delta or RunDelta(), stored.run
    after = replace(
        run,
        total=run.total if total is None else total,
        cost=run.cost + delta.cost,
        usage=run.usage + delta.usage,
        **{name: getattr(run, name) + getattr(delta, name) for name in _RUN_FIELDS[6:]},
    )
    saved = StoredRun(stored.pk, after, input_head or stored.input_head, None, None)
    row_hash = saved.computed_hash()
    sealed = None if transaction.key is None else seal(transaction.key, row_hash)
    values = {name: getattr(after, name) for name in ("total", "cost", *_RUN_FIELDS[6:])}
    usage = {f"usage_{name}": getattr(after.usage, name) for name in _USAGE}
    hashes = {"input_head": saved.input_head, "hash": row_hash, "seal": sealed}
    transaction.send("save_run", {"run_pk": stored.pk} | values | usage | hashes)
    return replace(saved, hash=row_hash, seal=sealed)


def insert_items(transaction: Transaction, stored: StoredRun, first_index: int, texts: Sequence[str]) -> bytes:
    """Insert pending items with their inputs. Returns the new head of the chain of inputs."""
    run_id, head = stored.run.id, stored.input_head
    items = [StoredItem(index, "pending", 0, 0, None, None, None) for index, _ in enumerate(texts, first_index)]
    input_hashes = [hash_input(run_id, item.index, text) for item, text in zip(items, texts, strict=True)]
    for each in input_hashes:
        head = extend_chain(head, each)
    indexes = [item.index for item in items]
    inputs = {"inputs": [text.encode() for text in texts], "hashes": input_hashes}
    transaction.send("insert_run_inputs", {"run_pk": stored.pk, "indexes": indexes} | inputs)
    transaction.send("insert_run_items", {"run_pk": stored.pk, "indexes": indexes} | _seals(transaction, run_id, items))
    return head


def save_items(transaction: Transaction, stored: StoredRun, items: Sequence[StoredItem]) -> None:
    """Write the states of items of a locked run, with their new hashes and seals, in one statement."""
    if not items:
        return
    columns: Parameters = {
        "run_pk": stored.pk,
        "indexes": [item.index for item in items],
        "states": [item.state for item in items],
        "claims": [item.claims for item in items],
        "attempts": [item.attempts for item in items],
        "workers": [None if item.worker is None else to_text(item.worker) for item in items],
        "leases": [item.lease_until for item in items],
        "outcomes": [None if item.outcome is None else item.outcome.encode() for item in items],
    }
    transaction.send("save_run_items", columns | _seals(transaction, stored.run.id, items))


def _seals(transaction: Transaction, run_id: str, items: Sequence[StoredItem]) -> Parameters:
    hashes = [item.hash(run_id) for item in items]
    key = transaction.key
    return {"hashes": hashes, "seals": [None if key is None else seal(key, each) for each in hashes]}


def items_by_index(run_id: str, rows: Sequence[Row]) -> Mapping[int, StoredItem]:
    """Convert rows of statements that read states of items. Raises `DamagedValueError` if an item has changed."""
    return {row[0]: _intact_item(run_id, row) for row in rows}


def run_item_from_row(run_id: str, row: Row) -> RunItem:
    """Convert a row of a statement that reads items with their inputs. Raises `DamagedValueError`."""
    index, text, *state, item_hash, input_hash = row
    item = _intact_item(run_id, (index, *state, item_hash))
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        decoded = None
    if decoded is None or input_hash != hash_input(run_id, index, decoded):
        raise DamagedValueError(f"input {index} of run {run_id!r}")
    return RunItem(index, decoded, item.state, item.claims, item.attempts, item.worker, item.lease_until, item.outcome)


def _intact_item(run_id: str, row: Row) -> StoredItem:
    item = item_from_row(row)
    if item is None or row[7] != item.hash(run_id):
        raise DamagedValueError(f"item {row[0]} of run {run_id!r}")
    return item


def item_from_row(row: Row) -> StoredItem | None:
    """Convert a row of a statement that reads states of items, or return None if its outcome is not UTF-8."""
    index, state, claims, attempts, worker, lease_until, outcome, *_ = row
    try:
        text = None if outcome is None else outcome.decode()
    except UnicodeDecodeError:
        return None
    return StoredItem(index, state, claims, attempts, None if worker is None else from_text(worker), lease_until, text)
