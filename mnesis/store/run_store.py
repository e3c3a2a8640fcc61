"""The part of the store protocol that keeps map runs. Each verb is one transaction; see `mnesis.store.base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec


class RunStore(Protocol):
    """A place where map runs are kept. Every verb on an unknown run raises `RunNotFoundError`.

    Times are milliseconds since 1970 and come from the caller, so that leases can be tested.
    """

    async def begin_run(self, spec: RunSpec) -> tuple[MapRun, bool]:
        """Store a new run, or return the one of this id; True if it was created now. Raises `RunMismatchError` if the
        one that is there has another kind or fingerprint."""
        ...

    async def add_items(self, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
        """Store inputs (JSON texts) from `first_index` on; how many were new. Indexes are dense from 0. Repeating it is
        safe; another input at an index that is taken, or a gap, raises `RunMismatchError` with nothing written."""
        ...

    async def seal_run(self, run_id: str, total: int) -> MapRun:
        """Say that there are `total` inputs, all stored. Repeating it is safe; raises `RunMismatchError` for another
        total, or one that differs from what is stored."""
        ...

    async def claim_items(
        self, run_id: str, worker: str, *, limit: int, now: int, lease_ms: int, max_claims: int
    ) -> list[RunItem]:
        """Take up to `limit` items, lowest index first: pending ones and those whose lease has ended. No two workers hold
        one item at a time. Items that were claimed `max_claims` times and never finished are not given out; see
        `give_up_items`."""
        ...

    async def renew_items(
        self, run_id: str, worker: str, indexes: Sequence[int], *, now: int, lease_ms: int
    ) -> list[int]:
        """Prolong the leases of items this worker still holds; the indexes it still holds. `lease_ms=0` ends them at `now`,
        for a worker that is known to be dead."""
        ...

    async def release_items(self, run_id: str, worker: str, indexes: Sequence[int]) -> None:
        """Give items back unfinished: pending again, the claim not counted. Those held by others are left alone."""
        ...

    async def finish_items(self, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
        """Store what came of items this worker holds (also after the lease ended, if nobody took them since); the indexes
        that were accepted. Final states never change."""
        ...

    async def give_up_items(self, run_id: str, *, now: int, max_claims: int, outcome: str) -> list[int]:
        """Fail items whose lease has ended and that were claimed `max_claims` times, with `outcome`; their indexes."""
        ...

    async def retry_failed(self, run_id: str) -> int:
        """Make failed items pending again, claims forgotten; how many."""
        ...

    async def run(self, run_id: str) -> MapRun:
        """The state of one run. Its cost does not grow with the number of items."""
        ...

    async def runs(self, *, limit: int = 100) -> list[MapRun]:
        """Runs, newest first."""
        ...

    async def run_items(
        self, run_id: str, *, after_index: int = -1, limit: int = 1_000, state: ItemState | None = None
    ) -> list[RunItem]:
        """Items with index > after_index in order, at most `limit`, of one state if given."""
        ...

    async def purge_run(self, run_id: str) -> None:
        """Erase a run and its items."""
        ...
