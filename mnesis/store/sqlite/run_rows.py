"""Rows of map runs and their items: load, check against their hashes, and save with new hashes and seals."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mnesis.errors import RunNotFoundError
from mnesis.models.run import MapRun, RunItem
from mnesis.models.usage import TokenUsage
from mnesis.store.chain import EMPTY_HEAD, extend_chain, seal
from mnesis.store.codec import DamagedValueError
from mnesis.store.run_hashes import hash_input, hash_item, hash_run
from mnesis.store.seals import refuse_unsealed
from mnesis.store.sqlite.accounts import key_of
from mnesis.store.sqlite.queries import sql

Row = tuple[Any, ...]

_RUN_FIELDS = (
    *("id", "kind", "fingerprint", "model", "created_at", "total"),
    *("pending", "running", "done", "failed", "attempts"),
)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run, the key of its rows, and its row in the order of the statement `run`."""

    pk: int
    run: MapRun
    row: Row

    @property
    def input_head(self) -> bytes:
        """The head of the chain of its inputs."""
        return self.row[19] or EMPTY_HEAD

    @property
    def hash(self) -> bytes | None:
        """The stored hash; None if an older release wrote the run."""
        stored: bytes | None = self.row[20]
        return stored

    @property
    def seal(self) -> bytes | None:
        """The stored seal; None without a key."""
        stored: bytes | None = self.row[21]
        return stored


def load_run(connection: sqlite3.Connection, run_id: str) -> StoredRun:
    """Load a run by id. Raises `RunNotFoundError`, and `DamagedValueError` if the run has changed."""
    try:
        row = connection.execute(sql("run"), {"id": run_id}).fetchone()
    except UnicodeEncodeError:
        row = None
    if row is None:
        raise RunNotFoundError(run_id)
    return stored_run(row)


def load_run_for_update(connection: sqlite3.Connection, run_id: str) -> StoredRun:
    """Load a run by id in order to change it.

    Raises the errors of `load_run`, and `IntegrityKeyError` if its seal was made with a different key than the
    connection's.
    """
    stored = load_run(connection, run_id)
    refuse_unsealed(key_of(connection), stored.hash or b"", stored.seal, f"run {run_id!r}")
    return stored


def stored_run(row: Row) -> StoredRun:
    """Convert a row of the statements that read runs. Raises `DamagedValueError`."""
    if row[20] is not None and row[20] != hash_run(row):
        raise DamagedValueError(f"run {row[1]!r}")
    usage = dict(zip(("input", "output", "cache_read", "cache_write", "total"), row[12:17], strict=True))
    fields = dict(zip(_RUN_FIELDS, row[1:12], strict=True))
    return StoredRun(row[0], MapRun(usage=TokenUsage(**usage), cost=row[17], **fields), row)


def save_run_hash(connection: sqlite3.Connection, run_id: str, input_head: bytes) -> MapRun:
    """Write the hash and the seal of a run after its other columns changed. Returns the run."""
    row = connection.execute(sql("run"), {"id": run_id}).fetchone()
    key, row_hash = key_of(connection), hash_run((*row[:19], input_head))
    sealed = None if key is None else seal(key, row_hash)
    parameters = {"run_pk": row[0], "input_head": input_head, "hash": row_hash, "seal": sealed}
    connection.execute(sql("save_run_hash"), parameters)
    return stored_run((*row[:19], input_head, row_hash, sealed)).run


def insert_items(connection: sqlite3.Connection, stored: StoredRun, items: Sequence[tuple[int, str]]) -> bytes:
    """Insert pending items with their inputs. Returns the new head of the chain of inputs."""
    run_id, key, head = stored.run.id, key_of(connection), stored.input_head
    for index, text in items:
        input_hash = hash_input(run_id, index, text)
        head = extend_chain(head, input_hash)
        connection.execute(sql("insert_run_input"), (stored.pk, index, text, input_hash))
        item_hash = hash_item(run_id, (index, "pending", 0, 0, None, None, None))
        sealed = None if key is None else seal(key, item_hash)
        connection.execute(sql("insert_run_item"), (stored.pk, index, item_hash, sealed))
    return head


class ItemRow(NamedTuple):
    """The fields of an item that may change, in the order of its columns."""

    item_index: int
    state: str
    claims: int
    attempts: int
    worker: str | None
    lease_until: int | None
    outcome: str | None


def load_item(connection: sqlite3.Connection, stored: StoredRun, index: int) -> ItemRow | None:
    """Load an item in order to change it, or return None if there is none.

    Raises `DamagedValueError` if it is damaged, because a new hash would hide that.
    """
    row = connection.execute(sql("run_item"), (stored.pk, index)).fetchone()
    if row is None:
        return None
    _refuse_damaged_item(stored.run.id, row)
    return ItemRow(*row[:7])


def load_held_item(connection: sqlite3.Connection, stored: StoredRun, worker: str, index: int) -> ItemRow | None:
    """Load an item in order to change it, or return None if the worker does not hold it. Raises `DamagedValueError`."""
    item = load_item(connection, stored, index)
    return item if item is not None and (item.state, item.worker) == ("running", worker) else None


def save_item(connection: sqlite3.Connection, stored: StoredRun, item: ItemRow) -> None:
    """Write a changed item with its new hash and seal."""
    index, *changed = item
    key, item_hash = key_of(connection), hash_item(stored.run.id, item)
    sealed = None if key is None else seal(key, item_hash)
    connection.execute(sql("save_run_item"), (*changed, item_hash, sealed, stored.pk, index))


def item_from_row(run_id: str, row: Row) -> RunItem:
    """Convert a row of a statement that reads items with their inputs. Raises `DamagedValueError`."""
    index, text, *state, item_hash, _, input_hash = row
    _refuse_damaged_item(run_id, (index, *state, item_hash))
    if input_hash is not None and input_hash != hash_input(run_id, index, text):
        raise DamagedValueError(f"input {index} of run {run_id!r}")
    return RunItem(index, text, *state)


def _refuse_damaged_item(run_id: str, row: Row) -> None:
    if row[7] is not None and row[7] != hash_item(run_id, row):
        raise DamagedValueError(f"item {row[0]} of run {run_id!r}")
