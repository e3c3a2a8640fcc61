"""Map runs in memory: the same verbs and rules in plain Python."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice

from mnesis.errors import RunNotFoundError
from mnesis.models.run import ItemOutcome, ItemState, MapRun, RunItem, RunSpec
from mnesis.store.run_validation import (
    Moved,
    check_spec,
    check_texts,
    finished,
    refuse_misplaced,
    refuse_other_inputs,
    refuse_other_run,
    refuse_total,
)


@dataclass(slots=True)
class _Run:
    record: MapRun
    items: list[RunItem] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)  # a heap: the lowest index is claimed first
    running: set[int] = field(default_factory=set)

    def holds(self, worker: str, index: int) -> bool:
        return index in self.running and self.items[index].worker == worker

    def ended(self, now: int) -> list[int]:
        return sorted(index for index in self.running if (self.items[index].lease_until or 0) <= now)

    def take(self, index: int, worker: str, lease_until: int) -> RunItem:
        item = self.items[index]
        self.items[index] = replace(
            item, state="running", claims=item.claims + 1, worker=worker, lease_until=lease_until
        )
        self.running.add(index)
        return self.items[index]

    def wait(self, item: RunItem) -> None:
        self.items[item.index] = replace(item, state="pending", worker=None, lease_until=None, outcome=None)
        self.running.discard(item.index)
        heapq.heappush(self.waiting, item.index)

    def end(self, index: int, state: ItemState, outcome: str, attempts: int) -> None:
        item = self.items[index]
        self.items[index] = replace(
            item, state=state, attempts=item.attempts + attempts, worker=None, lease_until=None, outcome=outcome
        )
        self.running.discard(index)

    def move(self, moved: Moved) -> None:
        run = self.record
        self.record = replace(
            run,
            pending=run.pending + moved.pending,
            running=run.running + moved.running,
            done=run.done + moved.done,
            failed=run.failed + moved.failed,
            attempts=run.attempts + moved.attempts,
            usage=run.usage + moved.usage,
            cost=run.cost + moved.cost,
        )


class MemoryRuns:
    """`mnesis.store.run_store.RunStore` says what each verb does."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def _opened(self) -> AbstractContextManager[None]:
        """Holds the lock of the store, which must be open."""
        raise NotImplementedError

    async def begin_run(self, spec: RunSpec) -> tuple[MapRun, bool]:
        """See `RunStore.begin_run`."""
        check_spec(spec)
        with self._opened():
            is_new = spec.id not in self._runs
            if is_new:
                self._runs[spec.id] = _Run(MapRun(spec.id, spec.kind, spec.fingerprint, spec.model, spec.created_at))
            record = self._runs[spec.id].record
            refuse_other_run(spec, record)
            return record, is_new

    async def add_items(self, run_id: str, first_index: int, inputs: Sequence[str]) -> int:
        """See `RunStore.add_items`."""
        check_texts(run_id, "", inputs)
        with self._opened():
            found = self._run(run_id)
            refuse_misplaced(found.record, first_index, len(inputs))
            known = [item.input for item in found.items[first_index : first_index + len(inputs)]]
            refuse_other_inputs(found.record, first_index, known, inputs)
            new = [RunItem(index, text) for index, text in enumerate(inputs, first_index)][len(known) :]
            found.items.extend(new)
            for item in new:
                heapq.heappush(found.waiting, item.index)
            found.move(Moved(pending=len(new)))
            return len(new)

    async def seal_run(self, run_id: str, total: int) -> MapRun:
        """See `RunStore.seal_run`."""
        with self._opened():
            found = self._run(run_id)
            refuse_total(found.record, total)
            found.record = replace(found.record, total=total)
            return found.record

    async def claim_items(
        self, run_id: str, worker: str, *, limit: int, now: int, lease_ms: int, max_claims: int
    ) -> list[RunItem]:
        """See `RunStore.claim_items`."""
        check_texts(run_id, worker)
        with self._opened():
            found = self._run(run_id)
            abandoned = [index for index in found.ended(now) if found.items[index].claims < max_claims]
            taken: list[int] = []
            waited = 0
            while len(taken) < limit and (abandoned or found.waiting):
                if abandoned and (not found.waiting or abandoned[0] < found.waiting[0]):
                    taken.append(abandoned.pop(0))
                else:
                    taken.append(heapq.heappop(found.waiting))
                    waited += 1
            found.move(Moved(pending=-waited, running=waited))
            return [found.take(index, worker, now + lease_ms) for index in taken]

    async def renew_items(
        self, run_id: str, worker: str, indexes: Sequence[int], *, now: int, lease_ms: int
    ) -> list[int]:
        """See `RunStore.renew_items`."""
        check_texts(run_id, worker)
        with self._opened():
            found = self._run(run_id)
            held = [index for index in indexes if found.holds(worker, index)]
            for index in held:
                item = found.items[index]
                longest = max(item.lease_until or 0, now + lease_ms)
                found.items[index] = replace(item, lease_until=longest if lease_ms else now)
            return held

    async def release_items(self, run_id: str, worker: str, indexes: Sequence[int]) -> None:
        """See `RunStore.release_items`."""
        check_texts(run_id, worker)
        with self._opened():
            found = self._run(run_id)
            held = [index for index in dict.fromkeys(indexes) if found.holds(worker, index)]
            for index in held:
                found.wait(replace(found.items[index], claims=found.items[index].claims - 1))
            found.move(Moved(pending=len(held), running=-len(held)))

    async def finish_items(self, run_id: str, worker: str, outcomes: Sequence[ItemOutcome]) -> list[int]:
        """See `RunStore.finish_items`."""
        check_texts(run_id, worker, [outcome.outcome for outcome in outcomes])
        with self._opened():
            found = self._run(run_id)
            accepted = [outcome for outcome in outcomes if _is_accepted(found, worker, outcome)]
            found.move(finished(accepted))
            return [outcome.index for outcome in accepted]

    async def give_up_items(self, run_id: str, *, now: int, max_claims: int, outcome: str) -> list[int]:
        """See `RunStore.give_up_items`."""
        check_texts(run_id, "", [outcome])
        with self._opened():
            found = self._run(run_id)
            lost = [index for index in found.ended(now) if found.items[index].claims >= max_claims]
            for index in lost:
                found.end(index, "failed", outcome, 0)
            found.move(Moved(running=-len(lost), failed=len(lost)))
            return lost

    async def retry_failed(self, run_id: str) -> int:
        """See `RunStore.retry_failed`."""
        with self._opened():
            found = self._run(run_id)
            failed = [item for item in found.items if item.state == "failed"]
            for item in failed:
                found.wait(replace(item, claims=0))
            found.move(Moved(pending=len(failed), failed=-len(failed)))
            return len(failed)

    async def run(self, run_id: str) -> MapRun:
        """See `RunStore.run`."""
        with self._opened():
            return self._run(run_id).record

    async def runs(self, *, limit: int = 100) -> list[MapRun]:
        """See `RunStore.runs`."""
        with self._opened():
            return [found.record for found in islice(reversed(self._runs.values()), max(limit, 0))]

    async def run_items(
        self, run_id: str, *, after_index: int = -1, limit: int = 1_000, state: ItemState | None = None
    ) -> list[RunItem]:
        """See `RunStore.run_items`."""
        with self._opened():
            after = islice(self._run(run_id).items, max(after_index + 1, 0), None)
            return list(islice((item for item in after if state in (None, item.state)), max(limit, 0)))

    async def purge_run(self, run_id: str) -> None:
        """See `RunStore.purge_run`."""
        with self._opened():
            self._run(run_id)
            del self._runs[run_id]

    def _run(self, run_id: str) -> _Run:
        if run_id not in self._runs:
            raise RunNotFoundError(run_id, where=":memory:")
        return self._runs[run_id]


def _is_accepted(found: _Run, worker: str, outcome: ItemOutcome) -> bool:
    if not found.holds(worker, outcome.index):
        return False
    found.end(outcome.index, outcome.state, outcome.outcome, outcome.attempts)
    return True
