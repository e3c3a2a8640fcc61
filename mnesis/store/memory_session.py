"""One session of an in-memory store. The store holds its lock around every use."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mnesis.errors import SessionNotFoundError, SummaryNotFoundError
from mnesis.models.context import Cover, Prune
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.session import ForkPoint, Interruption, SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.turn_lease import TurnLease
from mnesis.store.accounting import accounts_after_fold, refuse_other_content
from mnesis.store.base import AppendResult
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import EncodedMessage, decode_message, from_json, hash_of, to_json
from mnesis.store.covers import CoverDiff, Span, contains, visible_spans
from mnesis.store.forks import Segment, SummaryParts, fork_record, inherit_covers, inherit_segments


@dataclass(slots=True)
class MemorySession:
    """A session and everything that belongs to it. A fork shares the messages of `segments`, and its log has them too."""

    key: int
    record: SessionRecord
    last_used: int
    log_head: bytes
    log: list[EncodedMessage] = field(default_factory=list)
    seqs_by_id: dict[str, int] = field(default_factory=dict)
    summaries: dict[str, Summary] = field(default_factory=dict)
    leaves: dict[str, list[Span]] = field(default_factory=dict)
    covers: tuple[Cover, ...] = ()
    prunes: dict[tuple[int, int], Prune] = field(default_factory=dict)
    turns: list[TurnSnapshot] = field(default_factory=list)
    compactions: list[CompactionResult] = field(default_factory=list)
    interruptions: list[Interruption] = field(default_factory=list)
    pins: set[int] = field(default_factory=set)
    file_references: list[FileReference] = field(default_factory=list)
    turn_lease: TurnLease | None = None
    segments: list[tuple[Segment, str]] = field(default_factory=list)
    """The shared messages of a fork, with the sessions that store them."""
    summary_owners: dict[str, str] = field(default_factory=dict)
    """The sessions whose summaries a fork also has, by summary."""

    def owner_id(self, seq: int) -> str:
        """Return the session that stores a message: this one, or another whose messages a fork shares."""
        return next((owner_id for each, owner_id in self.segments if seq <= each.last_seq), self.record.id)


def fork_memory_session(
    key: int, origin: MemorySession, fork: SessionRecord, last_seq: int, summary_ids: Collection[str] | None
) -> MemorySession:
    """Return a new fork of a session at `last_seq`. It shares the encoded messages.

    With `summary_ids` it has only these summaries, and nothing else of the context of the origin.
    """
    log = origin.log[:last_seq]
    owners = {each.source_pk: owner_id for each, owner_id in origin.segments} | {origin.key: origin.record.id}
    segments = inherit_segments([each for each, _ in origin.segments], origin.key, last_seq)
    head = first_log_head(owners[segments[0].source_pk] if segments else fork.id)
    for message in log:
        head = extend_chain(head, message.stored_hash)
    summaries = {
        key: summary
        for key, summary in origin.summaries.items()
        if summary.last_seq <= last_seq and (summary_ids is None or key in summary_ids)
    }
    session = MemorySession(
        key,
        origin.record,
        time.time_ns(),
        head,
        log=log,
        seqs_by_id={message.id: seq for seq, message in enumerate(log, 1)},
        summaries={key: each.model_copy(update={"session_id": fork.id}) for key, each in summaries.items()},
        leaves={key: spans for key, spans in origin.leaves.items() if key in summaries},
        covers=inherit_covers(
            origin.covers, last_seq, origin.record.last_seq, lambda summary_id: _parts(origin, summary_id)
        ),
        prunes={place: prune for place, prune in origin.prunes.items() if prune.seq <= last_seq},
        pins={seq for seq in origin.pins if seq <= last_seq},
        segments=[(each, owners[each.source_pk]) for each in segments],
        summary_owners={key: origin.summary_owners.get(key, origin.record.id) for key in summaries},
    )
    if summary_ids is not None:
        session.covers, session.prunes, session.pins = (), {}, set()
    message_tokens, tool_tokens = span_tokens(session, visible_spans(session.covers, last_seq))
    session.record = fork_record(
        copy_record(fork),
        origin.record,
        last_seq,
        fork_point(origin, last_seq),
        message_tokens=message_tokens,
        tool_tokens=tool_tokens,
        summary_tokens=sum(
            session.summaries[each.summary_id].token_count for each in session.covers if each.summary_id
        ),
    )
    return session


def fork_point(origin: MemorySession, last_seq: int) -> ForkPoint | None:
    """Return the point from which a fork at `last_seq` continues; None if it shares no messages."""
    return ForkPoint(origin.owner_id(last_seq), last_seq, origin.log[last_seq - 1].id) if last_seq else None


def _parts(stored: MemorySession, summary_id: str) -> SummaryParts:
    summary = stored.summaries[summary_id]
    children = (stored.summaries[child] for child in summary.child_ids)
    return SummaryParts(
        tuple(Cover(child.first_seq, child.last_seq, child.id) for child in children),
        tuple(stored.leaves.get(summary_id, ())),
    )


def save_record(stored: MemorySession, record: SessionRecord) -> SessionRecord:
    """Replace the record of a session, which was used now. Returns a copy for the caller."""
    stored.record = record
    stored.last_used = max(stored.last_used + 1, time.time_ns())
    return copy_record(record)


def copy_record(record: SessionRecord) -> SessionRecord:
    """Copy a record, including its metadata, so that callers cannot change the stored one."""
    return replace(record, metadata=from_json(to_json(record.metadata, f"session {record.id!r}, metadata")))


def find_summary(stored: MemorySession, summary_id: str) -> Summary:
    """Return a summary of a session. Raises `SummaryNotFoundError`."""
    if summary_id not in stored.summaries:
        raise SummaryNotFoundError(summary_id, location=f"session {stored.record.id!r}")
    return stored.summaries[summary_id]


def covered_by(stored: MemorySession, summary: Summary) -> Iterator[int]:
    """Yield the seqs of the messages that a summary covers, however deep."""
    for first, last in stored.leaves.get(summary.id, ()):
        yield from range(first, last + 1)
    for child in summary.child_ids:
        yield from covered_by(stored, stored.summaries[child])


def span_tokens(stored: MemorySession, spans: Sequence[Span]) -> tuple[int, int]:
    """Return the tokens and tool tokens of the messages in `spans`, with their prunes applied."""
    messages = [stored.log[seq - 1] for first, last in spans for seq in range(first, last + 1)]
    saved = sum(prune.tokens_saved for prune in stored.prunes.values() if contains(spans, prune.seq))
    return (
        sum(message.token_count for message in messages) - saved,
        sum(message.tool_tokens for message in messages) - saved,
    )


def find_memory_session(sessions: Mapping[str, MemorySession], session_id: str) -> MemorySession:
    """Return a session. Raises `SessionNotFoundError`."""
    if session_id not in sessions:
        raise SessionNotFoundError(session_id)
    return sessions[session_id]


def read_messages(stored: MemorySession, spans: Iterable[Span]) -> list[Message]:
    """Decode the messages of spans, in order."""
    return [
        decode_message(stored.record.id, seq, stored.log[seq - 1], stored.owner_id(seq))
        for first, last in spans
        for seq in range(first, last + 1)
    ]


def extend_log(stored: MemorySession, encoded: Iterable[EncodedMessage]) -> None:
    """Append encoded messages to the log of a session, with their hashes."""
    for seq, message in enumerate(encoded, len(stored.log) + 1):
        stored_hash = hash_of(stored.record.id, seq, message)
        stored.log.append(message._replace(stored_hash=stored_hash))
        stored.log_head = extend_chain(stored.log_head, stored_hash)


def repeat_append(stored: MemorySession, encoded: Sequence[EncodedMessage]) -> AppendResult:
    """Return the result of an append whose messages are stored already. Raises `DuplicateIDError` for other content."""
    seqs = sorted(stored.seqs_by_id[message.id] for message in encoded if message.id in stored.seqs_by_id)
    refuse_other_content(encoded, [stored.log[seq - 1] for seq in seqs])
    snapshots = [turn for turn in stored.turns if turn.seq == seqs[-1]]
    messages = read_messages(stored, [(seq, seq) for seq in seqs])
    return AppendResult(copy_record(stored.record), tuple(messages), snapshots[-1] if snapshots else None, is_new=False)


def apply_diff(stored: MemorySession, diff: CoverDiff, prunes: Iterable[Prune]) -> SessionRecord:
    """Change the covers and prunes of a session, and return its record with the new accounts."""
    hidden_tokens, hidden_tool_tokens = span_tokens(stored, diff.hidden)
    shown_tokens, shown_tool_tokens = span_tokens(stored, diff.shown)
    new = {(prune.seq, prune.part_index): prune for prune in reversed(list(prunes))}
    new = {key: prune for key, prune in new.items() if key not in stored.prunes}
    spans = visible_spans(diff.covers, stored.record.last_seq)
    saved_tokens = sum(prune.tokens_saved for prune in new.values() if contains(spans, prune.seq))
    stored.prunes.update(new)
    stored.covers = diff.covers
    ids = [cover.summary_id for cover in diff.covers if cover.summary_id is not None]
    after = accounts_after_fold(
        stored.record,
        message_tokens=shown_tokens - hidden_tokens - saved_tokens,
        tool_tokens=shown_tool_tokens - hidden_tool_tokens - saved_tokens,
        summary_tokens=sum(stored.summaries[key].token_count for key in ids),
    )
    return save_record(stored, after)
