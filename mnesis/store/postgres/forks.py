"""Transactions on forks: create one, and compute the head of the messages that it shares."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mnesis.errors import SessionNotFoundError
from mnesis.models.context import Cover
from mnesis.models.session import ForkPoint, SessionRecord
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import DamagedValueError
from mnesis.store.covers import visible_spans
from mnesis.store.forks import (
    SummaryParts,
    fork_record,
    inherit_covers,
    inherit_segments,
    refuse_missing_fork_point,
    refuse_other_fork,
    seqs_to_spans,
)
from mnesis.store.postgres.accounts import insert_accounts, insert_session, rows_of_session
from mnesis.store.postgres.changes import note_created
from mnesis.store.postgres.context import (
    covers_from_rows,
    read_span_tokens,
    read_summary_spans,
    send_covers,
    send_span_tokens,
    send_summary_spans,
)
from mnesis.store.postgres.log import load_rows
from mnesis.store.postgres.rows import Parameters, Row, from_text, to_text
from mnesis.store.postgres.segments import load_segments
from mnesis.store.postgres.sessions import load
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Transaction
from mnesis.store.record_heads import compute_record_heads


@dataclass(frozen=True, slots=True)
class SharedLog:
    """The messages that a fork shares: the head after them, and the newest, or None if there are none."""

    head: bytes
    last_message: Row | None


def read_shared_log(transaction: Transaction, session_id: str, last_seq: int) -> SharedLog:
    """Compute the head of a log at `last_seq`. Raises `DamagedValueError` if the log does not lead to its own head."""
    stored = load(transaction, session_id)
    refuse_missing_fork_point(stored.record, last_seq)
    if last_seq == 0:
        return SharedLog(b"", None)
    row = load_rows(transaction, stored.pk, [(last_seq, last_seq)])[0]
    if last_seq == stored.record.last_seq:
        return SharedLog(stored.log_head, row)
    segments = load_segments(transaction, stored.pk)
    head = wanted = first_log_head(segments[0][1] if segments else session_id)
    seq = 0
    for each in inherit_segments([segment for segment, _ in segments], stored.pk, stored.record.last_seq):
        parameters = {"session_pk": each.source_pk, "first_seq": each.first_seq, "last_seq": each.last_seq}
        for (stored_hash,) in transaction.rows("log_hashes", parameters):
            seq, head = seq + 1, extend_chain(head, stored_hash)
            wanted = head if seq == last_seq else wanted
    if head != stored.log_head:
        raise DamagedValueError(f"the log of session {session_id!r}")
    return SharedLog(wanted, row)


def create_fork(
    transaction: Transaction,
    session_id: str,
    fork: SessionRecord,
    last_seq: int,
    shared: SharedLog,
    summary_ids: Collection[str] | None,
) -> tuple[SessionRecord, bool]:
    """Insert a fork of a session at `last_seq`. `shared` may have been read earlier, because a log only grows.

    With `summary_ids` it has only these summaries, and nothing else of the context of the origin.
    """
    lock, covers_answer = transaction.lock_session(session_id), send_covers(transaction, session_id)
    origin, origin_covers = lock.read(), covers_from_rows(covers_answer.rows())
    refuse_missing_fork_point(origin.record, last_seq)
    last_rows = load_rows(transaction, origin.pk, [(last_seq, last_seq)]) if last_seq else []
    if last_rows != ([] if shared.last_message is None else [shared.last_message]):
        raise SessionNotFoundError(session_id)  # another session now has its id
    row = shared.last_message
    point = None if row is None else ForkPoint(from_text(row[9]), row[0], from_text(row[1]))
    covers = inherit_covers(
        origin_covers,
        last_seq,
        origin.record.last_seq,
        lambda summary_id: _parts(transaction, origin.pk, summary_id),
    )
    if summary_ids is not None:
        covers = ()
    shown_ids = [cover.summary_id for cover in covers if cover.summary_id is not None]
    tokens_answer = send_span_tokens(transaction, origin, visible_spans(covers, last_seq))
    summaries = read_summary_spans(send_summary_spans(transaction, session_id, shown_ids))
    message_tokens, tool_tokens = read_span_tokens(tokens_answer, with_prunes=summary_ids is None)
    record = fork_record(
        fork,
        origin.record,
        last_seq,
        point,
        message_tokens=message_tokens,
        tool_tokens=tool_tokens,
        summary_tokens=sum(summaries[summary_id][1] for summary_id in shown_ids),
    )
    inserted = insert_session(transaction, record)
    if inserted is None:
        existing = load(transaction, record.id).record
        refuse_other_fork(existing, point)
        return existing, False
    _insert(transaction, origin, inserted, record, covers, shared.head, summary_ids)
    return record, True


def _insert(
    transaction: Transaction,
    origin: StoredSession,
    inserted: tuple[int, bytes],
    record: SessionRecord,
    covers: tuple[Cover, ...],
    log_head: bytes,
    summary_ids: Collection[str] | None,
) -> None:
    session_pk, profile_hash = inserted
    segments = inherit_segments([each for each, _ in load_segments(transaction, origin.pk)], origin.pk, record.last_seq)
    transaction.send_many(
        "insert_segment",
        [
            {
                "session_pk": session_pk,
                "first_seq": each.first_seq,
                "last_seq": each.last_seq,
                "source_pk": each.source_pk,
            }
            for each in segments
        ],
    )
    inherited: Parameters = {"session_pk": session_pk, "origin_pk": origin.pk, "last_seq": record.last_seq}
    ids = None if summary_ids is None else [to_text(each) for each in summary_ids]
    transaction.send("inherit_summaries", inherited | {"ids": ids})
    for name in ("inherit_prunes", "inherit_pins", "inherit_hidden_spans") if summary_ids is None else ():
        transaction.send(name, inherited)
    transaction.send_many(
        "insert_cover",
        [
            {
                "session_pk": session_pk,
                "first_seq": cover.first_seq,
                "last_seq": cover.last_seq,
                "summary_id": None if cover.summary_id is None else to_text(cover.summary_id),
            }
            for cover in covers
        ],
    )
    heads = compute_record_heads(rows_of_session(transaction, session_pk, record.id))
    insert_accounts(transaction, session_pk, record, profile_hash, log_head or None, heads)
    note_created(transaction, session_pk, record)


def _parts(transaction: Transaction, session_pk: int, summary_id: str) -> SummaryParts:
    parameters: Parameters = {"session_pk": session_pk, "id": to_text(summary_id), "after_seq": 0, "limit": None}
    children = tuple(
        Cover(first, last, from_text(name)) for first, last, name in transaction.rows("summary_children", parameters)
    )
    if children:
        return SummaryParts(children=children)
    seqs = (seq for (seq,) in transaction.rows("covered_seqs", parameters))
    return SummaryParts(spans=tuple(seqs_to_spans(seqs)))
