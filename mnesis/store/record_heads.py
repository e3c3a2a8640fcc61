"""The hashes of a session's records that an append does not change: summaries, sweeps, interruptions, spans, covers and
pins.

Pure functions, no I/O. A store passes a function that returns the rows of one of its statements.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mnesis.models.context import Cover
from mnesis.store.chain import EMPTY_HEAD, compress_seqs, encode_record, extend_chain, hash_bytes, hash_set
from mnesis.store.codec import DamagedValueError
from mnesis.store.covers import Span, add_seq, merge_spans

Rows: TypeAlias = Callable[[str], Iterable[tuple[Any, ...]]]
"""Returns the rows of a session that a named statement of the store selects. They are read one after another."""


@dataclass(slots=True)
class RecordHeads:
    """One hash per kind of record. The first four are chains in the order of rows, the others are hashes of sets."""

    summaries: bytes = EMPTY_HEAD
    compactions: bytes = EMPTY_HEAD
    interruptions: bytes = EMPTY_HEAD
    hidden_spans: bytes = EMPTY_HEAD
    prunes: bytes = EMPTY_HEAD
    covers: bytes = EMPTY_HEAD
    pins: bytes = EMPTY_HEAD

    def combine(self) -> bytes:
        """Return the hash of all of them, which the hash of the session covers."""
        # Not astuple(), which copies each value, because each first read of a window needs this.
        return hash_bytes(b"".join([getattr(self, kind) for kind in self.__slots__]))

    def add_summary(
        self, pk: int, summary: tuple[str, int, int, int, int, bytes], seqs: Iterable[int], child_ids: Sequence[str]
    ) -> None:
        """Extend the chain of summaries. `summary` is (id, first, last, tokens, messages, hash of the body)."""
        self.add_stored_summary(pk, summary, compress_seqs(seqs), child_ids)

    def add_stored_summary(
        self, pk: int, summary: tuple[str, int, int, int, int, bytes], ends: Sequence[int], child_ids: Sequence[str]
    ) -> None:
        """Add a summary like `add_summary`, with compressed seqs (`mnesis.store.chain.compress_seqs`)."""
        edges: tuple[str | int, ...] = (len(child_ids), *child_ids, *ends)
        self.summaries = extend_chain(self.summaries, encode_record("summary", pk, *summary, *edges))

    def add_inherited(self, pk: int, summary_id: str, digest: bytes) -> None:
        """Extend the chain of summaries by a summary of another session that a fork also has. That session proves its
        edges.
        """
        self.summaries = extend_chain(self.summaries, encode_record("inherited", pk, summary_id, digest))

    def add_compaction(self, pk: int, result: bytes) -> None:
        """Extend the chain of sweeps."""
        self.compactions = extend_chain(self.compactions, encode_record("compaction", pk, result))

    def add_interruption(self, pk: int, body: bytes) -> None:
        """Extend the chain of interruptions."""
        self.interruptions = extend_chain(self.interruptions, encode_record("interruption", pk, body))

    def add_hidden_span(self, pk: int, first_seq: int, last_seq: int) -> None:
        """Extend the chain of hidden spans."""
        self.hidden_spans = extend_chain(self.hidden_spans, encode_record("hidden", pk, first_seq, last_seq))

    def set_prunes(self, prunes: Iterable[tuple[int, int, int]]) -> None:
        """Hash all prunes: seq, part index and tokens saved, in order."""
        self.prunes = hash_set("prunes", prunes)

    def set_covers(self, covers: Iterable[Cover]) -> None:
        """Hash all covers, in order."""
        self.covers = hash_set("covers", [(cover.first_seq, cover.last_seq, cover.summary_id) for cover in covers])

    def set_pins(self, seqs: Iterable[int]) -> None:
        """Hash the seqs of all pinned messages."""
        self.pins = hash_set("pins", [sorted(seqs)])


NO_RECORDS = RecordHeads().combine()
"""The hash of a session that has no such records yet."""


def refuse_damaged_context(
    heads: RecordHeads, record_head: bytes, covers: Iterable[Cover], pins: Iterable[int], session_id: str
) -> None:
    """Compare covers and pins that were read with the record heads of their session. Raises `DamagedValueError`."""
    if heads.combine() != record_head:
        raise DamagedValueError(f"the list of records of session {session_id!r}")
    read = RecordHeads()
    read.set_covers(covers)
    read.set_pins(pins)
    for kind in ("covers", "pins"):
        if getattr(read, kind) != getattr(heads, kind):
            raise DamagedValueError(f"the list of {kind} of session {session_id!r}")


def compute_record_heads(rows: Rows) -> RecordHeads:
    """Compute the record heads of a session from its rows."""
    return RecordHeads(*(compute_record_head(rows, kind) for kind in RecordHeads.__slots__))


def compute_record_head(rows: Rows, kind: str) -> bytes:
    """Compute one of the record heads of a session, which is a field of `RecordHeads`, from its rows."""
    heads = RecordHeads()
    match kind:
        case "summaries":
            _add_summaries(heads, rows)
        case "compactions":
            for pk, result in rows("check_compactions"):
                heads.add_compaction(pk, result)
        case "interruptions":
            for pk, body in rows("check_interruptions"):
                heads.add_interruption(pk, body)
        case "hidden_spans":
            for pk, first_seq, last_seq in rows("check_hidden_rows"):
                heads.add_hidden_span(pk, first_seq, last_seq)
        case "prunes":
            heads.set_prunes(rows("check_prunes"))
        case "covers":
            heads.set_covers(Cover(*row) for row in rows("covers"))
        case "pins":
            heads.set_pins(seq for (seq,) in rows("pins"))
    head: bytes = getattr(heads, kind)
    return head


def _add_summaries(heads: RecordHeads, rows: Rows) -> None:
    spans: defaultdict[int, list[Span]] = defaultdict(list)
    for summary_pk, seq in rows("check_edges"):
        add_seq(spans[summary_pk], seq)
    children: defaultdict[int, list[str]] = defaultdict(list)
    for summary_pk, position, child_id in rows("check_child_ids"):
        # A changed position must be noticed even if the order is the same.
        children[summary_pk].append(child_id if position == len(children[summary_pk]) else f"{position}:{child_id}")
    for pk, summary_id, digest in rows("check_inherited"):
        heads.add_inherited(pk, summary_id, digest)
    for pk, *summary in rows("check_summary_rows"):
        ends = [end for span in merge_spans(spans[pk]) for end in span]
        heads.add_stored_summary(pk, tuple(summary), ends, children[pk])
