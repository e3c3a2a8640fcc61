"""Map runs with their progress, and the items of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnesis.models.run import MapRun, RunItem
from mnesis.store.base import Store

PAGE_ITEMS = 100
MAX_RUNS = 200
STATES = ("pending", "running", "done", "failed")


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and a page of its items. `next_after` is the index to continue after; None at the end."""

    run: MapRun
    items: tuple[RunItem, ...]
    state: str
    next_after: int | None


async def list_runs(store: Store) -> list[MapRun]:
    """Read the newest runs."""
    return await store.runs(limit=MAX_RUNS)


async def read_run(store: Store, run_id: str, query: Mapping[str, str]) -> RunView:
    """Read a run and a page of its items. Raises `RunNotFoundError`."""
    run = await store.run(run_id)
    state = query.get("state", "")
    after = int(query["after"]) if query.get("after", "").isdecimal() else -1
    items = await store.run_items(
        run_id,
        after_index=after,
        limit=PAGE_ITEMS + 1,
        state=state if state in STATES else None,  # type: ignore[arg-type]  # checked
    )
    page = items[:PAGE_ITEMS]
    return RunView(run, tuple(page), state, page[-1].index if len(items) > PAGE_ITEMS else None)
