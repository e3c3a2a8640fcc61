"""The active context: which items stand for the log now, and how much room they take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary


@dataclass(frozen=True, slots=True)
class Cover:
    """A span of the log that the active context does not show message by message.

    `first_seq` to `last_seq`, both included, are shown as the summary `summary_id`, or not at all where it is None (a
    span taken out of the view on purpose; the log keeps it). Covers of a session never overlap; what lies between
    them stands in the context as it is.
    """

    first_seq: int
    last_seq: int
    summary_id: str | None


@dataclass(frozen=True, slots=True)
class Prune:
    """The output of one tool call is shown as a marker: part `part_index` of message `seq`. The log keeps the output."""

    seq: int
    part_index: int
    tokens_saved: int


@dataclass(frozen=True, slots=True)
class ActiveContext:
    """Everything that stands for the log now, in order, read in one transaction.

    `items` are `Summary` and `Message` values by place in the log; `prunes` are keyed by (seq, part index). `pins` are places of
    messages that stay as they are.
    """

    session: SessionRecord
    covers: tuple[Cover, ...]
    items: tuple[Summary | Message, ...]
    prunes: dict[tuple[int, int], Prune]
    pins: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens a window may take, and the marks that drive compaction; all in tokens."""

    context_limit: int
    max_output_tokens: int
    usable_tokens: int
    soft_tokens: int
    low_water_tokens: int
    summary_tokens: int


@dataclass(frozen=True, slots=True)
class Window:
    """What one request shows: messages in order, each with its token count.

    `messages` hold summaries as messages with `is_summary`, pruned outputs as markers, synthetic results for calls
    that have none. `tokens` counts them and the system prompt. `omitted` says how many messages stand behind a marker
    for want of room (0 unless the context is over its budget).
    """

    messages: tuple[Message, ...]
    system_prompt: str
    system_tokens: int
    tokens: int
    budget_tokens: int
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Interruption:
    """A model call that gave no answer: when, after which message, why, and what had arrived (never sent back)."""

    after_seq: int
    kind: Literal["failed", "cancelled"]
    error_type: str
    error: str
    partial_text: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something an integrity check found. `fix` says what to do."""

    severity: Literal["ok", "warning", "error"]
    check: str
    detail: str
    fix: str = ""
    ids: tuple[str, ...] = field(default=())


JsonDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FileReference:
    """A message that refers to a stored file."""

    session_id: str
    message_id: str
    seq: int
    content_id: str
