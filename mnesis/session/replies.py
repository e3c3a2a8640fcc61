"""The stored form of a reply's parts and finish reason. Pure functions, no I/O."""

from __future__ import annotations

from mnesis.llm.base import LLMReply
from mnesis.models.message import FinishReason, MessagePart, ReasoningPart, TextPart


def reply_parts(reply: LLMReply) -> list[MessagePart]:
    """Convert a reply to parts: reasoning, text, tool calls. Signed reasoning blocks are kept exactly."""
    parts: list[MessagePart] = []
    if reply.reasoning_blocks:
        parts += [ReasoningPart(text=str(b.get("thinking", "")), provider=dict(b)) for b in reply.reasoning_blocks]
    elif reply.reasoning:
        parts.append(ReasoningPart(text=reply.reasoning))
    if reply.text or not reply.tool_calls:
        parts.append(TextPart(text=reply.text, provider=reply.text_provider))
    return [*parts, *reply.tool_calls]


def finish_reason(reason: str | None) -> FinishReason | str:
    """Return a known finish reason as a `FinishReason` and any other unchanged. None means that the model stopped
    normally.
    """
    reason = reason or FinishReason.STOP
    return FinishReason(reason) if reason in FinishReason.__members__.values() else reason
