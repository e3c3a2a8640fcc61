"""What happens in a session, told to LlamaIndex's instrumentation under the name `llama_index.memory.mnesis`."""

from __future__ import annotations

from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from pydantic import Field

from mnesis.events.bus import MnesisEvent
from mnesis.session.session import MnesisSession

DISPATCHER = "llama_index.memory.mnesis"
_dispatcher = get_dispatcher(DISPATCHER)


class MnesisSessionEvent(BaseEvent):
    """Something happened in a session: `event` is its name on the engine's bus, `payload` its ids and numbers."""

    event: str
    session_id: str
    payload: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """The name handlers see."""
        return "MnesisSessionEvent"


class MnesisCompacted(MnesisSessionEvent):
    """A compaction was committed. Token counts are of the whole context."""

    tokens_before: int
    tokens_after: int
    level_used: int

    @classmethod
    def class_name(cls) -> str:
        """The name handlers see."""
        return "MnesisCompacted"


class MnesisHistoryReplaced(MnesisSessionEvent):
    """`set()` or `reset()` changed what the history is: `case` says how. The log keeps everything."""

    case: str

    @classmethod
    def class_name(cls) -> str:
        """The name handlers see."""
        return "MnesisHistoryReplaced"


def forward(session: MnesisSession) -> None:
    """Tell LlamaIndex everything the session tells its bus, for as long as it is open."""
    session.subscribe_all(_forward)


def tell_replaced(session_id: str, case: str) -> None:
    """Say that a history was replaced."""
    if _anybody_listens():
        _dispatcher.event(MnesisHistoryReplaced(event="history.replaced", session_id=session_id, case=case))


def _forward(event: MnesisEvent, payload: Any) -> None:
    if not _anybody_listens():
        return
    fields = {name: value for name, value in payload.items() if isinstance(value, str | int | float | bool | None)}
    common: dict[str, Any] = {"event": str(event), "session_id": fields.get("session_id", ""), "payload": fields}
    if event == MnesisEvent.COMPACTION_COMPLETED:
        _dispatcher.event(
            MnesisCompacted(
                **common,
                tokens_before=payload.tokens_before,
                tokens_after=payload.tokens_after,
                level_used=payload.level_used,
            )
        )
    else:
        _dispatcher.event(MnesisSessionEvent(**common))


def _anybody_listens() -> bool:
    """Making events nobody sees would cost more than storing a message does."""
    place: Any = _dispatcher
    while place is not None:
        if any(handler.class_name() != "NullEventHandler" for handler in place.event_handlers):
            return True
        place = place.parent if place.propagate and place.parent_name else None
    return False
