"""The active context: which items stand for the log now, and how much room they take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mnesis.display import plots
from mnesis.display.panel import Bar, Panel, context_bar
from mnesis.display.shown import Shown
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.tables import message_table

if TYPE_CHECKING:
    from mnesis.display.plots import Axes


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
class Window(Shown):
    """What one request shows: messages in order, each with its token count.

    `messages` hold summaries as messages with `is_summary`, pruned outputs as markers, synthetic results for calls
    that have none. `tokens` counts them and the system prompt. `omitted` says how many messages stand behind a marker
    for want of room (0 unless the context is over its budget). `budget` holds the session's marks, where it is known.
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
        """Tokens by what they are spent on, "other" being what the request carries beside prompt and messages."""
        said = [message for message in self.messages if not message.is_summary]
        outputs = sum(message.tool_tokens for message in said)
        shares = {
            "system prompt": self.system_tokens,
            "summaries": sum(message.token_count for message in self.messages if message.is_summary),
            "messages": sum(message.token_count for message in said) - outputs,
            "tool outputs": outputs,
        }
        return {**shares, "other": self.tokens - sum(shares.values())}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw its gauge with matplotlib. See `mnesis.display.plots`."""
        return plots.gauge(self._bar(), ax=ax)

    def _bar(self) -> Bar:
        """The gauge, in tokens as they are counted here: the budget's marks are the provider's."""
        if self.budget is None:
            return context_bar(self.shares, usable_tokens=self.budget_tokens)
        counted = min(1.0, self.budget_tokens / max(self.budget.usable_tokens, 1))
        return context_bar(
            self.shares,
            usable_tokens=self.budget_tokens,
            soft_tokens=int(self.budget.soft_tokens * counted),
            reserved_tokens=int((self.budget.context_limit - self.budget.usable_tokens) * counted),
        )

    def _panel(self) -> Panel:
        used = f"{self.tokens:,} of {self.budget_tokens:,}"
        facts = (("tokens", used), ("messages", f"{len(self.messages):,}"))
        badges = (f"{self.omitted:,} left out behind a marker",) if self.omitted else ()
        return Panel("Window", badges, facts, (self._bar(), message_table(self.messages)))


JsonDict = dict[str, Any]
