"""One typed payload per event. Attributes for people who type, a read-only mapping for those who index.

Payloads carry ids and numbers, never what was said.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mnesis.models.results import CompactionResult


class Payload(Mapping[str, Any]):
    """Base of all payloads: `payload.session_id` and `payload["session_id"]` are the same; `dict(payload)` works."""

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
    """A session was stored for the first time. `parent_id` names the session it is a sub-agent of."""

    session_id: str
    model: str
    parent_id: str | None = None


@dataclass(frozen=True, eq=False)
class SessionUpdatedPayload(Payload):
    """A turn was stored or a setting changed. `context_tokens` is the context's size now."""

    session_id: str
    context_tokens: int
    turn_count: int


@dataclass(frozen=True, eq=False)
class SessionClosedPayload(Payload):
    """A session object was closed; the session itself stays."""

    session_id: str


@dataclass(frozen=True, eq=False)
class SessionDeletedPayload(Payload):
    """A session and everything that belongs to it was erased."""

    session_id: str


@dataclass(frozen=True, eq=False)
class MessageCreatedPayload(Payload):
    """A message was stored; `seq` is its place in the log, `token_count` what it takes."""

    session_id: str
    message_id: str
    role: str
    seq: int
    token_count: int


@dataclass(frozen=True, eq=False)
class MessageUpdatedPayload(Payload):
    """What stands for a message in the active context changed; the message itself never does.

    `summary_id` is the summary that stands for it now, None if parts of it are shown as markers."""

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
    """A tool output is shown as a marker from now on; the log keeps it."""

    session_id: str
    message_id: str
    part_index: int
    tokens_saved: int


@dataclass(frozen=True, eq=False)
class CompactionTriggeredPayload(Payload):
    """`trigger` is soft, hard, manual, overflow or resume; `tokens` the context's size then."""

    session_id: str
    tokens: int
    trigger: str


@dataclass(frozen=True, eq=False)
class CompactionCompletedPayload(Payload):
    """A sweep was committed. `level_used` is 1 to 3 (0: only tool outputs became markers), `result` the whole account of it."""

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
    """A sweep was given up; the context is as it was."""

    session_id: str
    error: str
    error_type: str


@dataclass(frozen=True, eq=False)
class PruneCompletedPayload(Payload):
    """Old tool outputs became markers, and so many tokens left the context."""

    session_id: str
    pruned_count: int
    pruned_tokens: int


@dataclass(frozen=True, eq=False)
class LlmRetryPayload(Payload):
    """Published before each wait. `attempt` counts from 1."""

    session_id: str
    attempt: int
    max_retries: int
    error_type: str
    error_message: str
    delay_seconds: float


@dataclass(frozen=True, eq=False)
class DoomLoopDetectedPayload(Payload):
    """`count` identical calls of `tool` in a row."""

    session_id: str
    tool: str
    count: int


@dataclass(frozen=True, eq=False)
class MapStartedPayload(Payload):
    """A map began. `total` is None until all inputs are known; `type` is llm or agentic."""

    total: int | None
    model: str
    type: str
    run_id: str = ""


@dataclass(frozen=True, eq=False)
class MapItemCompletedPayload(Payload):
    """An item is finished, `completed` of them so far."""

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
