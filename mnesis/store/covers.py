"""Spans of the log, and whether a sweep keeps every message within reach. Pure, shared by all stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mnesis.errors import (
    DuplicateIDError,
    MessageNotFoundError,
    MnesisStoreError,
    StaleContextError,
    SummaryNotFoundError,
)
from mnesis.models.context import Cover
from mnesis.models.message import Message
from mnesis.models.summary import Summary
from mnesis.store.base import Compaction

Span = tuple[int, int]
"""First and last seq, both included."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a new list of covers does: spans that leave the active context, and spans that come back into it."""

    covers: tuple[Cover, ...]
    hidden: list[Span]
    shown: list[Span]


def subtract(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """What is left of ordered, disjoint `spans` outside `holes`."""
    left, holes = [], sorted(holes)
    for first, last in spans:
        for hole_first, hole_last in holes:
            if hole_last < first or hole_first > last:
                continue
            if first < hole_first:
                left.append((first, hole_first - 1))
            first = hole_last + 1
        if first <= last:
            left.append((first, last))
    return left


def spans_of(covers: Iterable[Cover]) -> list[Span]:
    """Where covers lie."""
    return [(cover.first_seq, cover.last_seq) for cover in covers]


def visible(covers: Iterable[Cover], last_seq: int) -> list[Span]:
    """The spans shown message by message."""
    return subtract([(1, last_seq)], spans_of(covers))


def contains(spans: Iterable[Span], seq: int) -> bool:
    """Whether `seq` lies in one of the spans."""
    return any(first <= seq <= last for first, last in spans)


def change(before: Sequence[Cover], after: Iterable[Cover]) -> Change:
    """The difference between two lists of covers."""
    covers = tuple(sorted(after, key=lambda cover: cover.first_seq))
    old, new = spans_of(before), spans_of(covers)
    return Change(covers, hidden=subtract(new, old), shown=subtract(old, new))


def hiding(before: Sequence[Cover], span: Span, last_seq: int) -> Change:
    """Take `span`, which may be empty, out of view; covers inside it give way. Raises `StaleContextError` if one reaches over its edge."""
    first, last = span
    if last < first:
        return change(before, before)
    if not 1 <= first <= last <= last_seq:
        raise StaleContextError(f"messages {first} to {last} are not in the log, which ends at {last_seq}")
    for cover in before:
        inside = first <= cover.first_seq and cover.last_seq <= last
        apart = cover.last_seq < first or last < cover.first_seq
        if not (inside or apart):
            raise StaleContextError(
                f"messages {cover.first_seq} to {cover.last_seq} are folded together and reach over the edge of"
                f" {first} to {last}; read the context again and hide whole items"
            )
    kept = [cover for cover in before if cover.last_seq < first or last < cover.first_seq]
    return change(before, [*kept, Cover(first, last, None)])


def hiding_all(before: Sequence[Cover], spans: Iterable[Span], last_seq: int, expected_last_seq: int) -> Change:
    """Take several spans out of view. Raises `StaleContextError` as `hiding` does, and if the log ends elsewhere."""
    if last_seq != expected_last_seq:
        raise StaleContextError(
            f"the log ends at {last_seq}, not at {expected_last_seq} as it did when it was read; read it again"
        )
    covers: Sequence[Cover] = before
    for span in spans:
        covers = hiding(covers, span, last_seq).covers
    return change(before, covers)


def named_summaries(sweep: Compaction) -> set[str]:
    """Ids of older summaries that a sweep builds on or keeps."""
    named = {cover.summary_id for cover in sweep.covers if cover.summary_id is not None}
    named.update(child for summary in sweep.summaries for child in summary.child_ids)
    return named - {summary.id for summary in sweep.summaries}


def in_order(
    covers: Iterable[Cover], summaries: Mapping[str, Summary], messages: Iterable[Message]
) -> tuple[Summary | Message, ...]:
    """Summaries and messages by place in the log."""
    places: list[tuple[int, Summary | Message]] = [(message.seq, message) for message in messages]
    places += [(cover.first_seq, summaries[cover.summary_id]) for cover in covers if cover.summary_id is not None]
    return tuple(item for _, item in sorted(places, key=lambda place: place[0]))


def leaf_spans(summary: Summary, read_covers: Iterable[Cover]) -> list[Span]:
    """The messages a new leaf stands for: those in its span that no cover hid when it was made."""
    return subtract([(summary.first_seq, summary.last_seq)], spans_of(read_covers))


def checked_change(
    sweep: Compaction, current: Sequence[Cover], last_seq: int, older: Mapping[str, Span], session_id: str
) -> Change:
    """What a sweep does to the active context.

    `current` are the covers that stand, `older` the spans of the summaries made before. Raises `StaleContextError` if
    other covers were read, `SummaryNotFoundError`, `DuplicateIDError`, and `MnesisStoreError` for a sweep that would put
    a message out of reach.
    """
    if tuple(sweep.read_covers) != tuple(current):
        raise StaleContextError(f"the active context of session {session_id!r} changed meanwhile; read it again")
    reach = _reaches(sweep, last_seq, older, session_id)
    result = change(current, sweep.covers)
    gone = [(cover.first_seq, cover.last_seq) for cover in current if cover.summary_id is None]
    previous_last = 0
    for cover in result.covers:
        span = (cover.first_seq, cover.last_seq)
        if not previous_last < cover.first_seq <= cover.last_seq <= last_seq:
            raise MnesisStoreError(f"cover {span} overlaps another or lies outside the log, which ends at {last_seq}")
        _refuse_lost_messages(cover, [] if cover.summary_id is None else reach[cover.summary_id], gone)
        previous_last = cover.last_seq
    for prune in sweep.prunes:
        if not (1 <= prune.seq <= last_seq and prune.part_index >= 0):
            raise MnesisStoreError(f"{prune} names no part of the log, which ends at {last_seq}")
    return result


def refuse_pinned(pins: Iterable[int], hidden: Sequence[Span], session_id: str) -> None:
    """Raises `StaleContextError` if a sweep would fold a message that was pinned meanwhile."""
    taken = [seq for seq in pins if contains(hidden, seq)]
    if taken:
        raise StaleContextError(f"messages {taken} of session {session_id!r} are pinned; read the context again")


def refuse_unpinnable(covers: Iterable[Cover], last_seq: int, seq: int, session_id: str) -> None:
    """Raises `MessageNotFoundError` for a place outside the log, `StaleContextError` for one under a cover."""
    if not 1 <= seq <= last_seq:
        raise MessageNotFoundError(str(seq), where=f"session {session_id!r}")
    if contains([(cover.first_seq, cover.last_seq) for cover in covers], seq):
        raise StaleContextError(
            f"message {seq} of session {session_id!r} is folded already; say again what must stay, and pin that"
        )


def _reaches(sweep: Compaction, last_seq: int, older: Mapping[str, Span], session_id: str) -> dict[str, list[Span]]:
    """Which messages each summary, old or new, leads to."""
    reach = {key: [span] for key, span in older.items()}
    for summary in sweep.summaries:
        if summary.id in reach:
            raise DuplicateIDError(summary.id)
        if not 1 <= summary.first_seq <= summary.last_seq <= last_seq:
            raise MnesisStoreError(f"summary {summary.id!r} spans messages outside the log, which ends at {last_seq}")
        reach[summary.id] = _reach(summary, sweep.read_covers, reach, session_id)
    for named in named_summaries(sweep):
        if named not in reach:
            raise SummaryNotFoundError(named, where=f"session {session_id!r}")
    return reach


def _reach(
    summary: Summary, read_covers: Iterable[Cover], reach: Mapping[str, list[Span]], session_id: str
) -> list[Span]:
    if summary.kind == "leaf":
        spans = leaf_spans(summary, read_covers)
        count = sum(last - first + 1 for first, last in spans)
        if summary.child_ids or count != summary.message_count:
            raise MnesisStoreError(
                f"leaf {summary.id!r} says it stands for {summary.message_count} messages and"
                f" {len(summary.child_ids)} summaries; in its span {count} messages are unfolded"
            )
        return spans
    for child in summary.child_ids:
        if child not in reach:
            raise SummaryNotFoundError(child, where=f"session {session_id!r}")
    spans = [span for child in summary.child_ids for span in reach[child]]
    if not spans or len(set(summary.child_ids)) < len(summary.child_ids):
        raise MnesisStoreError(f"condensed summary {summary.id!r} needs children, each once; got {summary.child_ids}")
    if subtract(sorted(spans), [(summary.first_seq, summary.last_seq)]):
        raise MnesisStoreError(f"children of summary {summary.id!r} reach outside its span")
    return spans


def _refuse_lost_messages(cover: Cover, reach: Sequence[Span], gone: Sequence[Span]) -> None:
    span = (cover.first_seq, cover.last_seq)
    lost = subtract([span], [*reach, *gone])
    if lost:
        raise MnesisStoreError(f"messages {lost} under cover {span} would be out of reach of {cover.summary_id!r}")
    if subtract(sorted(reach), [span]):
        raise MnesisStoreError(f"summary {cover.summary_id!r} stands for more than its cover {span}")
