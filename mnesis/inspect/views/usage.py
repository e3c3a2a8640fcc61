"""Tokens and cost over time: the size of the context, compactions, and the tokens that each model call read from the
cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnesis.config import MnesisConfig
from mnesis.inspect.charts import Column, TimelineChart, timeline_chart, usage_columns
from mnesis.inspect.views.window import make_session_budget
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.session import SessionRecord
from mnesis.models.timeline import Timeline
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Store

MAX_LOG_MESSAGES = 2_000
"""The number of newest messages that are read for the chart of model calls; totals cover the whole session."""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """The provider's report about the call that produced a message."""

    message: Message
    usage: TokenUsage

    @property
    def cached_fraction(self) -> float | None:
        """The share of the request that the provider read from its cache, or None if the request is not known."""
        requested = self.usage.request_tokens
        return self.usage.cache_read / requested if requested else None


@dataclass(frozen=True, slots=True)
class UsageView:
    """Figures and charts of a session."""

    session: SessionRecord
    timeline: Timeline
    chart: TimelineChart | None
    calls: tuple[ModelCall, ...]
    columns: tuple[Column, ...]
    compactions: tuple[CompactionResult, ...]
    cached_fraction: float | None
    compaction_cost: float
    first_seq: int


async def read_usage(store: Store, session_id: str, config: MnesisConfig, turns: list[TurnSnapshot]) -> UsageView:
    """Read the data of the usage page."""
    session = await store.session(session_id)
    compactions = await store.compactions(session_id)
    first = max(0, session.last_seq - MAX_LOG_MESSAGES)
    messages = await store.messages(session_id, after_seq=first)
    calls = tuple(ModelCall(message, message.tokens) for message in messages if message.tokens is not None)
    timeline = Timeline.of(session_id, turns, compactions, make_session_budget(session, config))
    requested = session.usage.request_tokens
    return UsageView(
        session,
        timeline,
        timeline_chart(timeline),
        calls,
        tuple(usage_columns([_column(call) for call in calls])),
        tuple(compactions),
        session.usage.cache_read / requested if requested else None,
        sum(result.cost for result in compactions),
        first + 1,
    )


def _column(call: ModelCall) -> tuple[str, int, int, int, int]:
    usage = call.usage
    uncached = max(usage.request_tokens - usage.cache_read - usage.cache_write, 0)
    title = (
        f"#{call.message.seq}: {usage.request_tokens:,} tokens sent ({usage.cache_read:,} from the cache,"
        f" {usage.cache_write:,} written to it), {usage.output:,} received"
    )
    return title, usage.cache_read, usage.cache_write, uncached, usage.output
