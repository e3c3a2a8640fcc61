"""Forks: sessions whose log begins with the messages of another one. Pure functions, no I/O.

A fork shares messages and copies none. Its log consists of segments: spans of other logs, each named by the session that
stores it, and then its own messages. A fork of a fork has the segments of both, so that reading never follows a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mnesis.errors import DuplicateIDError, MessageNotFoundError
from mnesis.models.context import Cover
from mnesis.models.session import ForkPoint, SessionRecord
from mnesis.models.usage import TokenUsage
from mnesis.store.accounting import new_record
from mnesis.store.covers import Span, cover_spans, subtract


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of a log that another session stores. `source_pk` is the key of that session."""

    first_seq: int
    last_seq: int
    source_pk: int


@dataclass(frozen=True, slots=True)
class SummaryParts:
    """The sources of a summary: the covers of its children, or the spans of messages that a leaf covers."""

    children: tuple[Cover, ...] = ()
    spans: tuple[Span, ...] = ()


def inherit_segments(segments: Iterable[Segment], own_pk: int, last_seq: int) -> list[Segment]:
    """Return the segments of a fork at `last_seq` of a session with these segments and its own messages after them."""
    inherited = list(segments)
    own_first = inherited[-1].last_seq + 1 if inherited else 1
    inherited.append(Segment(own_first, last_seq, own_pk))
    return [replace(each, last_seq=min(each.last_seq, last_seq)) for each in inherited if each.first_seq <= last_seq]


def inherit_covers(
    covers: Sequence[Cover], last_seq: int, origin_last_seq: int, find_parts: Callable[[str], SummaryParts]
) -> tuple[Cover, ...]:
    """Return the covers of a fork at `last_seq` of a log that ends at `origin_last_seq`.

    A summary of messages after the fork does not apply: its children, and the messages of its leaves, replace it as far
    as they lie before the fork. The same holds for a summary that ends with the message at `last_seq`, so that the fork
    continues from the message and not from its summary. Hidden messages remain hidden. At the end of the log, all
    covers are kept.
    """
    if last_seq == origin_last_seq:
        return tuple(covers)
    inherited: list[Cover] = []
    for cover in covers:
        if cover.first_seq > last_seq:
            break
        if cover.summary_id is None:
            inherited.append(Cover(cover.first_seq, min(cover.last_seq, last_seq), None))
        elif cover.last_seq < last_seq:
            inherited.append(cover)
        else:
            kept, shown = _split(cover.summary_id, last_seq, find_parts)
            gaps = subtract([(cover.first_seq, last_seq)], [*cover_spans(kept), *shown])
            inherited += sorted([*kept, *(Cover(first, last, None) for first, last in gaps)], key=_first_seq)
    return tuple(inherited)


def _split(summary_id: str, last_seq: int, find_parts: Callable[[str], SummaryParts]) -> tuple[list[Cover], list[Span]]:
    """Return the covers and the spans of messages that take the place of a summary up to `last_seq`."""
    parts = find_parts(summary_id)
    kept: list[Cover] = []
    shown = [(first, min(last, last_seq)) for first, last in parts.spans if first <= last_seq]
    for child in parts.children:
        if child.last_seq < last_seq:
            kept.append(child)
        elif child.first_seq <= last_seq and child.summary_id is not None:
            more_kept, more_shown = _split(child.summary_id, last_seq, find_parts)
            kept += more_kept
            shown += more_shown
    return kept, shown


def _first_seq(cover: Cover) -> int:
    return cover.first_seq


def clip_spans(spans: Iterable[Span], last_seq: int) -> list[Span]:
    """Return the parts of the spans before a fork."""
    return [(first, min(last, last_seq)) for first, last in spans if first <= last_seq]


def seqs_to_spans(seqs: Iterable[int]) -> list[Span]:
    """Return ascending seqs as dense spans."""
    spans: list[Span] = []
    for seq in seqs:
        if spans and spans[-1][1] == seq - 1:
            spans[-1] = (spans[-1][0], seq)
        else:
            spans.append((seq, seq))
    return spans


def fork_record(
    fork: SessionRecord,
    origin: SessionRecord,
    last_seq: int,
    point: ForkPoint | None,
    *,
    message_tokens: int,
    tool_tokens: int,
    summary_tokens: int,
) -> SessionRecord:
    """Return the record of a new fork at `last_seq`. The tokens are those of the context that it inherits."""
    calibration = origin.calibration if fork.model == origin.model else 1.0
    record = replace(
        new_record(replace(fork, context_tokens=0)),
        forked_from=point,
        last_seq=last_seq,
        usage=TokenUsage(),
        cost=0.0,
        last_request_tokens=None,
        message_tokens=message_tokens,
        tool_tokens=tool_tokens,
        summary_tokens=summary_tokens,
        calibration=calibration,
    )
    return replace(record, context_tokens=record.stored_tokens)


def refuse_missing_fork_point(origin: SessionRecord, last_seq: int) -> None:
    """Raise `MessageNotFoundError` if the log of the origin does not reach `last_seq`."""
    if not 0 <= last_seq <= origin.last_seq:
        raise MessageNotFoundError(str(last_seq), location=f"session {origin.id!r}")


def refuse_other_fork(existing: SessionRecord, point: ForkPoint | None) -> None:
    """Raise `DuplicateIDError` unless an existing session is the requested fork."""
    if point is None or existing.forked_from != point:
        raise DuplicateIDError(
            existing.id, f"the id {existing.id!r} belongs to another session; choose another id for the fork"
        )
