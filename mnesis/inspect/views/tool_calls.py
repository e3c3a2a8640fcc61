"""The tool calls of a session, newest first, each with its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnesis.models.message import Message, ToolPart, ToolResultPart
from mnesis.models.session import SessionRecord
from mnesis.store.base import Store

SCAN_MESSAGES = 400
MAX_SCANS = 5
PAGE_CALLS = 60
RESULT_LOOKAHEAD = 60
"""The number of messages after the scanned ones that are searched for results."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call and its result. `result` is None if the call has no result yet."""

    message: Message
    call: ToolPart
    result: ToolResultPart | None
    result_seq: int

    @property
    def state(self) -> str:
        """`open`, `failed` or `done`."""
        if self.result is None:
            return "open"
        return "failed" if self.result.is_error else "done"

    @property
    def elapsed_ms(self) -> int | None:
        """The duration of the call, or None if it was not recorded."""
        status = self.call.status
        if status.started_at is None or status.completed_at is None:
            return None
        return status.completed_at - status.started_at


@dataclass(frozen=True, slots=True)
class ToolCallPage:
    """A page of calls. `next_before` continues with older messages; None at the beginning of the log."""

    session: SessionRecord
    calls: tuple[ToolCall, ...]
    tool: str
    state: str
    next_before: int | None


async def read_tool_calls(store: Store, session_id: str, query: Mapping[str, str]) -> ToolCallPage:
    """Read a page of calls. `query` may contain `tool`, `state` and `before`, a seq."""
    session = await store.session(session_id)
    tool, state = query.get("tool", "").strip(), query.get("state", "")
    before = int(query["before"]) if query.get("before", "").isdecimal() else session.last_seq + 1
    before = min(before, session.last_seq + 1)
    calls: list[ToolCall] = []
    for _ in range(MAX_SCANS):
        first = max(0, before - 1 - SCAN_MESSAGES)
        messages = await store.messages(session_id, after_seq=first, until_seq=before - 1 + RESULT_LOOKAHEAD)
        found = [each for each in pair_calls(messages) if each.message.seq < before]
        for each in reversed(found):
            if (not tool or tool == each.call.tool_name) and (not state or state == each.state):
                calls.append(each)
            if len(calls) == PAGE_CALLS:
                return ToolCallPage(session, tuple(calls), tool, state, each.message.seq)
        before = first + 1
        if first == 0:
            return ToolCallPage(session, tuple(calls), tool, state, None)
    return ToolCallPage(session, tuple(calls), tool, state, before)


def pair_calls(messages: list[Message]) -> list[ToolCall]:
    """Return the calls of consecutive messages in order, each with the first result that names it."""
    results: dict[str, tuple[int, ToolResultPart | None]] = {}
    for message in messages:
        for each in message.tool_results:
            results.setdefault(each.tool_call_id, (message.seq, each))
    calls = []
    for message in messages:
        for call in message.tool_calls:
            seq, result = results.get(call.tool_call_id, (0, None))
            if call.has_result:
                seq, result = message.seq, call.result()
            calls.append(ToolCall(message, call, result, seq))
    return calls
