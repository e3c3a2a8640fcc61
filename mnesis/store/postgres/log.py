"""Transactions on the log: append and read messages, turns and file references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import reduce

from mnesis.errors import MessageNotFoundError, SessionNotFoundError
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.store.accounting import accounts_after_append, attach_compactions, file_ids, refuse_other_content
from mnesis.store.base import Append, AppendResult, OnDamage
from mnesis.store.chain import encode_turn, extend_chain
from mnesis.store.codec import DamagedValueError, EncodedMessage, from_json, hash_of
from mnesis.store.covers import Span
from mnesis.store.damaged import mark_damage, refuse_gaps
from mnesis.store.postgres.accounts import save_accounts
from mnesis.store.postgres.changes import append_change
from mnesis.store.postgres.rows import (
    Parameters,
    Row,
    append_parameters,
    encoded_from_row,
    from_text,
    is_storable_id,
    message_from_row,
    to_text,
    turn_from_row,
    turn_values,
)
from mnesis.store.postgres.sessions import load
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import (
    Answer,
    Transaction,
    session_parameters,
    stored_session,
)
from mnesis.store.postgres.turn_leases import refuse_lost_turn, send_fence

END_OF_LOG = 2**63 - 1


def append(
    transaction: Transaction, session_id: str, append: Append, encoded: Sequence[EncodedMessage]
) -> AppendResult:
    """Insert messages and a turn snapshot and update the accounts. Does nothing if all messages are stored already."""
    lock = transaction.lock_session(session_id)
    ids = [message.id for message in encoded]
    present = send_messages_by_id(transaction, session_id, ids)
    fence = send_fence(transaction, session_id, append.fence)
    stored = lock.read()
    rows = rows_by_id(transaction, stored.pk, present, ids, is_fork=stored.record.forked_from is not None)
    return append_to(transaction, stored, append, encoded, rows, fence)


def append_to(
    transaction: Transaction,
    stored: StoredSession,
    append: Append,
    encoded: Sequence[EncodedMessage],
    present: Sequence[Row],
    fence: Answer | None = None,
) -> AppendResult:
    """Append to a session that is locked.

    `present` are the rows of the messages that are stored already; `fence` is the answer to `send_fence()`.
    """
    if present:
        return _repeat_append(transaction, stored, encoded, present)
    refuse_lost_turn(stored.record.id, append.fence, fence)
    first_seq = stored.record.last_seq + 1
    parameters, result = _prepare_append(transaction, stored, append, encoded, "update_accounts")
    transaction.send("append_messages", parameters)
    transaction.send_many(
        "insert_file_ref",
        [
            {"session_pk": stored.pk, "seq": seq, "content_id": to_text(content_id)}
            for seq, message in enumerate(append.messages, first_seq)
            for content_id in file_ids(message)
        ],
    )
    return result


def _prepare_append(
    transaction: Transaction,
    stored: StoredSession,
    append: Append,
    encoded: Sequence[EncodedMessage],
    statement: str | None,
) -> tuple[Parameters, AppendResult]:
    """Save the accounts after an append. Returns the parameters of the statement that inserts the rest, and the result.

    With `statement=None` the parameters include the accounts.
    """
    session_id, first_seq = stored.record.id, stored.record.last_seq + 1
    after, snapshot = accounts_after_append(stored.record, append)
    hashes = [hash_of(session_id, seq, message) for seq, message in enumerate(encoded, first_seq)]
    log_head = reduce(extend_chain, hashes, stored.log_head)
    turn_head = None if snapshot is None else extend_chain(stored.turn_head, encode_turn(turn_values(snapshot)))
    accounts = save_accounts(transaction, stored, after, log_head=log_head, turn_head=turn_head, statement=statement)
    parameters = append_parameters(stored.pk, first_seq, encoded, hashes, snapshot)
    parameters |= append_change(transaction, first_seq, after)
    return parameters if statement is not None else accounts | parameters, AppendResult.of_new(after, append)


def send_append_to_known(
    transaction: Transaction, known: StoredSession, append: Append, encoded: Sequence[EncodedMessage]
) -> tuple[Answer, AppendResult]:
    """Append to a session if its accounts are still the row that this store wrote, with the same hash.

    The hash covers everything that an append depends on except the ids of messages, which a constraint keeps unique.
    The answer is the number of the transaction, or empty if the row has changed or another transaction has locked the
    session. `known` becomes the session after the append.
    """
    known_row = {
        "id": to_text(known.record.id),
        "known_hash": known.hash,
        "known_version": str(known.row_version),
    }
    parameters, result = _prepare_append(transaction, known, append, encoded, None)
    return transaction.send("append_to_known", parameters | known_row), result


def send_messages_by_id(transaction: Transaction, session_id: str, ids: Sequence[str]) -> Answer:
    """Send the query for those messages that are stored, in log order."""
    parameters = session_parameters(session_id) | {"message_ids": [to_text(message_id) for message_id in ids]}
    return transaction.send("messages_by_id", parameters)


def rows_by_id(
    transaction: Transaction, session_pk: int, own: Answer, ids: Sequence[str], *, is_fork: bool
) -> list[Row]:
    """Return the answer of `send_messages_by_id`, preceded by the messages that a fork shares."""
    if not is_fork:
        return own.rows()
    parameters = {"session_pk": session_pk, "message_ids": [to_text(message_id) for message_id in ids]}
    return [*transaction.rows("inherited_by_id", parameters), *own.rows()]


def load_rows(transaction: Transaction, session_pk: int, spans: Sequence[Span]) -> list[Row]:
    """Load the messages of a fork in several spans, in order. Each row ends with the session that stores it."""
    parameters = {"session_pk": session_pk, **span_parameters(spans)}
    answers = [transaction.send(name, parameters) for name in ("inherited_in_spans", "messages_in_spans")]
    return sorted((row for answer in answers for row in answer.rows()), key=_seq_of_row)


def _seq_of_row(row: Row) -> int:
    seq: int = row[0]
    return seq


def span_parameters(spans: Iterable[Span]) -> Parameters:
    """Return the parameters of a statement that reads several spans."""
    pairs = list(spans)
    return {"first": [first for first, _ in pairs], "last": [last for _, last in pairs]}


def _repeat_append(
    transaction: Transaction, stored: StoredSession, encoded: Sequence[EncodedMessage], present: Sequence[Row]
) -> AppendResult:
    refuse_other_content(encoded, [encoded_from_row(row) for row in present])
    messages = tuple(message_from_row(stored.record.id, row) for row in present)
    row = transaction.row("turn_at", {"session_pk": stored.pk, "seq": messages[-1].seq})
    is_new = False
    if transaction.may_be_committed:
        span = f"[{messages[0].seq},{messages[-1].seq},"
        own = {"session_pk": stored.pk, "origin": transaction.origin, "span": span}
        is_new = bool(transaction.value("is_own_append", own))
    return AppendResult(stored.record, messages, turn_from_row(row) if row else None, is_new=is_new)


def _send_location(transaction: Transaction, session_id: str) -> tuple[Answer, Answer]:
    """Send the query whose answer `_read_location` reads."""
    parameters = session_parameters(session_id)
    return transaction.send("session", parameters), transaction.send("locate_session", parameters)


def _read_location(session_id: str, answers: tuple[Answer, Answer]) -> tuple[int, int, int]:
    """Return the key of a session, the end of its log and of the messages that it shares.

    This also works if its settings or accounts are damaged. The end is taken from the accounts if they are intact, so
    that messages missing at the end are noticed; otherwise it is the last message.
    """
    row = answers[1].row()
    if row is None:
        raise SessionNotFoundError(session_id)
    session_pk, last_seq, inherited_seq = row
    with suppress(DamagedValueError, SessionNotFoundError):
        return session_pk, stored_session(session_id, answers[0]).record.last_seq, inherited_seq
    return session_pk, max(last_seq, inherited_seq), inherited_seq


def page(
    transaction: Transaction,
    session_id: str,
    after_seq: int,
    until_seq: int | None,
    limit: int | None,
    on_damage: OnDamage = "raise",
) -> list[Message]:
    """Load a range of the log. A message that is missing or damaged raises `DamagedValueError`, or is marked."""
    parameters = session_parameters(session_id)
    located = _send_location(transaction, session_id)
    rows = transaction.send(
        "messages_page",
        parameters
        | {
            "after_seq": after_seq,
            "until_seq": END_OF_LOG if until_seq is None else until_seq,
            "limit": limit if limit is None else max(limit, 0),
        },
    )
    session_pk, end, inherited_seq = _read_location(session_id, located)
    first_seq = max(after_seq, 0) + 1
    last_seq = end if until_seq is None else min(until_seq, end)
    if limit is not None:
        last_seq = min(last_seq, first_seq + max(limit, 0) - 1)
    by_seq = {row[0]: row for row in rows.rows()}
    if first_seq <= inherited_seq:
        by_seq = {row[0]: row for row in load_rows(transaction, session_pk, [(first_seq, last_seq)])}
    if on_damage == "mark":
        return list(
            mark_damage(
                session_id, (by_seq.get(seq) for seq in range(first_seq, last_seq + 1)), first_seq, message_from_row
            )
        )
    messages = [message_from_row(session_id, row) for row in by_seq.values()]
    refuse_gaps(session_id, messages, range(first_seq, last_seq + 1))
    return messages


def message(transaction: Transaction, session_id: str, message_id: str) -> Message:
    """Load one message. Raises `MessageNotFoundError`."""
    located = _send_location(transaction, session_id)
    ids = [message_id] if is_storable_id(message_id) else []
    own = send_messages_by_id(transaction, session_id, ids)
    session_pk, _, inherited_seq = _read_location(session_id, located)
    rows = rows_by_id(transaction, session_pk, own, ids, is_fork=inherited_seq > 0)
    if not rows:
        raise MessageNotFoundError(message_id, location=f"session {session_id!r}")
    return message_from_row(session_id, rows[0])


def turns(
    transaction: Transaction, session_id: str, after_turn: int = -1, limit: int | None = None
) -> list[TurnSnapshot]:
    """Load turn snapshots, each with the compaction it triggered."""
    parameters = session_parameters(session_id)
    found = transaction.send("session", parameters)
    rows = transaction.send("turns", {**parameters, "after_turn": after_turn, "limit": limit})
    results = transaction.send("compactions", parameters)
    stored_session(session_id, found)
    return attach_compactions([turn_from_row(row) for row in rows.rows()], _compactions(results))


def compactions(transaction: Transaction, session_id: str) -> list[CompactionResult]:
    """Load the results of all compactions, oldest first."""
    parameters = session_parameters(session_id)
    found, results = transaction.send("session", parameters), transaction.send("compactions", parameters)
    stored_session(session_id, found)
    return _compactions(results)


def _compactions(answer: Answer) -> list[CompactionResult]:
    return [CompactionResult(**from_json(result)) for (result,) in answer.rows()]


def file_references(transaction: Transaction, session_id: str | None, content_id: str | None) -> list[FileReference]:
    """Load the references of messages to stored files, of one session or to one file if given."""
    stored = None if session_id is None else load(transaction, session_id)
    if content_id is not None and not is_storable_id(content_id):
        return []
    parameters: Parameters = {
        "session_pk": None if stored is None else stored.pk,
        "content_id": None if content_id is None else to_text(content_id),
    }
    rows = transaction.rows("file_refs", parameters)
    if stored is not None and stored.record.forked_from is not None:
        name = to_text(stored.record.id)
        rows = [*((name, *row) for row in transaction.rows("inherited_file_refs", parameters)), *rows]
    return [
        FileReference(from_text(name), from_text(message_id), seq, from_text(content))
        for name, message_id, seq, content in rows
    ]
