"""The SQLite store's verbs for map runs."""

from __future__ import annotations

from collections.abc import Sequence

from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.store.run_validation import check_spec, check_texts
from mnesis.store.sqlite import runs
from mnesis.store.sqlite.database import Database


class SqliteRunStore:
    """Map runs in an SQLite database. `mnesis.store.run_store.RunStore` documents the verbs."""

    _database: Database

    async def begin_run(self, spec: RunSpec) -> tuple[MapRun, bool]:
        """See `RunStore.begin_run`."""
        check_spec(spec)
        return await self._database.write(runs.begin_run, spec)

    async def add_items(self, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
        """See `RunStore.add_items`."""
        check_texts(run_id, "", inputs)
        return await self._database.write(runs.add_inputs, run_id, first_index, inputs)

    async def seal_run(self, run_id: str, total: int) -> MapRun:
        """See `RunStore.seal_run`."""
        return await self._database.write(runs.seal_run, run_id, total)

    async def claim_items(
        self, run_id: str, worker: str, *, limit: int, now_ms: int, lease_ms: int, max_claims: int
    ) -> list[RunItem]:
        """See `RunStore.claim_items`."""
        check_texts(run_id, worker)
        return await self._database.write(runs.claim_items, run_id, worker, limit, now_ms, lease_ms, max_claims)

    async def renew_items(
        self, run_id: str, worker: str, indexes: Sequence[int], *, now_ms: int, lease_ms: int
    ) -> list[int]:
        """See `RunStore.renew_items`."""
        check_texts(run_id, worker)
        return await self._database.write(runs.renew_items, run_id, worker, indexes, now_ms, lease_ms)

    async def release_items(self, run_id: str, worker: str, indexes: Sequence[int]) -> None:
        """See `RunStore.release_items`."""
        check_texts(run_id, worker)
        await self._database.write(runs.release_items, run_id, worker, indexes)

    async def finish_items(self, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
        """See `RunStore.finish_items`."""
        check_texts(run_id, worker, [outcome.outcome for outcome in outcomes])
        return await self._database.write(runs.finish_items, run_id, worker, outcomes)

    async def give_up_items(self, run_id: str, *, now_ms: int, max_claims: int, outcome: str) -> list[int]:
        """See `RunStore.give_up_items`."""
        check_texts(run_id, "", [outcome])
        return await self._database.write(runs.give_up_items, run_id, now_ms, max_claims, outcome)

    async def retry_failures(self, run_id: str) -> int:
        """See `RunStore.retry_failures`."""
        return await self._database.write(runs.retry_failures, run_id)

    async def run(self, run_id: str) -> MapRun:
        """See `RunStore.run`."""
        return await self._database.read(runs.run, run_id)

    async def run_plan(self, run_id: str) -> str:
        """See `RunStore.run_plan`."""
        return await self._database.read(runs.run_plan, run_id)

    async def runs(self, *, limit: int = 100) -> list[MapRun]:
        """See `RunStore.runs`."""
        return await self._database.read(runs.runs, limit)

    async def run_items(
        self, run_id: str, *, after_index: int = -1, limit: int = 1_000, state: ItemState | None = None
    ) -> list[RunItem]:
        """See `RunStore.run_items`."""
        return await self._database.read(runs.page_items, run_id, after_index, limit, state)

    async def purge_run(self, run_id: str) -> None:
        """See `RunStore.purge_run`. Overwrites the deleted bytes, as `purge` does."""
        await self._database.write(runs.purge_run, run_id)
        await self._database.checkpoint_wal()
