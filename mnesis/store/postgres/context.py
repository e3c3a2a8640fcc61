"""Transactions on the active context: read it, fold, hide and pin, and read summaries and the messages they cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mnesis.errors import SummaryNotFoundError
from mnesis.models.context import Cover, Prune
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.accounting import accounts_after_fold, add_spending, finalize_result
from mnesis.store.base import Append, AppendResult, Compaction
from mnesis.store.codec import EncodedMessage, encode_summary, to_json
from mnesis.store.covers import (
    CoverDiff,
    Span,
    change_covers,
    contains,
    hide_span,
    hide_spans,
    leaf_spans,
    referenced_summary_ids,
    refuse_pinned,
    refuse_unpinnable,
    validate_compaction,
    visible_spans,
)
from mnesis.store.forks import seqs_to_spans
from mnesis.store.postgres.accounts import read_record_heads, save_accounts
from mnesis.store.postgres.changes import note_compaction, note_update
from mnesis.store.postgres.log import append_to, load_rows, rows_by_id, send_messages_by_id, span_parameters
from mnesis.store.postgres.rows import (
    Parameters,
    from_text,
    is_storable_id,
    message_from_row,
    summary_from_row,
    to_text,
)
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Answer, Transaction, session_parameters, stored_session
from mnesis.store.postgres.turn_leases import refuse_lost_turn, send_fence
from mnesis.store.record_heads import RecordHeads


def compact(transaction: Transaction, session_id: str, sweep: Compaction) -> SessionRecord:
    """Commit a sweep: its summaries, covers, prunes and result."""
    encoded = [encode_summary(summary) for summary in sweep.summaries]
    lock = transaction.lock_session(session_id)
    covers_answer = send_covers(transaction, session_id)
    ids = referenced_summary_ids(sweep).union(summary.id for summary in sweep.summaries)
    spans_answer = send_summary_spans(transaction, session_id, ids)
    pins_answer = transaction.send("pins", session_parameters(session_id))
    heads_answer = send_record_heads(transaction, session_id)
    stored, heads = lock.read(), read_record_heads(heads_answer, session_id)
    current_covers = covers_from_rows(covers_answer.rows())
    older_summaries = read_summary_spans(spans_answer)
    older_spans = {key: span for key, (span, _) in older_summaries.items()}
    diff = validate_compaction(sweep, current_covers, stored.record.last_seq, older_spans, session_id)
    refuse_pinned([seq for (seq,) in pins_answer.rows()], diff.hidden, session_id)
    for summary, (body, digest) in zip(sweep.summaries, encoded, strict=True):
        _insert_summary(transaction, stored, summary, body, digest, leaf_spans(summary, sweep.read_covers), heads)
    tokens_by_summary = {key: tokens for key, (_, tokens) in older_summaries.items()}
    tokens_by_summary.update((summary.id, summary.token_count) for summary in sweep.summaries)
    before = add_spending(stored.record, sweep)
    after = _apply_diff(transaction, stored, before, current_covers, diff, tokens_by_summary, sweep.prunes, heads)
    result = finalize_result(sweep.result, after)
    body = to_json(result.model_dump(mode="json"), f"the compaction of session {session_id!r}")
    compaction_pk = transaction.value("insert_compaction", {"session_pk": stored.pk, "result": body})
    heads.add_compaction(compaction_pk, body)
    save_accounts(transaction, stored, after, records=heads)
    prunes = [(prune.seq, prune.part_index, prune.tokens_saved) for prune in sweep.prunes]
    note_compaction(transaction, stored.pk, compaction_pk, diff, prunes, after)
    return after


def hide(transaction: Transaction, session_id: str, first_seq: int, last_seq: int) -> SessionRecord:
    """Remove a span from the active context."""
    lock, covers_answer = transaction.lock_session(session_id), send_covers(transaction, session_id)
    heads_answer = send_record_heads(transaction, session_id)
    stored, current_covers = lock.read(), covers_from_rows(covers_answer.rows())
    diff = hide_span(current_covers, (first_seq, last_seq), stored.record.last_seq)
    heads = read_record_heads(heads_answer, session_id)
    _apply_hide(transaction, stored, current_covers, diff, [(first_seq, last_seq)], heads)
    return stored.record


def revise(
    transaction: Transaction,
    session_id: str,
    spans: Sequence[Span],
    append: Append,
    encoded: Sequence[EncodedMessage],
    last_seq: int,
) -> AppendResult:
    """Remove spans from the active context and append messages to the log."""
    lock, covers_answer = transaction.lock_session(session_id), send_covers(transaction, session_id)
    message_ids = [message.id for message in encoded]
    present_answer = send_messages_by_id(transaction, session_id, message_ids)
    fence = send_fence(transaction, session_id, append.fence)
    heads_answer = send_record_heads(transaction, session_id)
    stored, current_covers = lock.read(), covers_from_rows(covers_answer.rows())
    present = rows_by_id(
        transaction, stored.pk, present_answer, message_ids, is_fork=stored.record.forked_from is not None
    )
    if present:
        return append_to(transaction, stored, append, encoded, present)
    refuse_lost_turn(session_id, append.fence, fence)
    diff = hide_spans(current_covers, spans, stored.record.last_seq, last_seq)
    _apply_hide(transaction, stored, current_covers, diff, spans, read_record_heads(heads_answer, session_id))
    return append_to(transaction, stored, append, encoded, ()) if encoded else AppendResult(stored.record, ())


def replace_covers(
    transaction: Transaction,
    session_id: str,
    covers: Sequence[Cover],
    append: Append,
    encoded: Sequence[EncodedMessage],
    read_covers: Sequence[Cover],
    last_seq: int,
) -> AppendResult:
    """Show the log under other covers and append messages."""
    lock, covers_answer = transaction.lock_session(session_id), send_covers(transaction, session_id)
    ids = {cover.summary_id for cover in covers if cover.summary_id is not None}
    spans_answer = send_summary_spans(transaction, session_id, ids)
    message_ids = [message.id for message in encoded]
    present_answer = send_messages_by_id(transaction, session_id, message_ids)
    fence = send_fence(transaction, session_id, append.fence)
    heads_answer = send_record_heads(transaction, session_id)
    stored, current_covers = lock.read(), covers_from_rows(covers_answer.rows())
    summaries, present = (
        read_summary_spans(spans_answer),
        rows_by_id(transaction, stored.pk, present_answer, message_ids, is_fork=stored.record.forked_from is not None),
    )
    if present:
        return append_to(transaction, stored, append, encoded, present)
    refuse_lost_turn(session_id, append.fence, fence)
    diff = change_covers(
        current_covers,
        covers,
        stored.record.last_seq,
        read_covers=read_covers,
        expected_last_seq=last_seq,
        summary_spans={key: span for key, (span, _) in summaries.items()},
        session_id=session_id,
    )
    if diff.covers != current_covers:
        heads = read_record_heads(heads_answer, session_id)
        new_covers = sorted(set(diff.covers) - set(current_covers), key=lambda cover: cover.first_seq)
        hidden = [(cover.first_seq, cover.last_seq) for cover in new_covers if cover.summary_id is None]
        _insert_hidden_spans(transaction, stored.pk, hidden, heads)
        tokens_by_summary = {key: tokens for key, (_, tokens) in summaries.items()}
        after = _apply_diff(transaction, stored, stored.record, current_covers, diff, tokens_by_summary, (), heads)
        save_accounts(transaction, stored, after, records=heads)
        note_update(transaction, stored.pk, after)
    return append_to(transaction, stored, append, encoded, ()) if encoded else AppendResult(stored.record, ())


def pin(transaction: Transaction, session_id: str, seq: int, pinned: bool) -> None:
    """Pin a message in the active context, or unpin it."""
    lock, covers_answer = transaction.lock_session(session_id), send_covers(transaction, session_id)
    heads_answer = send_record_heads(transaction, session_id)
    stored, heads = lock.read(), read_record_heads(heads_answer, session_id)
    refuse_unpinnable(covers_from_rows(covers_answer.rows()), stored.record.last_seq, seq, session_id)
    transaction.send("insert_pin" if pinned else "delete_pin", {"session_pk": stored.pk, "seq": seq})
    heads.set_pins(pinned_seq for (pinned_seq,) in transaction.rows("pins", session_parameters(session_id)))
    save_accounts(transaction, stored, stored.record, records=heads)
    note_update(transaction, stored.pk, stored.record)


def summary(transaction: Transaction, session_id: str, summary_id: str) -> Summary:
    """Load one summary. Raises `SummaryNotFoundError`."""
    parameters = session_parameters(session_id)
    found = transaction.send("session", parameters)
    known_id = to_text(summary_id) if is_storable_id(summary_id) else None
    row = transaction.row("summary", parameters | {"summary_id": known_id})
    stored_session(session_id, found)
    if row is None:
        raise SummaryNotFoundError(summary_id, location=f"session {session_id!r}")
    return summary_from_row(session_id, row)


def summaries(transaction: Transaction, session_id: str) -> list[Summary]:
    """Load all summaries in order of creation."""
    parameters = session_parameters(session_id)
    found, rows = transaction.send("session", parameters), transaction.send("summaries", parameters)
    stored_session(session_id, found)
    return [summary_from_row(session_id, row) for row in rows.rows()]


def covered_messages(
    transaction: Transaction, session_id: str, summary_id: str, after_seq: int, limit: int | None
) -> list[Message]:
    """Load the original messages that a summary covers, however deep."""
    found = transaction.send("session", session_parameters(session_id))
    spans = send_summary_spans(transaction, session_id, [summary_id] if is_storable_id(summary_id) else [])
    stored = stored_session(session_id, found)
    if not spans.rows():
        raise SummaryNotFoundError(summary_id, location=f"session {session_id!r}")
    parameters: Parameters = {
        "session_pk": stored.pk,
        "id": to_text(summary_id),
        "after_seq": after_seq,
        "limit": limit if limit is None else max(limit, 0),
    }
    if stored.record.forked_from is None:
        rows = transaction.rows("covered_messages", parameters)
    else:
        seqs = [seq for (seq,) in transaction.rows("covered_seqs", parameters)]
        rows = load_rows(transaction, stored.pk, seqs_to_spans(seqs))
    return [message_from_row(session_id, row) for row in rows]


def _apply_hide(
    transaction: Transaction,
    stored: StoredSession,
    current_covers: Sequence[Cover],
    diff: CoverDiff,
    spans: Sequence[Span],
    heads: RecordHeads,
) -> None:
    if diff.covers == current_covers:
        return
    _insert_hidden_spans(transaction, stored.pk, spans, heads)
    kept_ids = {cover.summary_id for cover in diff.covers if cover.summary_id is not None}
    summaries = read_summary_spans(send_summary_spans(transaction, stored.record.id, kept_ids))
    tokens_by_summary = {key: tokens for key, (_, tokens) in summaries.items()}
    after = _apply_diff(transaction, stored, stored.record, current_covers, diff, tokens_by_summary, (), heads)
    save_accounts(transaction, stored, after, records=heads)
    note_update(transaction, stored.pk, after)


def _insert_hidden_spans(transaction: Transaction, session_pk: int, spans: Iterable[Span], heads: RecordHeads) -> None:
    for first, last in spans:
        parameters = {"session_pk": session_pk, "first_seq": first, "last_seq": last}
        heads.add_hidden_span(transaction.value("insert_hidden_span", parameters), first, last)


def _apply_diff(
    transaction: Transaction,
    stored: StoredSession,
    before: SessionRecord,
    current_covers: Sequence[Cover],
    diff: CoverDiff,
    tokens_by_summary: Mapping[str, int],
    prunes: Iterable[Prune],
    heads: RecordHeads,
) -> SessionRecord:
    """Replace covers, insert prunes and return the accounts. The cost depends on the changed spans, not on the log."""
    spans = [send_span_tokens(transaction, stored, each) for each in (diff.hidden, diff.shown)]
    new_prunes = [
        (prune, transaction.send("insert_prune", {"session_pk": stored.pk, **_prune_parameters(prune)}))
        for prune in prunes
    ]
    hidden, shown = [read_span_tokens(answers) for answers in spans]
    visible = visible_spans(diff.covers, stored.record.last_seq)
    saved_tokens = sum(
        prune.tokens_saved for prune, answer in new_prunes if answer.row() and contains(visible, prune.seq)
    )
    if new_prunes:
        heads.set_prunes(transaction.rows("check_prunes", {"session_pk": stored.pk}))
    heads.set_covers(diff.covers)
    after = accounts_after_fold(
        before,
        message_tokens=shown[0] - hidden[0] - saved_tokens,
        tool_tokens=shown[1] - hidden[1] - saved_tokens,
        summary_tokens=sum(
            tokens_by_summary[cover.summary_id] for cover in diff.covers if cover.summary_id is not None
        ),
    )
    _replace_covers(transaction, stored.pk, current_covers, diff.covers)
    return after


def _prune_parameters(prune: Prune) -> Parameters:
    return {"seq": prune.seq, "part_index": prune.part_index, "tokens_saved": prune.tokens_saved}


def send_span_tokens(transaction: Transaction, stored: StoredSession, spans: Sequence[Span]) -> list[Answer]:
    """Send the query for the tokens of the messages in some spans. `read_span_tokens` reads the answers."""
    names = ["prunes_in_spans", "tokens_in_spans"]
    if stored.record.forked_from is not None:
        names.append("inherited_tokens_in_spans")
    return [transaction.send(name, {"session_pk": stored.pk, **span_parameters(spans)}) for name in names]


def read_span_tokens(answers: Sequence[Answer], *, with_prunes: bool = True) -> tuple[int, int]:
    """Return the tokens and tool tokens of the messages in some spans, with their prunes applied unless told otherwise."""
    (pruned_tokens,), *counts = [answer.rows()[0] for answer in answers]
    saved = pruned_tokens if with_prunes else 0
    return sum(tokens for tokens, _ in counts) - saved, sum(tool_tokens for _, tool_tokens in counts) - saved


def _replace_covers(transaction: Transaction, session_pk: int, before: Iterable[Cover], after: Iterable[Cover]) -> None:
    removed, added = set(before) - set(after), set(after) - set(before)
    transaction.send_many(
        "delete_cover", [{"session_pk": session_pk, "first_seq": cover.first_seq} for cover in removed]
    )
    transaction.send_many(
        "insert_cover",
        [
            {
                "session_pk": session_pk,
                "first_seq": cover.first_seq,
                "last_seq": cover.last_seq,
                "summary_id": None if cover.summary_id is None else to_text(cover.summary_id),
            }
            for cover in added
        ],
    )


def _insert_summary(
    transaction: Transaction,
    stored: StoredSession,
    summary: Summary,
    body: bytes,
    digest: bytes,
    spans: Sequence[Span],
    heads: RecordHeads,
) -> None:
    parameters: Parameters = {"session_pk": stored.pk, "id": to_text(summary.id)}
    summary_pk = transaction.value(
        "insert_summary",
        parameters
        | {
            "first_seq": summary.first_seq,
            "last_seq": summary.last_seq,
            "token_count": summary.token_count,
            "message_count": summary.message_count,
            "hash": digest,
            "body": body,
        },
    )
    if summary.kind == "leaf":
        transaction.send("insert_leaf_edges", parameters | span_parameters(spans))
        if stored.record.forked_from is not None:
            transaction.send("insert_inherited_leaf_edges", parameters | span_parameters(spans))
    else:
        children = [to_text(child) for child in summary.child_ids]
        transaction.send("insert_child_edges", parameters | {"children": children})
    values = (summary.id, summary.first_seq, summary.last_seq, summary.token_count, summary.message_count, digest)
    seqs = (seq for first, last in spans for seq in range(first, last + 1)) if summary.kind == "leaf" else ()
    heads.add_summary(summary_pk, values, seqs, summary.child_ids)


def send_record_heads(transaction: Transaction, session_id: str) -> Answer:
    """Send the query for the hashes of a session's records, which `read_record_heads` reads."""
    return transaction.send("record_heads", session_parameters(session_id))


def send_covers(transaction: Transaction, session_id: str) -> Answer:
    """Send the query for the covers of a session."""
    return transaction.send("covers", session_parameters(session_id))


def covers_from_rows(rows: Iterable[Sequence[object]]) -> tuple[Cover, ...]:
    """Return the covers in rows."""
    return tuple(
        Cover(first, last, None if summary_id is None else from_text(summary_id))  # type: ignore[arg-type]  # rows are untyped
        for first, last, summary_id in rows
    )


def send_summary_spans(transaction: Transaction, session_id: str, ids: Iterable[str]) -> Answer:
    """Send the query for the spans and tokens of those summaries that exist."""
    known_ids = [to_text(each) for each in sorted(ids) if is_storable_id(each)]
    return transaction.send("summary_spans", session_parameters(session_id) | {"ids": known_ids})


def read_summary_spans(answer: Answer) -> dict[str, tuple[Span, int]]:
    """Return the answer of `send_summary_spans` by id."""
    return {from_text(key): ((first, last), tokens) for key, first, last, tokens in answer.rows()}
