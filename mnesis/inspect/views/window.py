"""The window that the model would receive now, with the originals behind each item."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mnesis.config import MnesisConfig
from mnesis.context.assemble import assemble
from mnesis.context.budget import make_budget
from mnesis.formats.anthropic import anthropic_messages
from mnesis.formats.openai import chat_messages
from mnesis.inspect.charts import Segment, stack
from mnesis.models.context import ActiveContext, Budget, Window
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.base import Store
from mnesis.tokens.estimator import ModelTokenCounter, TokenEstimator
from mnesis.tokens.model_info import ModelInfo

SHARE_CLASSES = {
    "system prompt": "c-system",
    "summaries": "c-summaries",
    "messages": "c-messages",
    "tool outputs": "c-tools",
    "other": "c-other",
}


@dataclass(frozen=True, slots=True)
class WindowItem:
    """A message of the window. It shows `summary` or `original`; both are None if mnesis wrote it itself."""

    message: Message
    summary: Summary | None = None
    original: Message | None = None

    @property
    def is_changed(self) -> bool:
        """Whether the model receives another text than the stored one."""
        return self.original is not None and self.original.parts != self.message.parts


@dataclass(frozen=True, slots=True)
class WindowView:
    """The window of the next request, and the sizes that decide about compaction."""

    session: SessionRecord
    budget: Budget
    window: Window
    items: tuple[WindowItem, ...]
    context: ActiveContext
    bar: tuple[Segment, ...]
    soft_percent: float

    def request_json(self, provider: str) -> str:
        """Return the messages of the request as indented JSON, in the shape of a provider."""
        body: Any = (
            {"system": self.window.system_prompt, "messages": anthropic_messages(self.window.messages)}
            if provider == "anthropic"
            else chat_messages(self.window.messages, self.window.system_prompt)
        )
        return json.dumps(body, ensure_ascii=False, indent=2, default=str)


async def read_window(store: Store, session_id: str, config: MnesisConfig) -> WindowView:
    """Assemble the window as a session with this configuration would, without opening or changing the session."""
    context = await store.active_context(session_id)
    session = context.session
    model = ModelInfo.from_model_string(session.model, config.model_overrides)
    budget = make_budget(model, config.compaction, session.system_tokens)
    count = ModelTokenCounter(TokenEstimator(encoding=model.encoding), model.model_id)
    window = assemble(
        context,
        budget_tokens=int(budget.usable_tokens / session.calibration),
        count=count,
    )
    shares = [(name, SHARE_CLASSES[name], amount) for name, amount in window.shares.items() if amount]
    return WindowView(
        session,
        budget,
        window,
        tuple(_match_items(window, context)),
        context,
        tuple(stack(shares, window.budget_tokens)),
        round(min(100.0, 100 * budget.soft_tokens / max(budget.usable_tokens, 1)), 2),
    )


def make_session_budget(session: SessionRecord, config: MnesisConfig) -> Budget:
    """Return the thresholds of a session under a configuration."""
    model = ModelInfo.from_model_string(session.model, config.model_overrides)
    return make_budget(model, config.compaction, session.system_tokens)


def _match_items(window: Window, context: ActiveContext) -> list[WindowItem]:
    summaries = {item.id: item for item in context.items if isinstance(item, Summary)}
    originals = {item.id: item for item in context.items if isinstance(item, Message)}
    return [
        WindowItem(message, summaries.get(message.id) if message.is_summary else None, originals.get(message.id))
        for message in window.messages
    ]
