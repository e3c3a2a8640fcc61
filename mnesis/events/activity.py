"""The activity log of mnesis: one record per event, with the numbers of its payload and no content.

Handlers receive `record.event`, `record.session_id` and `record.fields`, a dict. The logger is `mnesis.activity`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mnesis.redaction import get_logger, logs_content

logger = get_logger("mnesis.activity")

DEBUG_EVENTS = frozenset(
    {
        "map.item_completed",
        "message.created",
        "message.updated",
        "part.created",
        "part.updated",
        "session.updated",
    }
)
"""Events that come with every message or item. Every other event is logged as INFO. The module that handles a failure
also logs it as a WARNING."""
CONTENT_FIELDS = frozenset({"error", "error_message"})
"""Fields that may repeat text from a message or an error. Logged with `MNESIS_LOG_CONTENT=1` only."""


def may_log_events() -> bool:
    """Return whether a handler of the log wants records of any event."""
    return logger.isEnabledFor(logging.INFO)


def is_logged(event: str) -> bool:
    """Return whether a handler of the log wants records of an event."""
    return logger.isEnabledFor(_level(event))


def log_event(event: str, payload: Mapping[str, Any]) -> None:
    """Log an event with the plain values of its payload."""
    content = frozenset() if logs_content() else CONTENT_FIELDS
    fields = {
        name: value
        for name, value in payload.items()
        if name not in content and isinstance(value, str | int | float | bool | None)
    }
    text = " ".join(f"{name}={value!r}" for name, value in fields.items())
    extra = {"event": event, "session_id": fields.get("session_id"), "fields": fields}
    logger.log(_level(event), "%s %s", event, text, extra=extra)


def _level(event: str) -> int:
    return logging.DEBUG if event in DEBUG_EVENTS else logging.INFO
