"""Arithmetic on spans of the log, and the check that a sweep keeps every message reachable. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
from mnesis.store.codec import DamagedValueError

Span = tuple[int, int]
"""First and last seq, both inclusive."""


@dataclass(frozen=True, slots=True)
class CoverDiff:
    """The effect of a new list of covers: spans that leave the active context, and spans that return to it."""

    covers: tuple[Cover, ...]
    hidden: list[Span]
    shown: list[Span]


def folded_spans(diff: CoverDiff) -> list[tuple[int, int, str | None]]:
    """Return the spans that a change of covers hides, each with the summary that the context shows instead."""
    return [
        (max(first, cover.first_seq), min(last, cover.last_seq), cover.summary_id)
        for first, last in diff.hidden
        for cover in diff.covers
        if cover.first_seq <= last and first <= cover.last_seq
    ]


def add_seq(spans: list[Span], seq: int) -> None:
    """Add a seq to a list of spans. The list remains short if seqs are added in ascending order."""
    if spans and spans[-1][1] == seq - 1:
        spans[-1] = (spans[-1][0], seq)
    else:
        spans.append((seq, seq))


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Return the same seqs as disjoint, non-adjacent spans in order."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def subtract(spans: Iterable[Span], holes: Iterable[Span]) -> list[Span]:
    """Return the parts of ordered, disjoint `spans` outside `holes`."""
    remainder, holes = [], sorted(holes)
    for first, last in spans:
        for hole_first, hole_last in holes:
            if hole_last < first or hole_first > last:
                continue
            if first < hole_first:
                remainder.append((first, hole_first - 1))
            first = hole_last + 1
        if first <= last:
            remainder.append((first, last))
    return remainder


def cover_spans(covers: Iterable[Cover]) -> list[Span]:
    """Return the span of each cover."""
    return [(cover.first_seq, cover.last_seq) for cover in covers]


def visible_spans(covers: Iterable[Cover], last_seq: int) -> list[Span]:
    """Return the spans whose messages are shown."""
    return subtract([(1, last_seq)], cover_spans(covers))


def contains(spans: Iterable[Span], seq: int) -> bool:
    """Return whether `seq` is inside one of the spans."""
    return any(first <= seq <= last for first, last in spans)


def diff_covers(before: Sequence[Cover], after: Iterable[Cover]) -> CoverDiff:
    """Compare two lists of covers."""
    covers = tuple(sorted(after, key=lambda cover: cover.first_seq))
    old, new = cover_spans(before), cover_spans(covers)
    return CoverDiff(covers, hidden=subtract(new, old), shown=subtract(old, new))


def hide_span(before: Sequence[Cover], span: Span, last_seq: int) -> CoverDiff:
    """Hide `span`, which may be empty. Covers inside it are removed.

    Raises `StaleContextError` if a cover extends beyond the span, or if the span is outside the log.
    """
    first, last = span
    if last < first:
        return diff_covers(before, before)
    if not 1 <= first <= last <= last_seq:
        raise StaleContextError(
            f"messages {first} to {last} are not in the log, which ends at {last_seq}; read it again"
        )
    for cover in before:
        inside = first <= cover.first_seq and cover.last_seq <= last
        apart = cover.last_seq < first or last < cover.first_seq
        if not (inside or apart):
            raise StaleContextError(
                f"messages {cover.first_seq} to {cover.last_seq} are folded together and extend beyond {first} to {last};"
                " read the context again and hide whole items"
            )
    kept = [cover for cover in before if cover.last_seq < first or last < cover.first_seq]
    return diff_covers(before, [*kept, Cover(first, last, None)])


def hide_spans(before: Sequence[Cover], spans: Iterable[Span], last_seq: int, expected_last_seq: int) -> CoverDiff:
    """Hide several spans. Raises `StaleContextError` like `hide_span`, and if the log has a different end."""
    if last_seq != expected_last_seq:
        raise StaleContextError(
            f"the log ends at {last_seq}, not at {expected_last_seq} as when it was read; read it again"
        )
    covers: Sequence[Cover] = before
    for span in spans:
        covers = hide_span(covers, span, last_seq).covers
    return diff_covers(before, covers)


def unfold_cover(before: Sequence[Cover], summary_id: str, original_seqs: Collection[int]) -> tuple[Cover, ...]:
    """Return the covers under which the originals of a summary are shown instead of it. Other messages in its span
    remain hidden.
    """
    covers: list[Cover] = []
    for cover in before:
        if cover.summary_id != summary_id:
            covers.append(cover)
            continue
        holes = [(seq, seq) for seq in original_seqs]
        hidden = subtract([(cover.first_seq, cover.last_seq)], holes)
        covers += [Cover(first, last, None) for first, last in hidden]
    return tuple(covers)


def change_covers(
    before: Sequence[Cover],
    after: Sequence[Cover],
    log_end: int,
    *,
    read_covers: Sequence[Cover],
    expected_last_seq: int,
    summary_spans: Mapping[str, Span],
    session_id: str,
) -> CoverDiff:
    """Validate a replacement of all covers and return its effect; see `Store.replace_covers`."""
    if log_end != expected_last_seq or tuple(read_covers) != tuple(before):
        raise StaleContextError(f"the active context of session {session_id!r} changed meanwhile; read it again")
    diff = diff_covers(before, after)
    previous_last = 0
    for cover in diff.covers:
        span = (cover.first_seq, cover.last_seq)
        if not previous_last < cover.first_seq <= cover.last_seq <= log_end:
            raise MnesisStoreError(f"cover {span} overlaps another or lies outside the log, which ends at {log_end}")
        previous_last = cover.last_seq
        if cover.summary_id is None:
            continue
        if cover.summary_id not in summary_spans:
            raise SummaryNotFoundError(cover.summary_id, location=f"session {session_id!r}")
        if summary_spans[cover.summary_id] != span:
            raise MnesisStoreError(
                f"cover {span} does not match summary {cover.summary_id!r}, which spans {summary_spans[cover.summary_id]}"
            )
    return diff


def referenced_summary_ids(sweep: Compaction) -> set[str]:
    """Return the ids of older summaries that a sweep condenses or keeps."""
    ids = {cover.summary_id for cover in sweep.covers if cover.summary_id is not None}
    ids.update(child for summary in sweep.summaries for child in summary.child_ids)
    return ids - {summary.id for summary in sweep.summaries}


def order_items(
    covers: Iterable[Cover], summaries: Mapping[str, Summary], messages: Iterable[Message]
) -> tuple[Summary | Message, ...]:
    """Return summaries and messages in log order."""
    positions: list[tuple[int, Summary | Message]] = [(message.seq, message) for message in messages]
    for cover in covers:
        if cover.summary_id is not None:
            if cover.summary_id not in summaries:
                raise DamagedValueError(f"summary {cover.summary_id!r}, which is missing,")
            positions.append((cover.first_seq, summaries[cover.summary_id]))
    return tuple(item for _, item in sorted(positions, key=lambda position: position[0]))


def leaf_spans(summary: Summary, read_covers: Iterable[Cover]) -> list[Span]:
    """Return the spans that a new leaf covers: the messages in its span that no cover hid when it was created."""
    return subtract([(summary.first_seq, summary.last_seq)], cover_spans(read_covers))


def validate_compaction(
    sweep: Compaction, current: Sequence[Cover], last_seq: int, older_spans: Mapping[str, Span], session_id: str
) -> CoverDiff:
    """Validate a sweep and return its effect on the active context.

    `current` are the covers now, `older_spans` the spans of earlier summaries by id.
    Raises `StaleContextError` if the sweep read other covers, `SummaryNotFoundError`, `DuplicateIDError`, and
    `MnesisStoreError` if the sweep would make a message unreachable.
    """
    if tuple(sweep.read_covers) != tuple(current):
        raise StaleContextError(f"the active context of session {session_id!r} changed meanwhile; read it again")
    reachable = _reachable_by_summary(sweep, last_seq, older_spans, session_id)
    result = diff_covers(current, sweep.covers)
    hidden_spans = [(cover.first_seq, cover.last_seq) for cover in current if cover.summary_id is None]
    previous_last = 0
    for cover in result.covers:
        span = (cover.first_seq, cover.last_seq)
        if not previous_last < cover.first_seq <= cover.last_seq <= last_seq:
            raise MnesisStoreError(f"cover {span} overlaps another or lies outside the log, which ends at {last_seq}")
        _refuse_lost_messages(cover, [] if cover.summary_id is None else reachable[cover.summary_id], hidden_spans)
        previous_last = cover.last_seq
    for prune in sweep.prunes:
        if not (1 <= prune.seq <= last_seq and prune.part_index >= 0):
            raise MnesisStoreError(f"{prune} does not refer to a part of the log, which ends at {last_seq}")
    return result


def refuse_pinned(pins: Iterable[int], hidden: Sequence[Span], session_id: str) -> None:
    """Raise `StaleContextError` if a sweep would fold a message that was pinned in the meantime."""
    pinned_seqs = [seq for seq in pins if contains(hidden, seq)]
    if pinned_seqs:
        raise StaleContextError(f"messages {pinned_seqs} of session {session_id!r} are pinned; read the context again")


def refuse_unpinnable(covers: Iterable[Cover], last_seq: int, seq: int, session_id: str) -> None:
    """Raise `MessageNotFoundError` for a seq outside the log, `StaleContextError` for one under a cover."""
    if not 1 <= seq <= last_seq:
        raise MessageNotFoundError(str(seq), location=f"session {session_id!r}")
    if contains([(cover.first_seq, cover.last_seq) for cover in covers], seq):
        raise StaleContextError(
            f"message {seq} of session {session_id!r} is folded already; append its content again and pin that message"
        )


def _reachable_by_summary(
    sweep: Compaction, last_seq: int, older_spans: Mapping[str, Span], session_id: str
) -> dict[str, list[Span]]:
    """Return the spans that can be reached from each summary, old or new."""
    reachable = {key: [span] for key, span in older_spans.items()}
    for summary in sweep.summaries:
        if summary.id in reachable:
            raise DuplicateIDError(summary.id)
        if not 1 <= summary.first_seq <= summary.last_seq <= last_seq:
            raise MnesisStoreError(f"summary {summary.id!r} spans messages outside the log, which ends at {last_seq}")
        reachable[summary.id] = _reachable_from(summary, sweep.read_covers, reachable, session_id)
    for summary_id in referenced_summary_ids(sweep):
        if summary_id not in reachable:
            raise SummaryNotFoundError(summary_id, location=f"session {session_id!r}")
    return reachable


def _reachable_from(
    summary: Summary, read_covers: Iterable[Cover], reachable: Mapping[str, list[Span]], session_id: str
) -> list[Span]:
    if summary.kind == "leaf":
        spans = leaf_spans(summary, read_covers)
        count = sum(last - first + 1 for first, last in spans)
        if summary.child_ids or count != summary.message_count:
            raise MnesisStoreError(
                f"leaf {summary.id!r} claims {summary.message_count} messages and {len(summary.child_ids)} summaries, but"
                f" {count} messages in its span are not folded"
            )
        return spans
    for child in summary.child_ids:
        if child not in reachable:
            raise SummaryNotFoundError(child, location=f"session {session_id!r}")
    spans = [span for child in summary.child_ids for span in reachable[child]]
    if not spans or len(set(summary.child_ids)) < len(summary.child_ids):
        raise MnesisStoreError(
            f"condensed summary {summary.id!r} must have children, each only once, not {summary.child_ids}"
        )
    if subtract(sorted(spans), [(summary.first_seq, summary.last_seq)]):
        raise MnesisStoreError(f"children of summary {summary.id!r} extend beyond its span")
    return spans


def _refuse_lost_messages(cover: Cover, reachable: Sequence[Span], hidden_spans: Sequence[Span]) -> None:
    span = (cover.first_seq, cover.last_seq)
    lost = subtract([span], [*reachable, *hidden_spans])
    if lost:
        raise MnesisStoreError(f"messages {lost} under cover {span} would be unreachable from {cover.summary_id!r}")
    if subtract(sorted(reachable), [span]):
        raise MnesisStoreError(f"summary {cover.summary_id!r} covers more than its cover {span}")
