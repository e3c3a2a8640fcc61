"""The step from which an unfinished turn continues. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnesis.models.context import ActiveContext
from mnesis.models.message import Message, ToolPart, ToolResultPart


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The first unanswered step of a turn.

    `unanswered_calls` are the calls of `reply` that have no result, in order. If there are none, the model is to be called
    next. `user_message_id` is the newest user message, or "".
    """

    unanswered_calls: tuple[ToolPart, ...] = ()
    reply: Message | None = None
    user_message_id: str = ""


def find_resume_point(context: ActiveContext) -> ResumePoint | None:
    """Return the step from which the newest turn continues. None if the turn is complete, or if there is no turn.

    A turn is complete if the context ends with a reply that calls no tools. System messages do not count.
    """
    # A summary at the end hides the newest messages, so nothing is known about their turn.
    messages = [item for item in context.items if not (isinstance(item, Message) and item.role == "system")]
    if not messages or not isinstance(messages[-1], Message):
        return None
    user_messages = (item.id for item in reversed(messages) if isinstance(item, Message) and item.role == "user")
    user_message_id = next(user_messages, "")
    results: list[ToolResultPart] = []
    for item in reversed(messages):
        if not isinstance(item, Message) or item.role != "tool":
            break
        results = [*item.tool_results, *results]
    else:
        return ResumePoint(user_message_id=user_message_id)
    if not isinstance(item, Message) or item.role != "assistant":
        return ResumePoint(user_message_id=user_message_id)
    unanswered_calls = _unanswered_calls(item.tool_calls, results)
    # A reply that contains the results of its calls was recorded as a complete turn.
    if not unanswered_calls and not results:
        return None
    return ResumePoint(unanswered_calls, item, user_message_id)


def _unanswered_calls(calls: Sequence[ToolPart], results: Sequence[ToolResultPart]) -> tuple[ToolPart, ...]:
    """Return the calls without a result. Ids may repeat; each result answers the first pending call with its id."""
    pending = [call for call in calls if not call.has_result]
    for result in results:
        answered = next((call for call in pending if call.tool_call_id == result.tool_call_id), None)
        if answered is not None:
            pending.remove(answered)
    return tuple(pending)
