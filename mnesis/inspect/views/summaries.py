"""The summary DAG, and one summary with its originals."""

from __future__ import annotations

from dataclasses import dataclass

from mnesis.inspect.charts import NodeBox, summary_boxes
from mnesis.inspect.views.log import LogEntry, describe
from mnesis.models.dag import SummaryDag
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.base import Store

PAGE_MESSAGES = 60


@dataclass(frozen=True, slots=True)
class DagView:
    """All summaries of a session as a tree, and as boxes over the log."""

    session: SessionRecord
    dag: SummaryDag
    boxes: tuple[NodeBox, ...]
    height: float


@dataclass(frozen=True, slots=True)
class SummaryView:
    """One summary, the summaries it was made from, those made from it, and whether the context shows it now."""

    session: SessionRecord
    summary: Summary
    is_in_context: bool
    children: tuple[Summary, ...]
    parents: tuple[Summary, ...]


@dataclass(frozen=True, slots=True)
class Originals:
    """A page of the messages that a summary replaces."""

    session: SessionRecord
    summary: Summary
    entries: tuple[LogEntry, ...]
    next_after: int | None


async def read_dag(store: Store, session_id: str) -> DagView:
    """Read all summaries of a session."""
    # The context is read first, because a sweep in between adds summaries and never removes one.
    context = await store.active_context(session_id)
    summaries = await store.summaries(session_id)
    shown = frozenset(cover.summary_id for cover in context.covers)
    boxes = tuple(summary_boxes(summaries, shown, context.session.last_seq))
    height = max((box.y for box in boxes), default=0) + 32
    return DagView(context.session, SummaryDag.of(session_id, summaries, shown), boxes, height)


async def read_summary(store: Store, session_id: str, summary_id: str) -> SummaryView:
    """Read one summary with its neighbours in the DAG. Raises `SummaryNotFoundError`."""
    summary = await store.summary(session_id, summary_id)
    context = await store.active_context(session_id)
    summaries = await store.summaries(session_id)
    return SummaryView(
        context.session,
        summary,
        any(cover.summary_id == summary_id for cover in context.covers),
        tuple(each for each in summaries if each.id in summary.child_ids),
        tuple(each for each in summaries if summary_id in each.child_ids),
    )


async def read_originals(store: Store, session_id: str, summary_id: str, after_seq: int) -> Originals:
    """Read a page of the originals behind a summary. Raises `SummaryNotFoundError`."""
    summary = await store.summary(session_id, summary_id)
    session = await store.session(session_id)
    messages = await store.covered_messages(session_id, summary_id, after_seq=after_seq, limit=PAGE_MESSAGES + 1)
    page = messages[:PAGE_MESSAGES]
    next_after = page[-1].seq if len(messages) > PAGE_MESSAGES else None
    return Originals(session, summary, await describe(store, session, page), next_after)
