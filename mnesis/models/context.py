"""The active context and the window: the items that currently represent the log, and their tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mnesis.display import plots
from mnesis.display.displayable import Displayable
from mnesis.display.panel import Bar, Panel, context_bar
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.tables import message_table

if TYPE_CHECKING:
    from mnesis.display.plots import Axes


@dataclass(frozen=True, slots=True)
class Cover:
    """A span of the log that the active context does not show message by message.

    The messages `first_seq` to `last_seq`, both inclusive, are shown as the summary `summary_id`. If it is None, the span
    was hidden on purpose and is not shown; the log keeps it. Covers of a session never overlap. Messages between covers are
    shown as they are.
    """

    first_seq: int
    last_seq: int
    summary_id: str | None


def find_cover(covers: Iterable[Cover], seq: int) -> Cover | None:
    """Return the cover that contains a seq. None if the context shows that message itself."""
    return next((cover for cover in covers if cover.first_seq <= seq <= cover.last_seq), None)


@dataclass(frozen=True, slots=True)
class Prune:
    """A tool output that is shown as a marker: part `part_index` of message `seq`. The log keeps the output."""

    seq: int
    part_index: int
    tokens_saved: int


@dataclass(frozen=True, slots=True)
class ActiveContext:
    """Everything that currently represents the log, read in one transaction.

    `items` are summaries and messages in log order. `prunes` are keyed by (seq, part index). `pins` are the seqs of messages
    that are never folded.
    """

    session: SessionRecord
    covers: tuple[Cover, ...]
    items: tuple[Summary | Message, ...]
    prunes: dict[tuple[int, int], Prune]
    pins: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Budget:
    """The token limits of a window and the thresholds of compaction."""

    context_limit: int
    max_output_tokens: int
    usable_tokens: int
    soft_tokens: int
    low_water_tokens: int
    summary_tokens: int


@dataclass(frozen=True, slots=True)
class Window(Displayable):
    """The content of one request: messages in order, each with its token count.

    `messages` contain summaries as messages with `is_summary`, markers for pruned outputs, and synthetic results for calls
    without a result. `tokens` counts them and the system prompt. `omitted` is the number of messages that a marker replaces
    to save space; it is 0 unless the context exceeds its budget. `budget` holds the session's limits, if known.
    """

    messages: tuple[Message, ...]
    system_prompt: str
    system_tokens: int
    tokens: int
    budget_tokens: int
    omitted: int = 0
    budget: Budget | None = field(default=None, compare=False, repr=False)

    @property
    def shares(self) -> dict[str, int]:
        """Tokens by purpose. "other" are those of the request that are neither prompt nor messages."""
        log_messages = [message for message in self.messages if not message.is_summary]
        outputs = sum(message.tool_tokens for message in log_messages)
        shares = {
            "system prompt": self.system_tokens,
            "summaries": sum(message.token_count for message in self.messages if message.is_summary),
            "messages": sum(message.token_count for message in log_messages) - outputs,
            "tool outputs": outputs,
        }
        return {**shares, "other": self.tokens - sum(shares.values())}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the fill of the window with matplotlib. See `mnesis.display.plots`."""
        return plots.draw_gauge(self._bar(), ax=ax)

    def _bar(self) -> Bar:
        """Build the fill bar in tokens of our own count; the limits of the budget are in the provider's count."""
        if self.budget is None:
            return context_bar(self.shares, usable_tokens=self.budget_tokens)
        scale = min(1.0, self.budget_tokens / max(self.budget.usable_tokens, 1))
        return context_bar(
            self.shares,
            usable_tokens=self.budget_tokens,
            soft_tokens=int(self.budget.soft_tokens * scale),
            reserved_tokens=int((self.budget.context_limit - self.budget.usable_tokens) * scale),
        )

    def _panel(self) -> Panel:
        used = f"{self.tokens:,} of {self.budget_tokens:,}"
        facts = (("tokens", used), ("messages", f"{len(self.messages):,}"))
        badges = (f"{self.omitted:,} replaced by a marker",) if self.omitted else ()
        return Panel("Window", badges, facts, (self._bar(), message_table(self.messages)))
