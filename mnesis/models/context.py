"""The active context and the window: the items that currently represent the log, and their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from mnesis.config import CompactionConfig
from mnesis.display import plots
from mnesis.display.displayable import Displayable
from mnesis.display.panel import Bar, Panel, context_bar
from mnesis.errors import ConfigurationError
from mnesis.late_types import declare_late_types
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.models.tables import message_table
from mnesis.validation import check_integer

if TYPE_CHECKING:
    from mnesis.display.plots import Axes
else:
    declare_late_types(globals(), {"matplotlib.axes": "Axes"})


@dataclass(frozen=True, slots=True)
class Cover:
    """A span of the log that the active context does not show as messages.

    The messages `first_seq` to `last_seq`, both inclusive, are shown as the summary `summary_id`. If it is None, the
    span was hidden on purpose and is not shown; the log keeps it. Covers of a session never overlap. Messages between
    covers are shown verbatim.
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


MIN_SUMMARIES_TOKENS = 1_024
MIN_SUMMARIES_FRACTION = 0.125
"""A fraction of the usable tokens. All summaries together get at least the smaller of the two."""

MAX_KEEP_FRACTION = 0.8
KEEP_SOFT_FRACTION = 0.95
KEEP_SUMMARY_FRACTION = 0.3
"""For a budget with `keep_tokens`: the largest fraction of the usable tokens to keep, the soft threshold, and the
fraction of the rest for summaries. Together they leave the low-water mark below the soft threshold."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The token limits of a window and the thresholds of compaction.

    A session computes its budget from the limits of its model, unless it is opened with one of `for_tokens()`.
    `system_tokens` of these are the session's system prompt. `includes_system_prompt` False means that the system
    prompt is allowed in addition.
    """

    context_limit: int
    max_output_tokens: int
    usable_tokens: int
    soft_tokens: int
    low_water_tokens: int
    summary_tokens: int
    includes_system_prompt: bool = True
    is_explicit: bool = False
    system_tokens: int = 0

    @classmethod
    def for_tokens(
        cls,
        usable_tokens: int,
        *,
        keep_tokens: int | None = None,
        includes_system_prompt: bool = True,
        config: CompactionConfig | None = None,
    ) -> Budget:
        """Return a budget of exactly `usable_tokens` for a window, regardless of the model. Nothing is reserved for the reply.

        With `keep_tokens`, the context is compacted just before the budget is full, and then that many of the newest
        tokens stay verbatim. Without it, the fractions of `config` determine the thresholds. Without
        `includes_system_prompt`, the session's system prompt is allowed in addition.

        Raises `ConfigurationError` if a number is not an integer, or out of range.

        ```python
        session = await MnesisSession.create(model="openai/gpt-4o", budget=Budget.for_tokens(8_000, keep_tokens=4_000))
        ```
        """
        check_integer("usable_tokens", usable_tokens, minimum=1)
        settings = config or CompactionConfig()
        soft_fraction = settings.soft_threshold_fraction if keep_tokens is None else KEEP_SOFT_FRACTION
        soft_tokens = min(int(usable_tokens * soft_fraction), usable_tokens - 1)
        if keep_tokens is None:
            low_tokens = min(int(usable_tokens * settings.low_water_fraction), soft_tokens)
            summary_tokens = max(
                int(low_tokens * settings.summary_fraction), min_summary_tokens(usable_tokens, soft_tokens)
            )
            low_tokens = max(low_tokens, summary_tokens)
        else:
            check_integer("keep_tokens", keep_tokens, minimum=0)
            kept_tokens = min(keep_tokens, int(usable_tokens * MAX_KEEP_FRACTION))
            summary_tokens = max(int((usable_tokens - kept_tokens) * KEEP_SUMMARY_FRACTION), 1)
            low_tokens = min(kept_tokens + summary_tokens, soft_tokens)
            summary_tokens = min(summary_tokens, low_tokens)
        return cls(
            context_limit=usable_tokens,
            max_output_tokens=0,
            usable_tokens=usable_tokens,
            soft_tokens=soft_tokens,
            low_water_tokens=low_tokens,
            summary_tokens=summary_tokens,
            includes_system_prompt=includes_system_prompt,
            is_explicit=True,
        )

    def after_reserving(self, reserved_tokens: int) -> Budget:
        """Return the budget that remains after `reserved_tokens` in each request, such as tool definitions.

        No compaction can reduce them, nor the system prompt. Therefore the thresholds keep their proportion of the
        rest, and a session with many tools does not compact too often.
        """
        if reserved_tokens <= 0 or self.usable_tokens <= self.system_tokens:
            return self
        usable_tokens = max(self.usable_tokens - reserved_tokens, 1)
        left_fraction = max(usable_tokens - self.system_tokens, 0) / (self.usable_tokens - self.system_tokens)

        def scale(tokens: int) -> int:
            scaled = self.system_tokens + int((tokens - self.system_tokens) * left_fraction)
            return max(min(scaled, usable_tokens), 1)

        return replace(
            self,
            usable_tokens=usable_tokens,
            soft_tokens=scale(self.soft_tokens),
            low_water_tokens=scale(self.low_water_tokens),
            summary_tokens=int(self.summary_tokens * left_fraction),
        )


