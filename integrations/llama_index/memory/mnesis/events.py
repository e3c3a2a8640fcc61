"""Session events for LlamaIndex's instrumentation, under the dispatcher name `llama_index.memory.mnesis`."""

from __future__ import annotations

from typing import Any

from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent
from pydantic import Field

from mnesis.events.bus import MnesisEvent
from mnesis.session.session import MnesisSession

DISPATCHER_NAME = "llama_index.memory.mnesis"
_dispatcher = get_dispatcher(DISPATCHER_NAME)


class MnesisSessionEvent(BaseEvent):
    """An event of a session. `event` is its name on the engine's bus; `payload` contains its ids, texts and numbers."""

    event: str
    session_id: str
    payload: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def class_name(cls) -> str:
        """Return the event name that handlers receive."""
        return "MnesisSessionEvent"


class MnesisCompacted(MnesisSessionEvent):
    """A committed compaction. The token counts are those of the whole context."""

    tokens_before: int
    tokens_after: int
    level_used: int

    @classmethod
    def class_name(cls) -> str:
        """Return the event name that handlers receive."""
        return "MnesisCompacted"


class MnesisHistoryReplaced(MnesisSessionEvent):
    """A change of the history by `set()` or `reset()`. `case` is the kind of change. The log keeps everything."""

    case: str

    @classmethod
    def class_name(cls) -> str:
        """Return the event name that handlers receive."""
        return "MnesisHistoryReplaced"


def forward_events(session: MnesisSession) -> None:
    """Forward all events of a session to LlamaIndex for as long as the session is open."""
    session.subscribe_all(_forward_event)


def publish_replaced(session_id: str, case: str) -> None:
    """Publish that a history was replaced."""
    if _has_listeners():
        _dispatcher.event(MnesisHistoryReplaced(event="history.replaced", session_id=session_id, case=case))


def _forward_event(event: MnesisEvent, payload: Any) -> None:
    if not _has_listeners():
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


def _has_listeners() -> bool:
    """Return whether an event handler is installed. Creating an event costs more than storing a message."""
    dispatcher: Any = _dispatcher
    while dispatcher is not None:
        if any(handler.class_name() != "NullEventHandler" for handler in dispatcher.event_handlers):
            return True
        dispatcher = dispatcher.parent if dispatcher.propagate and dispatcher.parent_name else None
    return False
