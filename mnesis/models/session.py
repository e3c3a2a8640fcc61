"""The state of a session, and the effect of an append on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnesis.models.sent_request import SentRequest
from mnesis.models.usage import TokenUsage

NO_MODEL = "none"
"""The model of a session that only records and has no model."""
MOCK_MODEL = "mock"
"""The model of a session that talks to the mock of `mnesis chat --mock`."""
UNFINISHED = "mnesis_unfinished"
"""The metadata key for the operation that is writing a session, until that operation is complete."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The token usage that comes with an append.

    `kind` is `request` for the provider's report of a request that we built, `inferred` for a report from a caller that
    called the model itself, and `estimate` if there is no report and `usage` is counted from the text.
    `request_estimate` is the size of the request by our own count, or 0 if unknown; `reserved_tokens` of it are tool
    definitions, which are not part of the context. `discarded_output_tokens` of the output, its reasoning, are not sent
    back. `fold_count` is that of the session when the request was built, or None if unknown; a report of an older
    context does not replace a newer size. `request` has the facts to store about the request. `cost` is in US dollars.
    """

    usage: TokenUsage
    kind: Literal["request", "inferred", "estimate"]
    cost: float = 0.0
    request_estimate: int = 0
    reserved_tokens: int = 0
    discarded_output_tokens: int = 0
    fold_count: int | None = None
    request: SentRequest | None = None


@dataclass(frozen=True, slots=True)
class ForkPoint:
    """The message from which a fork continues: `message_id`, at `seq` of the log of `session_id`."""

    session_id: str
    seq: int
    message_id: str


@dataclass(frozen=True)  # without slots, so that each append can copy it at once
class SessionRecord:
    """One stored session. Token counts are for the session's model; times are milliseconds since 1970.

    `message_tokens` and `summary_tokens` are our own counts of the active context, without pruned outputs.
    `tool_tokens` is the part of `message_tokens` in tool outputs, and `system_tokens` the count of the system prompt.
    `context_tokens` is the best known size of the context. `last_request_tokens` is the newest report since the last
    fold, or None. `calibration` is the ratio of the provider's count to ours, at least 1. `usage` and `cost` (US
    dollars) are lifetime sums. In lists of sessions, `damage` names the unreadable part; it is None if the session is
    intact. `fold_count` counts the changes of the context other than appends: sweeps and edits. `last_request` is the
    newest request. `forked_from` is the message from which a fork continues, or None. Messages up to it belong to
    another log; `turn_count`, `usage` and `cost` count only the fork.
    """

    id: str
    model: str
    system_prompt: str = ""
    agent: str = "default"
    parent_id: str | None = None
    title: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0
    last_seq: int = 0
    turn_count: int = 0
    system_tokens: int = 0
    message_tokens: int = 0
    tool_tokens: int = 0
    summary_tokens: int = 0
    context_tokens: int = 0
    last_request_tokens: int | None = None
    calibration: float = 1.0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    fold_count: int = 0
    last_request: SentRequest | None = None
    forked_from: ForkPoint | None = None
    damage: str | None = None

    @property
    def origin_id(self) -> str | None:
        """The session that stores the message from which a fork continues, or None."""
        return self.forked_from.session_id if self.forked_from is not None else None

    @property
    def inherited_seq(self) -> int:
        """The last seq of the messages that a fork shares with the session it continues; 0 for other sessions."""
        return self.forked_from.seq if self.forked_from is not None else 0

    @property
    def unfinished(self) -> str | None:
        """The operation that began to write this session and did not finish, or is still running: "import"."""
        operation = self.metadata.get(UNFINISHED)
        return operation if isinstance(operation, str) else None

    @property
    def stored_tokens(self) -> int:
        """The size of the context by our own counts: system prompt, summaries and messages."""
        return self.system_tokens + self.summary_tokens + self.message_tokens


MAX_CALIBRATION = 4.0
"""A larger ratio is an error in the report, not a property of a tokenizer."""
MIN_CALIBRATION_REQUEST_TOKENS = 500
"""Smaller requests consist mostly of overhead and do not show the ratio."""


def after_append(
    state: SessionRecord,
    *,
    message_count: int,
    tokens: int,
    tool_tokens: int,
    reply_tokens: int,
    report: UsageReport | None,
    **others: Any,
) -> SessionRecord:
    """Return the state after an append of `message_count` messages with `tokens` tokens.

    `reply_tokens` of them belong to the model's reply. `others` are further fields to set.
    A report updates `context_tokens` as follows. After a known request, the context is its input without the tool
    definitions, and its output without the reasoning that is not sent back. If the context was folded after the request was
    built, the report does not apply to it, and the context grows by our own count. An inferred
    report counts as a whole request if its input is larger than that of the previous report since the last fold, or, for
    the first report, if it is at least half of the estimated window. Otherwise it describes only this turn, and the context
    grows by it. The context is never smaller than our own counts.
    """
    # A single copy without replace(), which calls the constructor, because this runs in the transaction of every
    # append.
    fields = state.__dict__.copy()
    fields.update(others)
    fields["last_seq"] = state.last_seq + message_count
    fields["message_tokens"] = message_tokens = state.message_tokens + tokens
    fields["tool_tokens"] = state.tool_tokens + tool_tokens
    fields["context_tokens"] = state.context_tokens + tokens
    if report is not None:
        fields["usage"] = state.usage + report.usage
        fields["cost"] = state.cost + report.cost
        if report.request is not None:
            fields["last_request"] = report.request
        if report.kind != "estimate" and report.usage.request_tokens + report.usage.output:
            fields.update(_report_changes(state, tokens - reply_tokens, report))
    floor = state.system_tokens + state.summary_tokens + message_tokens
    fields["context_tokens"] = max(fields["context_tokens"], floor)
    after = object.__new__(SessionRecord)
    object.__setattr__(after, "__dict__", fields)
    return after


def _report_changes(before: SessionRecord, new_request_tokens: int, report: UsageReport) -> dict[str, Any]:
    input_tokens = report.usage.request_tokens
    output_tokens = max(report.usage.output - report.discarded_output_tokens, 0)
    changes: dict[str, Any] = {}
    ratio = before.calibration
    if report.kind == "request" and min(report.request_estimate, input_tokens) >= MIN_CALIBRATION_REQUEST_TOKENS:
        ratio = changes["calibration"] = min(max(input_tokens / report.request_estimate, 1.0), MAX_CALIBRATION)
    if report.fold_count not in (None, before.fold_count):
        return changes
    conversation_tokens = max(input_tokens - int(report.reserved_tokens * ratio), 0)
    window_estimate = before.stored_tokens + new_request_tokens
    is_whole = report.kind == "request" or _is_whole_request(input_tokens, before, window_estimate)
    changes["context_tokens"] = conversation_tokens + output_tokens + (0 if is_whole else before.context_tokens)
    changes["last_request_tokens"] = input_tokens
    return changes


def _is_whole_request(input_tokens: int, before: SessionRecord, window_estimate: int) -> bool:
    if before.last_request_tokens is None:
        return 2 * input_tokens >= window_estimate
    return input_tokens > before.last_request_tokens


def recount(state: SessionRecord) -> SessionRecord:
    """Return the state after a fold: until the next report, the size of the context is our own count."""
    return replace(state, context_tokens=state.stored_tokens, last_request_tokens=None, fold_count=state.fold_count + 1)


@dataclass(frozen=True, slots=True)
class Interruption:
    """A model call that gave no reply. `partial_text` is the text that had arrived; it is never sent to a model."""

    after_seq: int
    kind: Literal["failed", "cancelled"]
    error_type: str
    error: str
    partial_text: str
    created_at: int