def min_summary_tokens(usable_tokens: int, available_tokens: int) -> int:
    """Return the minimum size of all summaries together, for budgets in which a fraction of the low-water mark would be
    too small.
    """
    return min(MIN_SUMMARIES_TOKENS, int(usable_tokens * MIN_SUMMARIES_FRACTION), max(available_tokens, 0) // 4)


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """The layout of a window for receivers with special rules, such as frameworks that cut or template messages.

    With `starts_with_user`, the first message of the window is the user's: messages before the first user message
    become one text of the preface, and whole turns that do not fit are omitted, oldest first. `summaries` "preface"
    puts the preface (summaries, that text, and a note on omissions) into `Window.preface` instead of in front of the
    messages. `pinned_system_messages` are system messages of the log that the window contains although they are folded.
    With `keeps_newest_message`, the newest message stays unchanged, and the window exceeds its budget if that message
    alone does. `count_tokens` counts text that the engine writes; None means the session's counter.

    ```python
    window = await session.window(options=WindowOptions(starts_with_user=True, summaries="preface"))
    ```
    """

    starts_with_user: bool = False
    summaries: Literal["inline", "preface"] = "inline"
    pinned_system_messages: tuple[Message, ...] = ()
    keeps_newest_message: bool = False
    count_tokens: Callable[[str], int] | None = None

    def __post_init__(self) -> None:
        if self.summaries not in ("inline", "preface"):
            raise ConfigurationError(f"summaries must be 'inline' or 'preface', not {self.summaries!r}")


@dataclass(frozen=True, slots=True)
class Window(Displayable):
    """The content of one request: messages in order, each with its token count.

    `messages` contain summaries as messages with `is_summary`, markers for pruned outputs, and synthetic results for
    calls without a result. `tokens` counts them and the system prompt. `omitted` is the number of messages that a
    marker replaces to save space; it is 0 unless the context exceeds its budget. `hides_content` says whether the
    window leaves out any message or output of the log; `file_ids` are the stored files that its messages and summaries
    refer to. `reserved_tokens` of `tokens` are the request's content outside the context, such as tool definitions.
    `session` is the record that the window was built from, and `budget` holds the session's limits, if known.
    `system_messages` and `preface` come before `messages`; both are empty unless `WindowOptions` ask for them.
    """

    messages: tuple[Message, ...]
    system_prompt: str
    system_tokens: int
    tokens: int
    budget_tokens: int
    omitted: int = 0
    hides_content: bool = False
    file_ids: tuple[str, ...] = ()
    reserved_tokens: int = 0
    system_messages: tuple[Message, ...] = ()
    preface: tuple[Message, ...] = ()
    session: SessionRecord | None = field(default=None, compare=False, repr=False)
    budget: Budget | None = field(default=None, compare=False, repr=False)

    @property
    def shares(self) -> dict[str, int]:
        """Tokens by purpose. "other" are the tokens of the request that are neither prompt nor messages."""
        messages = (*self.system_messages, *self.preface, *self.messages)
        log_messages = [message for message in messages if not message.is_summary]
        outputs = sum(message.tool_tokens for message in log_messages)
        shares = {
            "system prompt": self.system_tokens,
            "summaries": sum(message.token_count for message in messages if message.is_summary),
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
