"""`record()`: store a turn that the caller's own client made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnesis.errors import InvalidMessageError
from mnesis.formats.parse import Content, build_messages, new_message, parse_content
from mnesis.models.message import Message
from mnesis.models.results import RecordResult
from mnesis.models.session import UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.session.compactor import Compactor
from mnesis.session.core import SessionCore
from mnesis.session.doom_loop import detect_doom_loop
from mnesis.session.own_requests import note_own_request
from mnesis.session.reentrancy import refuse_reentrant_call
from mnesis.session.turn_lock import hold_turn


@dataclass(slots=True)
class ClientTurn:
    """The arguments of `record()`."""

    user_message: Content
    assistant_response: Content
    tokens: TokenUsage | None
    finish_reason: str
    cost: float
    user_message_id: str | None
    assistant_message_id: str | None
    created_at: int | None


async def record_turn(
    core: SessionCore, compactor: Compactor, turn: ClientTurn, refuse_closed: Callable[[], None]
) -> RecordResult:
    """Store both messages of a turn in one transaction, and compact if due. See `MnesisSession.record`.

    `refuse_closed` raises `SessionClosedError` if the session is closed.
    """
    user_parts, reply_parts = parse_content(turn.user_message), parse_content(turn.assistant_response)
    refuse_closed()
    refuse_reentrant_call(core.session_id)
    if not user_parts or not reply_parts:
        raise InvalidMessageError(
            "user_message and assistant_response must not be empty; use append() to store a single message"
        )
    if turn.tokens is not None and not isinstance(turn.tokens, TokenUsage):
        raise InvalidMessageError(f"tokens must be a TokenUsage or None, not {turn.tokens!r}")
    if core.may_need_offload(user_parts) or core.may_need_offload(reply_parts):
        user_parts = await core.offload_large_parts(user_parts)
        reply_parts = await core.offload_large_parts(reply_parts)
    messages = build_messages(user_parts, id=turn.user_message_id, count=core.count_parts)
    reply = new_message(
        "assistant",
        reply_parts,
        id=turn.assistant_message_id,
        count=core.count_parts,
        model_id=core.model.model_id,
        tokens=turn.tokens,
        cost=turn.cost,
        finish_reason=turn.finish_reason,
    )
    messages.append(reply)
    if turn.created_at is not None:
        messages = [message.model_copy(update={"created_at": turn.created_at}) for message in messages]
    async with hold_turn(core):
        refuse_closed()
        counted = await core.count_messages(messages)
        report = _report_usage(core, counted)
        stored = await core.append(counted, report=report, ends_turn=True)
        calls = reply.tool_calls if stored.is_new else ()
        is_looping = detect_doom_loop(core, calls) if calls else False
        triggered = await compactor.start_if_due()
    return RecordResult(
        user_message_id=messages[-2].id,
        assistant_message_id=reply.id,
        tokens=report.usage,
        compaction_triggered=triggered,
        doom_loop_detected=is_looping,
    )


def _report_usage(core: SessionCore, messages: Sequence[Message]) -> UsageReport:
    """Return the provider's report for the reply, or mnesis's own count of the messages."""
    reply = messages[-1]
    if reply.tokens is not None and reply.tokens.effective_total() > 0:
        return UsageReport(reply.tokens, "inferred", reply.cost, request=note_own_request(core, reply.tokens))
    input_tokens = sum([message.token_count for message in messages]) - reply.token_count
    usage = TokenUsage(input=input_tokens, output=reply.token_count)
    return UsageReport(usage, "estimate", reply.cost, request=note_own_request(core, usage))
