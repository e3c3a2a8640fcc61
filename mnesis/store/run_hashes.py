"""The hashes of map runs, their plans, inputs and items. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnesis.store.chain import EMPTY_HEAD, encode_record, extend_chain, hash_bytes

Row = Sequence[Any]


def hash_run(row: Row) -> bytes:
    """Compute the hash of a run from its row."""
    return hash_bytes(encode_record("run", *row[1:17], float(row[17]), row[18], row[19] or EMPTY_HEAD))


def plan_head(plan: str) -> bytes:
    """Return the head of the chain of inputs before the first one. It covers the plan of the run ("" for none)."""
    return extend_chain(EMPTY_HEAD, encode_record("plan", plan)) if plan else EMPTY_HEAD


def hash_input(run_id: str, index: int, text: str) -> bytes:
    """Return the hash of an input."""
    return hash_bytes(encode_record("input", run_id, index, text))


def hash_item(run_id: str, row: Row) -> bytes:
    """Return the hash of an item: index, state, claims, attempts, worker, end of the lease and outcome."""
    return hash_bytes(encode_record("item", run_id, *row[:7]))
