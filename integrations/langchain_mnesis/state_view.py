"""The view of an agent's state: which messages of the log it shows, and through which summaries. Pure functions, no I/O.

The log of a thread contains every message of every branch once. A state is a list of messages; its view is the part of
the log that consists of exactly these messages, in this order. A summary belongs to the view if all its originals do.
When a state is edited or rewound, summaries that no longer apply are removed from the view, and those that apply again
return.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_mnesis.messages.convert import (
    EXTRA_KEY,
    ORIGIN_KEY,
    checkpoint_stable_form,
    from_record,
    langchain_id,
    record_text,
)
from langchain_mnesis.messages.serialize import dump_message
from mnesis.models.context import Cover
from mnesis.models.message import Message

Fingerprint = bytes


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message of the log: its position, its LangChain id and its content.

    `is_own` says whether it was logged from the same state. Only such messages are matched without an id.
    """

    seq: int
    langchain_id: str | None
    fingerprint: Fingerprint
    is_own: bool = True

    def is_same(self, message_id: str | None) -> bool:
        """Return whether this record is a message with this id and the same content."""
        if message_id is None or self.langchain_id is None:
            return self.is_own
        return message_id == self.langchain_id


@dataclass(frozen=True, slots=True)
class SummaryOriginals:
    """A summary of the session: its span, and the seqs of its originals."""

    id: str
    first_seq: int
    last_seq: int
    seqs: frozenset[int]


def canonical_json(message: BaseMessage) -> str:
    """Return a message's content as JSON, without its id and without the parts that a checkpoint changes."""
    return _canonical_json(dump_message(message))


def fingerprint(text: str) -> Fingerprint:
    """Return a hash of the canonical JSON of a message."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def record_fingerprint(record: Message) -> Fingerprint:
    """Return the fingerprint of a record's message as LangChain has it."""
    data = record.extra.get(EXTRA_KEY)
    fields = data.get("f") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(fields, dict):
        return fingerprint(canonical_json(from_record(record)[0]))
    content = {} if "content" in fields else {"content": record_text(record)}
    return fingerprint(_canonical_json({**data, "f": {**content, **fields}}))


def logged_message(record: Message, origin: str | None) -> LoggedMessage:
    """Return the identity of a record. `origin` identifies the state whose records have `is_own` set."""
    return LoggedMessage(
        record.seq, langchain_id(record), record_fingerprint(record), record.extra.get(ORIGIN_KEY) == origin
    )


def match_log(
    state: Sequence[tuple[str | None, Fingerprint]], log: Mapping[Fingerprint, Sequence[LoggedMessage]]
) -> list[int]:
    """Return the seqs of the longest beginning of a state that the log contains in the state's order.

    A state's message is its id and its fingerprint. A message without an id is matched by its content alone.
    """
    seqs: list[int] = []
    for message_id, content in state:
        previous_seq = seqs[-1] if seqs else 0
        seq = next(
            (logged.seq for logged in log.get(content, ()) if logged.seq > previous_seq and logged.is_same(message_id)),
            None,
        )
        if seq is None:
            break
        seqs.append(seq)
    return seqs


def plan_covers(
    shown: Collection[int],
    last_seq: int,
    current: Sequence[Cover],
    summaries: Iterable[SummaryOriginals],
    *,
    protected_seqs: Collection[int],
    open_from: int,
) -> tuple[Cover, ...]:
    """Return the covers under which exactly the messages `shown` are in the view, some of them through summaries.

    A summary applies if all its originals are shown and no other shown message is in its span. Summaries of the
    `current` covers come first, then those of most messages. `protected_seqs` are never summarised. Messages from
    `open_from` on are summarised only if they already are.
    """
    shown_seqs, taken = set(shown), set[int]()
    ordered_seqs = sorted(shown_seqs)
    current_ids = {cover.summary_id for cover in current}
    covers: list[Cover] = []
    for summary in sorted(summaries, key=lambda s: (s.id not in current_ids, -len(s.seqs), s.first_seq)):
        is_open = summary.id not in current_ids and summary.last_seq >= open_from
        if is_open or not summary.seqs <= shown_seqs or not summary.seqs.isdisjoint(protected_seqs):
            continue
        span_seqs = range(summary.first_seq, summary.last_seq + 1)
        overlaps = any(cover.first_seq <= summary.last_seq and summary.first_seq <= cover.last_seq for cover in covers)
        if overlaps or sum(1 for seq in ordered_seqs if seq in span_seqs) != len(summary.seqs):
            continue
        covers.append(Cover(summary.first_seq, summary.last_seq, summary.id))
        taken.update(span_seqs)
    hidden = [seq for seq in range(1, last_seq + 1) if seq not in shown_seqs and seq not in taken]
    covers += [Cover(first, last, None) for first, last in _spans(hidden)]
    return tuple(sorted(covers, key=lambda cover: cover.first_seq))


def _spans(seqs: Iterable[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for seq in seqs:
        if spans and spans[-1][1] + 1 == seq:
            spans[-1] = (spans[-1][0], seq)
        else:
            spans.append((seq, seq))
    return spans


def _canonical_json(data: Mapping[str, Any]) -> str:
    fields = {name: value for name, value in data["f"].items() if name != "id"}
    rest = {key: value for key, value in data.items() if key != "v"}
    stable = checkpoint_stable_form({**rest, "f": fields})
    return json.dumps(stable, sort_keys=True, default=str)
