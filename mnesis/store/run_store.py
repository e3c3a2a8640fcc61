"""The part of the store protocol for map runs. Each verb is one transaction; see `mnesis.store.base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec


class RunStore(Protocol):
    """Storage for map runs. Every verb on an unknown run raises `RunNotFoundError`.

    Times are milliseconds since 1970. The caller passes the current time, so that leases can be tested.
    """

    async def begin_run(self, spec: RunSpec) -> tuple[MapRun, bool]:
        """Store a new run, or return the existing one with this id. Returns whether it was created.

        Raises `RunMismatchError` if the existing run has another kind or fingerprint.
        """
        ...

    async def add_items(self, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
        """Store inputs (JSON texts) from `first_index` on and return how many were new. Repeating it is safe.

        Indexes are dense and start at 0. Raises `RunMismatchError` and writes nothing if an index already has a
        different input, or if there would be a gap.
        """
        ...

    async def seal_run(self, run_id: str, total: int) -> MapRun:
        """Declare that all `total` inputs are stored. Repeating it is safe.

        Raises `RunMismatchError` if another total was declared, or if another number of inputs is stored.
        """
        ...

    async def claim_items(
        self, run_id: str, worker: str, *, limit: int, now_ms: int, lease_ms: int, max_claims: int
    ) -> list[RunItem]:
        """Claim up to `limit` items, lowest index first: pending items and items whose lease has ended.

        Only one worker holds an item at a time. Items that were claimed `max_claims` times are not claimed again; see
        `give_up_items`.
        """
        ...

    async def renew_items(
        self, run_id: str, worker: str, indexes: Sequence[int], *, now_ms: int, lease_ms: int
    ) -> list[int]:
        """Extend the leases of items that this worker still holds, and return their indexes.

        `lease_ms=0` ends the leases at `now_ms`, for a worker that is known to be dead.
        """
        ...

    async def release_items(self, run_id: str, worker: str, indexes: Sequence[int]) -> None:
        """Return items unfinished. They are pending again, and the claim does not count. Ignores items of other
        workers.
        """
        ...

    async def finish_items(self, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
        """Store the outcomes of items that this worker holds, and return the accepted indexes.

        An item whose lease ended is accepted if no other worker has claimed it since. Final states never change.
        """
        ...

    async def give_up_items(self, run_id: str, *, now_ms: int, max_claims: int, outcome: str) -> list[int]:
        """Fail items whose lease has ended after `max_claims` claims, with `outcome`. Returns their indexes."""
        ...

    async def retry_failures(self, run_id: str) -> int:
        """Make failed items pending again, with no claims. Returns their number."""
        ...

    async def run(self, run_id: str) -> MapRun:
        """Return the state of one run. The cost does not grow with the number of items."""
        ...

    async def run_plan(self, run_id: str) -> str:
        """Return the plan that was stored with a run; "" if there is none."""
        ...

    async def runs(self, *, limit: int = 100) -> list[MapRun]:
        """Return runs, newest first."""
        ...

    async def run_items(
        self, run_id: str, *, after_index: int = -1, limit: int = 1_000, state: ItemState | None = None
    ) -> list[RunItem]:
        """Return the items with index > after_index in order, at most `limit`, of one state if given."""
        ...

    async def purge_run(self, run_id: str) -> None:
        """Erase a run and its items."""
        ...
