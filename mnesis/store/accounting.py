"""The token accounts of a session after an append, a sweep or an edit, shared by all stores. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mnesis.errors import DuplicateIDError, InvalidMessageError
from mnesis.ids import now_ms
from mnesis.models.message import Message, TextPart
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.session import SessionRecord, after_append, recount
from mnesis.store.base import Append, Compaction
from mnesis.store.codec import EncodedMessage, check_id, check_json
from mnesis.store.turn_snapshot import snapshot_turn

CHANGEABLE_SETTINGS = ("model", "system_prompt", "system_tokens", "title", "metadata")


def new_record(session: SessionRecord) -> SessionRecord:
    """Return a new session record, with every field that follows from the log at its start value."""
    check_id(session.id)
    check_json(session.metadata, f"session {session.id!r}, metadata")
    empty = replace(
        session,
        last_seq=0,
        turn_count=0,
        message_tokens=0,
        tool_tokens=0,
        summary_tokens=0,
        fold_count=0,
        last_request=None,
        forked_from=None,
    )
    return replace(empty, context_tokens=max(session.context_tokens, empty.stored_tokens))


def with_settings(session: SessionRecord, changes: Mapping[str, object]) -> SessionRecord:
    """Return a session with other settings. The size of the context changes with that of the system prompt."""
    unknown = sorted(set(changes) - set(CHANGEABLE_SETTINGS))
    if unknown:
        raise TypeError(
            f"{', '.join(unknown)} of a session cannot be changed; only {', '.join(CHANGEABLE_SETTINGS)} can be"
        )
    if "metadata" in changes:
        check_json(changes["metadata"], f"session {session.id!r}, metadata")
    after = replace(session, updated_at=_next_update_time(session), **changes)  # type: ignore[arg-type]  # names checked above
    context = session.context_tokens + after.system_tokens - session.system_tokens
    return replace(after, context_tokens=max(context, after.stored_tokens))


def accounts_after_append(session: SessionRecord, append: Append) -> tuple[SessionRecord, TurnSnapshot | None]:
    """Return the accounts after an append, and the snapshot if the append ends a turn."""
    after = record_after_append(session, append)
    return after, snapshot_turn(after, append.messages) if append.ends_turn else None


def record_after_append(session: SessionRecord, append: Append) -> SessionRecord:
    """Return the accounts after an append."""
    tokens = tool_tokens = 0
    for message in append.messages:
        tokens += message.token_count
        tool_tokens += message.tool_tokens
    return after_append(
        session,
        message_count=len(append.messages),
        tokens=tokens,
        tool_tokens=tool_tokens,
        reply_tokens=_reply_tokens(append.messages),
        report=append.report,
        turn_count=session.turn_count + append.ends_turn,
        updated_at=_next_update_time(session),
    )


def accounts_after_fold(
    session: SessionRecord, *, message_tokens: int, tool_tokens: int, summary_tokens: int
) -> SessionRecord:
    """Return the accounts after a change of the active context.

    `message_tokens` and `tool_tokens` are differences; `summary_tokens` is the new total.
    """
    after = replace(
        session,
        message_tokens=session.message_tokens + message_tokens,
        tool_tokens=session.tool_tokens + tool_tokens,
        summary_tokens=summary_tokens,
        updated_at=_next_update_time(session),
    )
    return recount(after)


def add_spending(session: SessionRecord, sweep: Compaction) -> SessionRecord:
    """Return a session whose lifetime sums contain the summarizer's usage and cost. Called before the fold."""
    result = sweep.result
    if not sweep.counts_spending or not (result.usage.effective_total() or result.cost):
        return session
    return replace(session, usage=session.usage + result.usage, cost=session.cost + result.cost)


def finalize_result(result: CompactionResult, session: SessionRecord) -> CompactionResult:
    """Complete a compaction result with the state of the session after the sweep."""
    return result.model_copy(
        update={
            "session_id": session.id,
            "tokens_after": session.context_tokens,
            "turn_index": max(session.turn_count - 1, 0),
            "created_at": now_ms(),
        }
    )


def attach_compactions(turns: Iterable[TurnSnapshot], compactions: Iterable[CompactionResult]) -> list[TurnSnapshot]:
    """Return each turn with the newest compaction that it triggered."""
    by_turn = {result.turn_index: result for result in compactions}
    return [
        turn.model_copy(update={"compaction_triggered": True, "compact_result": by_turn[turn.turn_index]})
        if turn.turn_index in by_turn
        else turn
        for turn in turns
    ]


def refuse_repeated_ids(messages: Sequence[Message]) -> None:
    """Raise `InvalidMessageError` if two messages of one append have the same id."""
    if len({message.id for message in messages}) < len(messages):
        raise InvalidMessageError(
            f"two messages of one append have the same id: {[message.id for message in messages]}; ids must be unique"
        )


def refuse_other_content(appended: Sequence[EncodedMessage], stored: Sequence[EncodedMessage]) -> None:
    """Raise `DuplicateIDError` unless the stored messages, in log order, are exactly those of the append."""
    content = {message.id: message.digest for message in appended}
    for message in stored:
        if content[message.id] != message.digest:
            raise DuplicateIDError(message.id)
    if [message.id for message in stored] != [message.id for message in appended]:
        raise DuplicateIDError(
            stored[0].id,
            f"message {stored[0].id!r} is stored already, but not the whole append in this order; append only new messages",
        )


def _reply_tokens(messages: Sequence[Message]) -> int:
    tokens = 0
    for message in reversed(messages):
        if message.role in ("user", "tool"):
            break
        tokens += message.token_count if message.role == "assistant" else 0
    return tokens


def _next_update_time(session: SessionRecord) -> int:
    """Return the time of a change. The value increases with every change, so it also shows which of two records is
    newer.
    """
    return max(session.updated_at + 1, now_ms())


def file_ids(message: Message) -> list[str]:
    """Return the sorted ids of the stored files that a message refers to, without invalid ids."""
    for part in message.parts:
        if type(part) is not TextPart:
            break
    else:
        return []  # the case of most messages, which every append checks
    ids = {part.content_id for part in message.file_refs}
    return sorted(name for name in ids if name and name.isascii() and name.isprintable())
