"""One typed payload per event, with attributes that can also be read as a mapping.

Payloads carry ids and numbers, never message content.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mnesis.models.results import CacheMissCause, CompactionResult


class Payload(Mapping[str, Any]):
    """The base class of all payloads. `payload.session_id`, `payload["session_id"]` and `dict(payload)` all work."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if key in self.__dataclass_fields__:  # type: ignore[attr-defined]  # every subclass is a dataclass
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)  # type: ignore[attr-defined]  # as above

    def __len__(self) -> int:
        return len(dataclasses.fields(self))  # type: ignore[arg-type]  # as above


@dataclass(frozen=True, eq=False)
class SessionCreatedPayload(Payload):
    """A session was created. `parent_id` is the session whose sub-agent it is, `forked_from` the one that it continues."""

    session_id: str
    model: str
    parent_id: str | None = None
    forked_from: str | None = None


@dataclass(frozen=True, eq=False)
class SessionUpdatedPayload(Payload):
    """The context, the model or the system prompt of a session changed. `context_tokens` is the new size."""

    session_id: str
    context_tokens: int
    turn_count: int


@dataclass(frozen=True, eq=False)
class SessionClosedPayload(Payload):
    """A session object was closed. The stored session remains."""

    session_id: str


@dataclass(frozen=True, eq=False)
class SessionDeletedPayload(Payload):
    """A session was purged, with everything that belongs to it."""

    session_id: str


@dataclass(frozen=True, eq=False)
class MessageCreatedPayload(Payload):
    """A message was stored. `seq` is its position in the log, `token_count` its size in tokens."""

    session_id: str
    message_id: str
    role: str
    seq: int
    token_count: int


@dataclass(frozen=True, eq=False)
class MessageUpdatedPayload(Payload):
    """A message is now represented by a summary or by markers. The message itself never changes.

    `summary_id` is the summary that replaces it in the context, or None if some of its parts are shown as markers.
    """

    session_id: str
    message_id: str
    seq: int
    summary_id: str | None


@dataclass(frozen=True, eq=False)
class PartCreatedPayload(Payload):
    """A part of a message was stored."""

    session_id: str
    message_id: str
    part_index: int
    part_type: str


@dataclass(frozen=True, eq=False)
class PartUpdatedPayload(Payload):
    """A tool output was replaced by a marker in the context. The log keeps it."""

    session_id: str
    message_id: str
    part_index: int
    tokens_saved: int


@dataclass(frozen=True, eq=False)
class CompactionTriggeredPayload(Payload):
    """A sweep started. `trigger` is soft, hard, manual, overflow or expiry; `tokens` is the size of the context."""

    session_id: str
    tokens: int
    trigger: str


@dataclass(frozen=True, eq=False)
class CompactionCompletedPayload(Payload):
    """A sweep was committed. `level_used` is 1 to 3, or 0 if only tool outputs were pruned; `result` has the details."""

    session_id: str
    summary_message_id: str
    level_used: int
    compacted_message_count: int
    summary_token_count: int
    tokens_before: int
    tokens_after: int
    elapsed_ms: float
    pruned_tool_outputs: int
    pruned_tokens: int
    trigger: str
    result: CompactionResult


@dataclass(frozen=True, eq=False)
class CompactionFailedPayload(Payload):
    """A sweep failed. The context did not change."""

    session_id: str
    error: str
    error_type: str


@dataclass(frozen=True, eq=False)
class PruneCompletedPayload(Payload):
    """`pruned_count` old tool outputs were replaced by markers, which removed `pruned_tokens` from the context."""

    session_id: str
    pruned_count: int
    pruned_tokens: int


@dataclass(frozen=True, eq=False)
class CacheMissPayload(Payload):
    """A request read clearly less from the provider's cache than the previous one had left there.

    `cause` is model, expiry, compaction, tools, system_prompt, options, history or eviction; see `CacheMissCause`.
    `read_tokens` of the `expected_tokens` were read.
    """

    session_id: str
    cause: CacheMissCause
    expected_tokens: int
    read_tokens: int
    missed_tokens: int
    model: str


@dataclass(frozen=True, eq=False)
class LlmRetryPayload(Payload):
    """A model call is about to be retried after `delay_seconds`. `attempt` counts from 1."""

    session_id: str
    attempt: int
    max_retries: int
    error_type: str
    error_message: str
    delay_seconds: float


@dataclass(frozen=True, eq=False)
class SummarizerBreakerChangedPayload(Payload):
    """The circuit breaker of a summarising model changed: `state` is open, half_open or closed.

    While it is open, the model is not called for `retry_after_seconds`, and summaries are made without one. `failures` is the
    number of failed calls in a row, `reason` the error of the last one.
    """

    session_id: str
    model: str
    state: str
    failures: int
    retry_after_seconds: float
    reason: str


@dataclass(frozen=True, eq=False)
class DoomLoopDetectedPayload(Payload):
    """The model called `tool` with identical arguments `count` times in a row."""

    session_id: str
    tool: str
    count: int


@dataclass(frozen=True, eq=False)
class MapStartedPayload(Payload):
    """A map started. `total` is None until all inputs are known; `type` is llm or agentic."""

    total: int | None
    model: str
    type: str
    run_id: str = ""


@dataclass(frozen=True, eq=False)
class MapItemCompletedPayload(Payload):
    """An item of a map is finished. `completed` counts the finished items so far."""

    completed: int
    total: int | None
    success: bool
    run_id: str = ""


@dataclass(frozen=True, eq=False)
class MapCompletedPayload(Payload):
    """All items of a map are finished."""

    total: int | None
    completed: int
    run_id: str = ""
