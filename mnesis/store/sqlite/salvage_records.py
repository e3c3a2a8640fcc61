"""The intact records of a damaged session other than its messages, and their adaptation to the copied messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mnesis.models.context import Cover, Prune
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.codec import DamagedValueError
from mnesis.store.covers import Span
from mnesis.store.record_heads import RecordHeads
from mnesis.store.sqlite.accounts import StoredSession, intact_session_from_row
from mnesis.store.sqlite.rows import summary_from_row
from mnesis.store.sqlite.salvage_reader import DamagedDatabase, ReadableSession, Row


@dataclass(slots=True)
class SalvagedRecords:
    """The intact records of a session, with the seqs of the old log.

    `summaries` are in order of creation, each leaf with the seqs it covers. Those in `inherited_ids` belong to the
    session that a fork continues. `covers` is None if the list is damaged. `damaged` names the kinds of damaged
    records, which are omitted.
    """

    usage: TokenUsage | None = None
    cost: float = 0.0
    summaries: list[tuple[Summary, tuple[int, ...]]] = field(default_factory=list)
    inherited_ids: set[str] = field(default_factory=set)
    lost_summaries: list[str] = field(default_factory=list)
    covers: list[Cover] | None = None
    prunes: list[Prune] = field(default_factory=list)
    pins: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RestoredContext:
    """Summaries with their places in the new log, the spans to hide before they are stored, and the covers that show them.

    `summaries` are those of the session itself, `kept` also those that a fork inherits, by id.
    """

    hidden: tuple[Span, ...]
    summaries: tuple[Summary, ...]
    kept: Mapping[str, Summary]
    roots: tuple[Summary, ...]
    lost_summaries: tuple[str, ...]


def read_records(database: DamagedDatabase, session: ReadableSession) -> SalvagedRecords:
    """Read the records of a session without the damaged ones."""
    records, place = SalvagedRecords(), {"session_pk": session.pk}
    stored = _read_accounts(database, session, records)
    heads = _read_heads(database, session, stored)
    covers = [Cover(*row) for row in database.rows("covers", place)]
    prunes = database.rows("check_prunes", place)
    pins = [seq for (seq,) in database.rows("pins", place)]
    if _is_intact("covers", heads, stored, covers):
        records.covers = covers
    else:
        records.damaged.append("covers")
    if _is_intact("prunes", heads, stored, prunes):
        records.prunes = [Prune(*row) for row in prunes]
    else:
        records.damaged.append("prunes")
    if _is_intact("pins", heads, stored, pins):
        records.pins = pins
    else:
        records.damaged.append("pins")
    _read_summaries(database, session, records)
    return records


def _read_accounts(
    database: DamagedDatabase, session: ReadableSession, records: SalvagedRecords
) -> StoredSession | None:
    rows = database.rows("check_session", {"session_pk": session.pk})
    try:
        stored = intact_session_from_row(rows[0])
        records.usage, records.cost = stored.record.usage, stored.record.cost
        return stored
    except (IndexError, DamagedValueError, TypeError, ValueError, AttributeError, OverflowError):
        records.damaged.append("usage")
        return None


def _read_heads(
    database: DamagedDatabase, session: ReadableSession, stored: StoredSession | None
) -> RecordHeads | None:
    rows = database.rows("record_heads", (session.pk,))
    if not rows or not all(isinstance(value, bytes) for value in rows[0]):
        return None
    heads = RecordHeads(*rows[0])
    is_known = stored is None or stored.hash is None or heads.combine() == stored.record_head
    return heads if is_known else None


def _is_intact(kind: str, heads: RecordHeads | None, stored: StoredSession | None, values: Iterable[object]) -> bool:
    """Compare all records of a kind with their hash. A database of an older release has none."""
    if heads is None:
        return not values or (stored is not None and stored.hash is None)
    computed = RecordHeads()
    try:
        getattr(computed, f"set_{kind}")(values)
    except (TypeError, ValueError, AttributeError):
        return False
    return bool(getattr(computed, kind) == getattr(heads, kind))


def _read_summaries(database: DamagedDatabase, session: ReadableSession, records: SalvagedRecords) -> None:
    place = {"session_pk": session.pk}
    inherited = {row[0]: str(row[1]) for row in database.rows("check_inherited", place)}
    own = {row[0]: str(row[1]) for row in database.rows("check_summary_rows", place)}
    records.inherited_ids = set(inherited.values())
    names = dict(sorted({**inherited, **own}.items()))
    seqs: defaultdict[str, list[int]] = defaultdict(list)
    for summary_pk, seq in database.rows("check_edges", place):
        seqs[names.get(summary_pk, "")].append(seq)
    rows = {str(row[0]): row for row in database.rows("summaries", place)}
    for name in names.values():
        summary = _intact_summary(session.id, rows.get(name))
        if summary is None or (summary.kind == "leaf" and len(seqs[name]) != summary.message_count):
            records.lost_summaries.append(name)
        else:
            records.summaries.append((summary, tuple(sorted(seqs[name]))))


def _intact_summary(session_id: str, row: Row | None) -> Summary | None:
    try:
        return None if row is None else summary_from_row(session_id, row)
    except (DamagedValueError, TypeError, ValueError, AttributeError):
        return None


def restore_context(
    records: SalvagedRecords, new_seqs: Mapping[int, int], shared: Mapping[str, Summary]
) -> RestoredContext:
    """Place the summaries in the new log. `new_seqs` are its seqs by those of the old log. Does no I/O.

    `shared` are the summaries that a fork inherits in the new database. A leaf fits if each of its messages was copied;
    the messages between them were hidden. A condensed summary fits if each of its children does. The context shows a
    summary if no other one covers it and the old context showed it, or showed a lost summary in its place.
    """
    kept: dict[str, Summary] = {}
    hidden: set[int] = set()
    lost = list(records.lost_summaries)
    for summary, seqs in records.summaries:
        placed = (
            shared.get(summary.id)
            if summary.id in records.inherited_ids
            else _place(summary, [new_seqs[seq] for seq in seqs if seq in new_seqs], kept)
        )
        if placed is None:
            lost.append(summary.id)
            continue
        kept[summary.id] = placed
        if placed.kind == "leaf":
            hidden |= set(range(placed.first_seq, placed.last_seq + 1)) - {new_seqs.get(seq) for seq in seqs}
    children = {child for summary in kept.values() for child in summary.child_ids}
    covers = records.covers
    shown = [Cover(1, max(new_seqs, default=0), None)] if covers is None else [c for c in covers if c.summary_id]
    old_spans = {summary.id: (summary.first_seq, summary.last_seq) for summary, _ in records.summaries}
    roots = tuple(
        summary
        for summary in kept.values()
        if summary.id not in children and any(_contains(cover, old_spans[summary.id]) for cover in shown)
    )
    for cover in covers or ():
        if cover.summary_id is None:
            hidden |= {new for old, new in new_seqs.items() if cover.first_seq <= old <= cover.last_seq}
    own = tuple(summary for summary in kept.values() if summary.id not in records.inherited_ids)
    return RestoredContext(tuple(_spans(hidden)), own, kept, roots, tuple(lost))


def _place(summary: Summary, seqs: list[int], kept: Mapping[str, Summary]) -> Summary | None:
    if summary.kind == "leaf":
        spans = [(min(seqs), max(seqs))] if len(seqs) == summary.message_count and seqs else []
    else:
        is_whole = summary.child_ids and all(child in kept for child in summary.child_ids)
        spans = [(kept[child].first_seq, kept[child].last_seq) for child in summary.child_ids] if is_whole else []
    if not spans:
        return None
    first_seq, last_seq = min(first for first, _ in spans), max(last for _, last in spans)
    return summary.model_copy(update={"first_seq": first_seq, "last_seq": last_seq})


def _contains(cover: Cover, span: Span) -> bool:
    return cover.first_seq <= span[0] and span[1] <= cover.last_seq


def _spans(seqs: Iterable[int]) -> list[Span]:
    spans: list[Span] = []
    for seq in sorted(seqs):
        if spans and spans[-1][1] == seq - 1:
            spans[-1] = (spans[-1][0], seq)
        else:
            spans.append((seq, seq))
    return spans
