"""The verbs of map runs on SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.store.run_validation import check_spec, check_texts
from mnesis.store.sqlite import runs
from mnesis.store.sqlite.database import Database


class SqliteRuns:
    """`mnesis.store.run_store.RunStore` says what each verb does."""

    _database: Database
    _where: str

    async def begin_run(self, spec: RunSpec) -> tuple[MapRun, bool]:
        """See `RunStore.begin_run`."""
        check_spec(spec)
        return await self._database.write(runs.begin, spec, self._where)

    async def add_items(self, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
        """See `RunStore.add_items`."""
        check_texts(run_id, "", inputs)
        return await self._database.write(runs.add, run_id, first_index, inputs, self._where)

    async def seal_run(self, run_id: str, total: int) -> MapRun:
        """See `RunStore.seal_run`."""
        return await self._database.write(runs.seal, run_id, total, self._where)

    async def claim_items(
        self, run_id: str, worker: str, *, limit: int, now: int, lease_ms: int, max_claims: int
    ) -> list[RunItem]:
        """See `RunStore.claim_items`."""
        check_texts(run_id, worker)
        return await self._database.write(runs.claim, run_id, worker, limit, now, lease_ms, max_claims, self._where)

    async def renew_items(
        self, run_id: str, worker: str, indexes: Sequence[int], *, now: int, lease_ms: int
    ) -> list[int]:
        """See `RunStore.renew_items`."""
        check_texts(run_id, worker)
        return await self._database.write(runs.renew, run_id, worker, indexes, now, lease_ms, self._where)

    async def release_items(self, run_id: str, worker: str, indexes: Sequence[int]) -> None:
        """See `RunStore.release_items`."""
        check_texts(run_id, worker)
        await self._database.write(runs.release, run_id, worker, indexes, self._where)

    async def finish_items(self, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
        """See `RunStore.finish_items`."""
        check_texts(run_id, worker, [outcome.outcome for outcome in outcomes])
        return await self._database.write(runs.finish, run_id, worker, outcomes, self._where)

    async def give_up_items(self, run_id: str, *, now: int, max_claims: int, outcome: str) -> list[int]:
        """See `RunStore.give_up_items`."""
        check_texts(run_id, "", [outcome])
        return await self._database.write(runs.give_up, run_id, now, max_claims, outcome, self._where)

    async def retry_failed(self, run_id: str) -> int:
        """See `RunStore.retry_failed`."""
        return await self._database.write(runs.retry_failed, run_id, self._where)

    async def run(self, run_id: str) -> MapRun:
        """See `RunStore.run`."""
        return await self._database.read(runs.run, run_id, self._where)

    async def runs(self, *, limit: int = 100) -> list[MapRun]:
        """See `RunStore.runs`."""
        return await self._database.read(runs.runs, limit)

    async def run_items(
        self, run_id: str, *, after_index: int = -1, limit: int = 1_000, state: ItemState | None = None
    ) -> list[RunItem]:
        """See `RunStore.run_items`."""
        return await self._database.read(runs.items, run_id, after_index, limit, state, self._where)

    async def purge_run(self, run_id: str) -> None:
        """See `RunStore.purge_run`. Deleted bytes are overwritten, as those of a session are."""
        await self._database.write(runs.purge, run_id, self._where)
        await self._database.empty_journal()
