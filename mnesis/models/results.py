"""The results that sessions return."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_serializer

from mnesis.display.displayable import Displayable
from mnesis.display.panel import Panel, Table
from mnesis.models.message import FinishReason, Message, ToolPart, ToolResultPart
from mnesis.models.summary import Summary
from mnesis.models.tables import message_table, summary_table
from mnesis.models.usage import TokenUsage


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CompactionAttempt(_Result):
    """One attempt at a summary: its level, and why it was rejected, or None if it was accepted.

    `usage`, `cost` (US dollars) and `seconds` are those of all `calls` of `model` for it. Level 3 calls no model. An
    attempt without calls was prevented by a limit, the deadline or an open circuit breaker.
    """

    level: int
    rejection: Annotated[str | None, BeforeValidator(lambda reason: reason or None)] = Field(
        default=None, validation_alias=AliasChoices("rejection", "refused")
    )
    model: str = ""
    calls: int = 0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    seconds: float = 0.0

    @model_serializer
    def _serialize(self) -> dict[str, Any]:
        # Databases and exports store `rejection` under its first name, with "" for None, and omit unknown values.
        spending = {
            "model": self.model,
            "calls": self.calls,
            "usage": self.usage.model_dump(exclude_defaults=True),
            "cost": self.cost,
            "seconds": self.seconds,
        }
        return {
            "level": self.level,
            "refused": self.rejection or "",
            **{name: value for name, value in spending.items() if value},
        }


class CompactionResult(_Result, Displayable):
    """The result of a compaction.

    `level_used` is the highest level that any of its summaries needed. It is 0 if nothing was folded, because no
    compaction was due or none would have helped. `summary_message_id` is the id of the newest summary, or "".
    `tokens_before` and `tokens_after` measure the whole context. `usage` and `cost` (US dollars) are those of the
    summarizing model.
    """

    session_id: str
    summary_message_id: str = ""
    summary_ids: tuple[str, ...] = ()
    level_used: int = 0
    compacted_message_count: int = 0
    summary_token_count: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    elapsed_ms: float = 0.0
    pruned_tool_outputs: int = 0
    pruned_tokens: int = 0
    trigger: Literal["soft", "hard", "manual", "overflow", "expiry", "resume"] = "manual"
    """Why it ran. "resume" occurs only in databases of development versions, which compacted when a session was opened."""
    attempts: tuple[CompactionAttempt, ...] = ()
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    turn_index: int = 0
    created_at: int = 0

    def _panel(self) -> Panel:
        facts = (
            ("context", f"{self.tokens_before:,} → {self.tokens_after:,} tokens"),
            ("messages folded", f"{self.compacted_message_count:,}"),
            ("summaries", f"{len(self.summary_ids):,} ({self.summary_token_count:,} tokens)"),
            ("tool outputs pruned", f"{self.pruned_tool_outputs:,} ({self.pruned_tokens:,} tokens)"),
            ("took", f"{self.elapsed_ms:,.0f} ms"),
            ("cost", f"${self.cost:.4f}"),
        )
        badges = (f"level {self.level_used}" if self.level_used else "nothing folded", self.trigger)
        rows = [
            (
                str(attempt.level),
                attempt.rejection or "accepted",
                f"{attempt.usage.effective_total():,}",
                f"${attempt.cost:.4f}",
                f"{attempt.seconds:,.1f} s",
            )
            for attempt in self.attempts
        ]
        titles = ("level", "outcome", "tokens", "cost", "took")
        attempts = (Table(titles, rows, ("level", "tokens", "cost", "took")),) if rows else ()
        return Panel(f"Compaction of {self.session_id}", badges, facts, attempts)


class ContextBreakdown(_Result):
    """The stored token counts of the active context. `tool_outputs` is part of `messages`."""

    system_prompt: int = Field(default=0, ge=0)
    summary: int = Field(default=0, ge=0)
    messages: int = Field(default=0, ge=0)
    tool_outputs: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)


class TurnSnapshot(_Result):
    """The context right after a turn.

    `measured_tokens` is its size, including the provider's reports. `compact_result` is the compaction that this turn
    triggered, once it has finished.
    """

    turn_index: int = Field(ge=0)
    role: str = "assistant"
    seq: int = 0
    context_tokens: ContextBreakdown
    measured_tokens: int = 0
    compaction_triggered: bool = False
    compact_result: CompactionResult | None = None
    created_at: int = 0


CacheMissCause = Literal["model", "expiry", "compaction", "tools", "system_prompt", "options", "history", "eviction"]
"""The reason why a provider's cache missed: another model; an expired lifetime; a compaction or an edit of the context;
other tools, system prompt or options; other messages, such as recalled ones; or no change, but the provider no longer
had the prefix."""


class CacheReport(_Result):
    """The use of the provider's cache by one request, in tokens of the provider's count.

    `read_tokens` were read from the cache, `written_tokens` written to it, and `uncached_tokens` neither.
    `expected_tokens` is the known number of tokens that the previous request left in the cache. `miss_cause` is the
    reason if clearly fewer were read, else None.
    """

    read_tokens: int = Field(default=0, ge=0)
    written_tokens: int = Field(default=0, ge=0)
    uncached_tokens: int = Field(default=0, ge=0)
    expected_tokens: int = Field(default=0, ge=0)
    miss_cause: CacheMissCause | None = None

    @property
    def missed_tokens(self) -> int:
        """The tokens that could have been read from the cache and were not."""
        return max(self.expected_tokens - self.read_tokens, 0)


class TurnResult(_Result):
    """The result of a turn of `send()`.

    `tokens` and `cost` (US dollars, 0.0 if unknown) cover every model call of the turn, and `cache_reports` has one entry
    for each of them. `tool_calls` are calls that the
    session cannot run itself; pass their results to the next `send()`. `compaction_result` is the newest compaction that
    finished since the previous turn.
    """

    message_id: str
    text: str
    finish_reason: FinishReason | str = FinishReason.STOP
    tokens: TokenUsage = TokenUsage()
    cost: float = 0.0
    cache_reports: tuple[CacheReport, ...] = ()
    compaction_triggered: bool = False
    compaction_result: CompactionResult | None = None
    doom_loop_detected: bool = False
    tool_calls: tuple[ToolPart, ...] = ()
    reasoning: str = ""
    user_message_id: str = ""


class RecordResult(_Result):
    """The result of `record()`: the stored turn."""

    user_message_id: str
    assistant_message_id: str
    tokens: TokenUsage
    compaction_triggered: bool = False
    doom_loop_detected: bool = False


class TextDelta(_Result):
    """A piece of the reply, as the provider sent it."""

    type: Literal["text_delta"] = "text_delta"
    text: str


class ReasoningDelta(_Result):
    """A piece of the model's reasoning, as the provider sent it."""

    type: Literal["reasoning_delta"] = "reasoning_delta"
    text: str


