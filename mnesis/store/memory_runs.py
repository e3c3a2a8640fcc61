"""The in-memory store's verbs for map runs: the same rules in plain Python."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice

from mnesis.errors import RunNotFoundError
from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.store.memory_changes import InMemoryChanges
from mnesis.store.run_validation import (
    RunDelta,
    check_spec,
    check_texts,
    completion_delta,
    refuse_changed_inputs,
    refuse_misplaced_inputs,
    refuse_other_run,
    refuse_wrong_total,
)


@dataclass(slots=True)
class _Run:
    record: MapRun
    plan: str = ""
    items: list[RunItem] = field(default_factory=list)
    pending_heap: list[int] = field(default_factory=list)  # a heap: the lowest index is claimed first
    running: set[int] = field(default_factory=set)

    def holds(self, worker: str, index: int) -> bool:
        return index in self.running and self.items[index].worker == worker

    def expired_indexes(self, now: int) -> list[int]:
        return sorted(index for index in self.running if (self.items[index].lease_until or 0) <= now)

    def claim(self, index: int, worker: str, lease_until: int) -> RunItem:
        item = self.items[index]
        self.items[index] = replace(
            item, state="running", claims=item.claims + 1, worker=worker, lease_until=lease_until
        )
        self.running.add(index)
        return self.items[index]

    def requeue(self, item: RunItem) -> None:
        self.items[item.index] = replace(item, state="pending", worker=None, lease_until=None, outcome=None)
        self.running.discard(item.index)
        heapq.heappush(self.pending_heap, item.index)

    def finish(self, index: int, state: ItemState, outcome: str, attempts: int) -> None:
        item = self.items[index]
        self.items[index] = replace(
            item, state=state, attempts=item.attempts + attempts, worker=None, lease_until=None, outcome=outcome
        )
        self.running.discard(index)

    def apply(self, delta: RunDelta) -> None:
        run = self.record
        self.record = replace(
            run,
            pending=run.pending + delta.pending,
            running=run.running + delta.running,
            done=run.done + delta.done,
            failed=run.failed + delta.failed,
            attempts=run.attempts + delta.attempts,
            usage=run.usage + delta.usage,
            cost=run.cost + delta.cost,
        )


class MemoryRunStore:
    """Map runs in memory. `mnesis.store.run_store.RunStore` documents the verbs."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._changes = InMemoryChanges()

    def _hold_lock(self) -> AbstractContextManager[None]:
        """Hold the lock of the store, which must be open."""
        raise NotImplementedError

    async def begin_run(self, spec: RunSpec) -> tuple[MapRun, bool]:
        """See `RunStore.begin_run`."""
        check_spec(spec)
        with self._hold_lock():
            is_new = spec.id not in self._runs
            if is_new:
                record = MapRun(spec.id, spec.kind, spec.fingerprint, spec.model, spec.created_at)
                self._runs[spec.id] = _Run(record, spec.plan)
            record = self._runs[spec.id].record
            refuse_other_run(spec, record)
            if is_new:
                self._changes.add_run_started(record)
            return record, is_new

    async def add_items(self, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
        """See `RunStore.add_items`."""
        check_texts(run_id, "", inputs)
        with self._hold_lock():
            run = self._run(run_id)
            refuse_misplaced_inputs(run.record, first_index, len(inputs))
            known = [item.input for item in run.items[first_index : first_index + len(inputs)]]
            refuse_changed_inputs(run.record, first_index, known, inputs)
            new = [RunItem(index, text) for index, text in enumerate(inputs, first_index)][len(known) :]
            run.items.extend(new)
            for item in new:
                heapq.heappush(run.pending_heap, item.index)
            run.apply(RunDelta(pending=len(new)))
            return len(new)

    async def seal_run(self, run_id: str, total: int) -> MapRun:
        """See `RunStore.seal_run`."""
        with self._hold_lock():
            run = self._run(run_id)
            refuse_wrong_total(run.record, total)
            was_sealed = run.record.total is not None
            run.record = replace(run.record, total=total)
            if not was_sealed:
                self._changes.add_run_completed(run.record)
            return run.record

    async def claim_items(
        self, run_id: str, worker: str, *, limit: int, now_ms: int, lease_ms: int, max_claims: int
    ) -> list[RunItem]:
        """See `RunStore.claim_items`."""
        check_texts(run_id, worker)
        with self._hold_lock():
            run = self._run(run_id)
            abandoned = [index for index in run.expired_indexes(now_ms) if run.items[index].claims < max_claims]
            claimed_indexes: list[int] = []
            pending_count = 0
            while len(claimed_indexes) < limit and (abandoned or run.pending_heap):
                if abandoned and (not run.pending_heap or abandoned[0] < run.pending_heap[0]):
                    claimed_indexes.append(abandoned.pop(0))
                else:
                    claimed_indexes.append(heapq.heappop(run.pending_heap))
                    pending_count += 1
            run.apply(RunDelta(pending=-pending_count, running=pending_count))
            return [run.claim(index, worker, now_ms + lease_ms) for index in claimed_indexes]

    async def renew_items(
        self, run_id: str, worker: str, indexes: Sequence[int], *, now_ms: int, lease_ms: int
    ) -> list[int]:
        """See `RunStore.renew_items`."""
        check_texts(run_id, worker)
        with self._hold_lock():
            run = self._run(run_id)
            held_indexes = [index for index in indexes if run.holds(worker, index)]
            for index in held_indexes:
                item = run.items[index]
                longest = max(item.lease_until or 0, now_ms + lease_ms)
                run.items[index] = replace(item, lease_until=longest if lease_ms else now_ms)
            return held_indexes

    async def release_items(self, run_id: str, worker: str, indexes: Sequence[int]) -> None:
        """See `RunStore.release_items`."""
        check_texts(run_id, worker)
        with self._hold_lock():
            run = self._run(run_id)
            held_indexes = [index for index in dict.fromkeys(indexes) if run.holds(worker, index)]
            for index in held_indexes:
                run.requeue(replace(run.items[index], claims=run.items[index].claims - 1))
            run.apply(RunDelta(pending=len(held_indexes), running=-len(held_indexes)))

    async def finish_items(self, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
        """See `RunStore.finish_items`."""
        check_texts(run_id, worker, [outcome.outcome for outcome in outcomes])
        with self._hold_lock():
            run = self._run(run_id)
            accepted = [outcome for outcome in outcomes if _is_accepted(run, worker, outcome)]
            run.apply(completion_delta(accepted))
            self._changes.add_run_items(run.record, [each.state == "done" for each in accepted])
            return [outcome.index for outcome in accepted]

    async def give_up_items(self, run_id: str, *, now_ms: int, max_claims: int, outcome: str) -> list[int]:
        """See `RunStore.give_up_items`."""
        check_texts(run_id, "", [outcome])
        with self._hold_lock():
            run = self._run(run_id)
            lost = [index for index in run.expired_indexes(now_ms) if run.items[index].claims >= max_claims]
            for index in lost:
                run.finish(index, "failed", outcome, 0)
            run.apply(RunDelta(running=-len(lost), failed=len(lost)))
            self._changes.add_run_items(run.record, [False] * len(lost))
            return lost

    async def retry_failures(self, run_id: str) -> int:
        """See `RunStore.retry_failures`."""
        with self._hold_lock():
            run = self._run(run_id)
            failed = [item for item in run.items if item.state == "failed"]
            for item in failed:
                run.requeue(replace(item, claims=0))
            run.apply(RunDelta(pending=len(failed), failed=-len(failed)))
            return len(failed)

    async def run(self, run_id: str) -> MapRun:
        """See `RunStore.run`."""
        with self._hold_lock():
            return self._run(run_id).record

    async def run_plan(self, run_id: str) -> str:
        """See `RunStore.run_plan`."""
        with self._hold_lock():
            return self._run(run_id).plan

    async def runs(self, *, limit: int = 100) -> list[MapRun]:
        """See `RunStore.runs`."""
        with self._hold_lock():
            return [run.record for run in islice(reversed(self._runs.values()), max(limit, 0))]

    async def run_items(
        self, run_id: str, *, after_index: int = -1, limit: int = 1_000, state: ItemState | None = None
    ) -> list[RunItem]:
        """See `RunStore.run_items`."""
        with self._hold_lock():
            after = islice(self._run(run_id).items, max(after_index + 1, 0), None)
            return list(islice((item for item in after if state in (None, item.state)), max(limit, 0)))

    async def purge_run(self, run_id: str) -> None:
        """See `RunStore.purge_run`."""
        with self._hold_lock():
            self._run(run_id)
            del self._runs[run_id]
            self._changes.drop_run(run_id)

    def _run(self, run_id: str) -> _Run:
        if run_id not in self._runs:
            raise RunNotFoundError(run_id)
        return self._runs[run_id]


def _is_accepted(run: _Run, worker: str, outcome: ItemOutcome) -> bool:
    if not run.holds(worker, outcome.index):
        return False
    run.finish(outcome.index, outcome.state, outcome.outcome, outcome.attempts)
    return True
