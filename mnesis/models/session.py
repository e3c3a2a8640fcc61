"""The state of a session, and how a turn changes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnesis.models.usage import TokenUsage

NO_MODEL = "none"
"""The model of a session that is only recorded and was never given one."""


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Token usage that arrives with an append.

    `request`: the provider's report of a request whose extent is known; `inferred`: a report by somebody who called the
    model on their own; `estimate`: no report at all, `usage` is counted from the text. `request_estimate` is what the
    stored counts said of the request (0: unknown).
    """

    usage: TokenUsage
    kind: Literal["request", "inferred", "estimate"]
    cost: float = 0.0
    request_estimate: int = 0


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session as the store keeps it. Token counts are the session model's; times are milliseconds.

    `message_tokens` and `summary_tokens` are the stored counts of what stands in the active context (pruned outputs
    not counted); `tool_tokens` is the part of `message_tokens` that tool outputs take; `system_tokens` the system
    prompt's. `context_tokens` is the size of the context as far as known, `last_request_tokens` the newest report since
    the last fold. `calibration` is how much larger the provider counts than we do (≥ 1). `usage` and `cost` are lifetime sums.
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

    @property
    def stored_tokens(self) -> int:
        """What the stored counts say of the context: system prompt, summaries and messages."""
        return self.system_tokens + self.summary_tokens + self.message_tokens


MAX_CALIBRATION = 4.0
MIN_CALIBRATED_REQUEST = 500


def after_append(
    state: SessionRecord,
    *,
    messages: int,
    tokens: int,
    tool_tokens: int,
    reply_tokens: int,
    report: UsageReport | None,
    **others: Any,
) -> SessionRecord:
    """The state after `messages` messages of `tokens` tokens were appended, `reply_tokens` of them the model's reply.

    How a report moves `context_tokens`: a known request *is* the context (input and output). An inferred report counts
    as a whole request when its input is larger than the previous report's since the last fold, or, for the first
    one, when it is at least half of the estimated window; otherwise it describes the turn alone, and the context grows
    by it. The stored counts are the floor under all of it. `others` are further fields to set.
    """
    message_tokens = state.message_tokens + tokens
    changes: dict[str, Any] = {
        "last_seq": state.last_seq + messages,
        "message_tokens": message_tokens,
        "tool_tokens": state.tool_tokens + tool_tokens,
        "context_tokens": state.context_tokens + tokens,
        **others,
    }
    if report is not None:
        changes["usage"] = state.usage + report.usage
        changes["cost"] = state.cost + report.cost
        if report.kind != "estimate" and report.usage.request_tokens + report.usage.output:
            changes |= _reported(state, tokens - reply_tokens, report)
    floor = state.system_tokens + state.summary_tokens + message_tokens
    changes["context_tokens"] = max(changes["context_tokens"], floor)
    # One copy: this runs inside every append's transaction.
    return replace(state, **changes)


def _reported(before: SessionRecord, asked_tokens: int, report: UsageReport) -> dict[str, Any]:
    asked, answered = report.usage.request_tokens, report.usage.output
    whole = report.kind == "request" or _is_whole_request(asked, before, before.stored_tokens + asked_tokens)
    changes: dict[str, Any] = {
        "context_tokens": asked + answered if whole else before.context_tokens + asked + answered,
        "last_request_tokens": asked,
    }
    if report.kind == "request" and min(report.request_estimate, asked) >= MIN_CALIBRATED_REQUEST:
        changes["calibration"] = min(max(asked / report.request_estimate, 1.0), MAX_CALIBRATION)
    return changes


def _is_whole_request(input_tokens: int, before: SessionRecord, window_estimate: int) -> bool:
    if before.last_request_tokens is None:
        return 2 * input_tokens >= window_estimate
    return input_tokens > before.last_request_tokens


def counted_anew(state: SessionRecord) -> SessionRecord:
    """The state after a fold: the context is what the stored counts say, until the next report."""
    return replace(state, context_tokens=state.stored_tokens, last_request_tokens=None)


@dataclass(frozen=True, slots=True)
class Interruption:
    """A model call that gave no answer: when, after which message, why, and what had arrived (never sent back)."""

    after_seq: int
    kind: Literal["failed", "cancelled"]
    error_type: str
    error: str
    partial_text: str
    created_at: int