class ToolCallStart(_Result):
    """The session starts to run a tool call of the model."""

    type: Literal["tool_call_start"] = "tool_call_start"
    call: ToolPart

    @property
    def tool_name(self) -> str:
        """The name of the tool."""
        return self.call.tool_name

    @property
    def tool_call_id(self) -> str:
        """The id of the call, which its `ToolCallEnd` has too."""
        return self.call.tool_call_id


class ToolCallEnd(_Result):
    """A tool call has finished, and its result is stored. `result.is_error` says whether it failed."""

    type: Literal["tool_call_end"] = "tool_call_end"
    result: ToolResultPart

    @property
    def tool_name(self) -> str:
        """The name of the tool."""
        return self.result.tool_name

    @property
    def tool_call_id(self) -> str:
        """The id of the call."""
        return self.result.tool_call_id


class TurnComplete(_Result):
    """The last event of a stream: the result of the stored turn."""

    type: Literal["turn_complete"] = "turn_complete"
    result: TurnResult


StreamEvent = TextDelta | ReasoningDelta | ToolCallStart | ToolCallEnd | TurnComplete
"""What `stream()` yields. Each has a `type`."""


class Expansion(_Result, Displayable):
    """One page of the content behind a summary: its original messages, verbatim and in order, or its child summaries.

    `next_cursor` continues where this page ends. It is None on the last page.
    """

    summary_id: str
    messages: tuple[Message, ...] = ()
    summaries: tuple[Summary, ...] = ()
    next_cursor: str | None = None

    def _panel(self) -> Panel:
        tables = (message_table(self.messages), summary_table(self.summaries))
        badges = ("more with next_cursor",) if self.next_cursor else ()
        facts = (("messages", f"{len(self.messages):,}"), ("summaries", f"{len(self.summaries):,}"))
        return Panel(f"Behind {self.summary_id}", badges, facts, tuple(table for table in tables if table.rows))


class Description(_Result):
    """The object that an id refers to: its kind, its text and its metadata in `details`."""

    id: str
    kind: Literal["session", "message", "summary", "file"]
    text: str = ""
    details: dict[str, Any] = Field(default_factory=dict)
