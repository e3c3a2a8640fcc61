"""What an append, a sweep and an edit do to a session's accounts. Pure, shared by all stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mnesis.errors import DuplicateIDError, InvalidMessageError
from mnesis.ids import now_ms
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult, ContextBreakdown, TurnSnapshot
from mnesis.models.session import SessionRecord, after_append, counted_anew
from mnesis.store.base import Append
from mnesis.store.codec import EncodedMessage, check_id, check_json

CHANGEABLE = ("model", "system_prompt", "system_tokens", "title", "metadata")


def opened(session: SessionRecord) -> SessionRecord:
    """A session as it is created: what follows from its log starts at nothing."""
    check_id(session.id)
    check_json(session.metadata, f"session {session.id!r}, metadata")
    empty = replace(session, last_seq=0, turn_count=0, message_tokens=0, tool_tokens=0, summary_tokens=0)
    return replace(empty, context_tokens=max(session.context_tokens, empty.stored_tokens))


def changed(session: SessionRecord, changes: Mapping[str, object]) -> SessionRecord:
    """A session with other settings. The context grows or shrinks with its system prompt."""
    unknown = sorted(set(changes) - set(CHANGEABLE))
    if unknown:
        raise TypeError(f"{', '.join(unknown)} of a session cannot be changed; only {', '.join(CHANGEABLE)} can")
    if "metadata" in changes:
        check_json(changes["metadata"], f"session {session.id!r}, metadata")
    after = replace(session, updated_at=_later(session), **changes)  # type: ignore[arg-type]  # names checked above
    context = session.context_tokens + after.system_tokens - session.system_tokens
    return replace(after, context_tokens=max(context, after.stored_tokens))


def grown(session: SessionRecord, append: Append) -> tuple[SessionRecord, TurnSnapshot | None]:
    """The accounts after an append, and the snapshot if it ends a turn."""
    after = after_append(
        session,
        messages=len(append.messages),
        tokens=sum(message.token_count for message in append.messages),
        tool_tokens=sum(message.tool_tokens for message in append.messages),
        reply_tokens=_reply_tokens(append.messages),
        report=append.report,
        turn_count=session.turn_count + append.ends_turn,
        updated_at=_later(session),
    )
    return after, _snapshot(after, append.messages) if append.ends_turn else None


def folded(session: SessionRecord, *, message_tokens: int, tool_tokens: int, summary_tokens: int) -> SessionRecord:
    """The accounts after the active context changed: differences for messages and tools, the whole for summaries."""
    after = replace(
        session,
        message_tokens=session.message_tokens + message_tokens,
        tool_tokens=session.tool_tokens + tool_tokens,
        summary_tokens=summary_tokens,
        updated_at=_later(session),
    )
    return counted_anew(after)


def completed(result: CompactionResult, session: SessionRecord) -> CompactionResult:
    """The result as it is stored with the sweep that led to `session`."""
    return result.model_copy(
        update={
            "session_id": session.id,
            "tokens_after": session.context_tokens,
            "turn_index": max(session.turn_count - 1, 0),
            "created_at": now_ms(),
        }
    )


def with_compactions(turns: Iterable[TurnSnapshot], compactions: Iterable[CompactionResult]) -> list[TurnSnapshot]:
    """Each turn together with the newest compaction it set off."""
    by_turn = {result.turn_index: result for result in compactions}
    return [
        turn.model_copy(update={"compaction_triggered": True, "compact_result": by_turn[turn.turn_index]})
        if turn.turn_index in by_turn
        else turn
        for turn in turns
    ]


def refuse_repeated_ids(messages: Sequence[Message]) -> None:
    """Raises `InvalidMessageError` if one append names two of its messages alike."""
    if len({message.id for message in messages}) < len(messages):
        raise InvalidMessageError(f"an id stands twice in one append: {[message.id for message in messages]}")


def refuse_other_content(wanted: Sequence[EncodedMessage], found: Sequence[EncodedMessage]) -> None:
    """Raises `DuplicateIDError` unless `found`, in order of the log, is what an append wants to store."""
    content = {message.id: message.digest for message in wanted}
    for message in found:
        if content[message.id] != message.digest:
            raise DuplicateIDError(message.id)
    if [message.id for message in found] != [message.id for message in wanted]:
        raise DuplicateIDError(
            found[0].id,
            f"message {found[0].id!r} is stored already, but not this whole append in this order; append only what is new",
        )


def _reply_tokens(messages: Sequence[Message]) -> int:
    tokens = 0
    for message in reversed(messages):
        if message.role in ("user", "tool"):
            break
        tokens += message.token_count if message.role == "assistant" else 0
    return tokens


def _snapshot(session: SessionRecord, messages: Sequence[Message]) -> TurnSnapshot:
    # Built of checked values inside every turn's transaction: not checked again.
    return TurnSnapshot.model_construct(
        turn_index=session.turn_count - 1,
        role=messages[-1].role if messages else "assistant",
        seq=session.last_seq,
        context_tokens=ContextBreakdown.model_construct(
            system_prompt=session.system_tokens,
            summary=session.summary_tokens,
            messages=session.message_tokens,
            tool_outputs=session.tool_tokens,
            total=session.stored_tokens,
        ),
        measured_tokens=session.context_tokens,
        created_at=session.updated_at,
    )


def _later(session: SessionRecord) -> int:
    return max(session.updated_at, now_ms())


def file_ids(message: Message) -> list[str]:
    """Ids of the stored files a message refers to, each once, in their own order. What cannot be an id is left out."""
    named = {part.content_id for part in message.file_refs}
    return sorted(name for name in named if name and name.isascii() and name.isprintable())
