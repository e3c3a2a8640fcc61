"""Transactions on forks: create one, and compute the head of the messages that it shares."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import reduce

from mnesis.errors import SessionNotFoundError
from mnesis.models.context import Cover
from mnesis.models.session import ForkPoint, SessionRecord
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import DamagedValueError, hash_of, is_message_intact
from mnesis.store.covers import visible_spans
from mnesis.store.forks import (
    Segment,
    SummaryParts,
    clip_spans,
    fork_record,
    inherit_covers,
    inherit_segments,
    refuse_missing_fork_point,
    refuse_other_fork,
    seqs_to_spans,
)
from mnesis.store.record_heads import RecordHeads
from mnesis.store.settings import settings_json
from mnesis.store.sqlite import log
from mnesis.store.sqlite.accounts import (
    StoredSession,
    insert_session_accounts,
    load_session,
    load_session_for_update,
    profile_hash,
)
from mnesis.store.sqlite.changes import note_created
from mnesis.store.sqlite.context import insert_hidden_spans, load_pins, span_tokens, summary_spans
from mnesis.store.sqlite.log import NO_LIMIT
from mnesis.store.sqlite.queries import sql
from mnesis.store.sqlite.rows import Row, encoded_from_row, load_covers


@dataclass(frozen=True, slots=True)
class SharedLog:
    """The messages that a fork shares: the head after them, and the newest, or None if there are none."""

    head: bytes
    last_message: Row | None


def read_shared_log(connection: sqlite3.Connection, session_id: str, last_seq: int) -> SharedLog:
    """Compute the head of a log at `last_seq`. Raises `DamagedValueError` if the log does not lead to its own head."""
    stored = load_session(connection, session_id)
    refuse_missing_fork_point(stored.record, last_seq)
    if last_seq == 0:
        return SharedLog(b"", None)
    row = log.load_rows(connection, stored, [(last_seq, last_seq)])[0]
    if last_seq == stored.record.last_seq:
        return SharedLog(stored.log_head, row)
    segments = load_segments(connection, stored.pk)
    first = first_log_head(segments[0][1] if segments else session_id)
    head = wanted = first
    for seq, stored_hash in enumerate(_stored_hashes(connection, stored, [each for each, _ in segments]), 1):
        head = extend_chain(head, stored_hash)
        wanted = head if seq == last_seq else wanted
    if head == stored.log_head:
        return SharedLog(wanted, row)
    # Messages of an older release are stored with the hash of their content only.
    return SharedLog(reduce(extend_chain, _computed_hashes(connection, stored, last_seq), first), row)


def load_segments(connection: sqlite3.Connection, session_pk: int) -> list[tuple[Segment, str]]:
    """Load the segments of a fork, each with the id of the session that stores it."""
    rows = connection.execute(sql("segments"), {"session_pk": session_pk})
    return [(Segment(*row[:3]), row[3]) for row in rows]


def _stored_hashes(connection: sqlite3.Connection, stored: StoredSession, segments: list[Segment]) -> Iterator[bytes]:
    for each in inherit_segments(segments, stored.pk, stored.record.last_seq):
        parameters = {"session_pk": each.source_pk, "first_seq": each.first_seq, "last_seq": each.last_seq}
        for (stored_hash,) in connection.execute(sql("log_hashes"), parameters):
            yield stored_hash


def _computed_hashes(connection: sqlite3.Connection, stored: StoredSession, last_seq: int) -> Iterator[bytes]:
    for seq, row in enumerate(log.load_rows(connection, stored, [(1, last_seq)]), 1):
        owner_id = row[9] if len(row) > 9 else stored.record.id
        message = encoded_from_row(row)
        if row[0] != seq or not is_message_intact(owner_id, seq, message):
            raise DamagedValueError(f"message {seq} of session {stored.record.id!r}")
        yield hash_of(owner_id, seq, message)


def create_fork(
    connection: sqlite3.Connection,
    session_id: str,
    fork: SessionRecord,
    last_seq: int,
    shared: SharedLog,
    summary_ids: Collection[str] | None,
) -> tuple[SessionRecord, bool]:
    """Insert a fork of a session at `last_seq`. `shared` was read before, because a log only grows.

    With `summary_ids` it has only these summaries, and nothing else of the context of the origin.
    """
    origin = load_session_for_update(connection, session_id)
    refuse_missing_fork_point(origin.record, last_seq)
    point = _fork_point(session_id, shared.last_message)
    try:
        existing = load_session(connection, fork.id).record
    except SessionNotFoundError:
        pass
    else:
        refuse_other_fork(existing, point)
        return existing, False
    last_rows = log.load_rows(connection, origin, [(last_seq, last_seq)]) if last_seq else []
    if last_rows != ([] if shared.last_message is None else [shared.last_message]):
        raise SessionNotFoundError(session_id)  # another session now has its id
    covers = inherit_covers(
        load_covers(connection, origin.pk),
        last_seq,
        origin.record.last_seq,
        lambda summary_id: _parts(connection, origin.pk, summary_id),
    )
    if summary_ids is not None:
        covers = ()
    shown_spans = visible_spans(covers, last_seq)
    message_tokens, tool_tokens = span_tokens(connection, origin, shown_spans, with_prunes=summary_ids is None)
    shown_ids = [cover.summary_id for cover in covers if cover.summary_id is not None]
    spans = summary_spans(connection, origin.pk, shown_ids)
    record = fork_record(
        fork,
        origin.record,
        last_seq,
        point,
        message_tokens=message_tokens,
        tool_tokens=tool_tokens,
        summary_tokens=sum(spans[summary_id][1] for summary_id in shown_ids),
    )
    return _insert(connection, origin, record, covers, shared.head, summary_ids), True


def _fork_point(session_id: str, row: Row | None) -> ForkPoint | None:
    """Return the point from which a fork after a message continues. The row of a shared message names the session that
    stores it.
    """
    return None if row is None else ForkPoint(row[9] if len(row) > 9 else session_id, row[0], row[1])


def _insert(
    connection: sqlite3.Connection,
    origin: StoredSession,
    record: SessionRecord,
    covers: tuple[Cover, ...],
    log_head: bytes,
    summary_ids: Collection[str] | None,
) -> SessionRecord:
    profile = settings_json(record)
    hash_of_profile = profile_hash(record, profile)
    names = {"id": record.id, "parent_id": record.parent_id, "created_at": record.created_at}
    inserted = connection.execute(sql("insert_session"), {**names, "profile": profile, "hash": hash_of_profile})
    session_pk = inserted.lastrowid or 0
    origin_segments = [each for each, _ in load_segments(connection, origin.pk)]
    connection.executemany(
        sql("insert_segment"),
        [
            (session_pk, each.first_seq, each.last_seq, each.source_pk)
            for each in inherit_segments(origin_segments, origin.pk, record.last_seq)
        ],
    )
    inherited = {"session_pk": session_pk, "origin_pk": origin.pk, "last_seq": record.last_seq}
    names_of_summaries = None if summary_ids is None else json.dumps(sorted(summary_ids))
    connection.execute(sql("inherit_summaries"), {**inherited, "ids": names_of_summaries})
    if summary_ids is None:
        connection.execute(sql("inherit_prunes"), inherited)
        connection.execute(sql("inherit_pins"), inherited)
    connection.executemany(
        sql("insert_cover"),
        [
            {"session_pk": session_pk, "first_seq": c.first_seq, "last_seq": c.last_seq, "summary_id": c.summary_id}
            for c in covers
        ],
    )
    heads = RecordHeads()
    for row in connection.execute(sql("check_inherited"), {"session_pk": session_pk}):
        heads.add_inherited(*row)
    hidden = connection.execute(sql("hidden_spans"), {"session_pk": origin.pk}) if summary_ids is None else ()
    insert_hidden_spans(connection, session_pk, clip_spans(list(hidden), record.last_seq), heads)
    heads.set_prunes(connection.execute(sql("check_prunes"), {"session_pk": session_pk}))
    heads.set_covers(covers)
    heads.set_pins(load_pins(connection, session_pk))
    change_pk = note_created(connection, session_pk, record)
    insert_session_accounts(connection, session_pk, record, change_pk, hash_of_profile, log_head or None, heads)
    return record


def _parts(connection: sqlite3.Connection, session_pk: int, summary_id: str) -> SummaryParts:
    parameters = {"session_pk": session_pk, "id": summary_id, "after_seq": 0, "limit": NO_LIMIT}
    children = tuple(Cover(*row) for row in connection.execute(sql("summary_children"), parameters))
    if children:
        return SummaryParts(children=children)
    seqs = (seq for (seq,) in connection.execute(sql("covered_seqs"), parameters))
    return SummaryParts(spans=tuple(seqs_to_spans(seqs)))
