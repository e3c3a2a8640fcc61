"""The settings of a session as the JSON that stores keep. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mnesis.models.session import ForkPoint, SessionRecord
from mnesis.store.codec import to_json

SETTINGS = ("model", "system_prompt", "agent", "title", "metadata")


def settings_of(session: SessionRecord) -> dict[str, Any]:
    """Return the settings of a session as values of JSON. Only a fork has `forked_from`."""
    settings = {name: getattr(session, name) for name in SETTINGS}
    return settings if session.forked_from is None else {**settings, "forked_from": asdict(session.forked_from)}


def settings_json(session: SessionRecord) -> bytes:
    """Encode the settings of a session as JSON."""
    return to_json(settings_of(session), f"session {session.id!r}")


def decode_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as fields of a `SessionRecord`. Raises TypeError if a value is not a setting of a session."""
    if "forked_from" not in settings:
        return dict(settings)
    return {**settings, "forked_from": parse_fork_point(settings["forked_from"])}


def parse_fork_point(value: Any) -> ForkPoint | None:
    """Return the fork point in a JSON text, or None. Raises TypeError for any other value."""
    return None if value is None else ForkPoint(**value)
