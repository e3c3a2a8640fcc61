"""The sessions that a retention rule selects, with the reason for each one that must be kept. Pure functions, no
I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mnesis.late_types import declare_late_types

if TYPE_CHECKING:
    from mnesis.config import RetentionConfig
    from mnesis.models.session import SessionRecord
else:
    declare_late_types(globals(), {"mnesis.config": "RetentionConfig", "mnesis.models.session": "SessionRecord"})

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """The records that a purge erases, and the selected ones that it keeps.

    `sessions` are ordered so that no session precedes its sub-agents' sessions or its forks. `kept` maps each selected
    session that is kept to the kept session that refers to it. `file_ids` are the stored files that only these sessions
    refer to.
    """

    sessions: tuple[SessionRecord, ...]
    kept: dict[str, str]
    file_ids: tuple[str, ...] = ()

    @property
    def message_count(self) -> int:
        """The messages of all sessions to erase."""
        return sum(session.last_seq for session in self.sessions)


def select_sessions(sessions: Sequence[SessionRecord], rule: RetentionConfig, now_ms: int) -> PurgePlan:
    """Select the sessions that a rule erases. `sessions` are all sessions, the most recently used first.

    All conditions of the rule must hold. `keep_last` counts among the sessions that match the pattern. A session is
    kept if a kept session is its sub-agent or its fork; so are all sessions that it refers to in turn.
    """
    matching = [session for session in sessions if _matches(session, rule.match)]
    chosen = {
        session.id: session
        for session in matching[rule.keep_last or 0 :]
        if rule.older_than_days is None or session.updated_at < now_ms - rule.older_than_days * DAY_MS
    }
    kept: dict[str, str] = {}
    remaining = [session for session in sessions if session.id not in chosen]
    while remaining:
        session = remaining.pop()
        for referred_id in _referred_ids(session):
            referred = chosen.pop(referred_id, None)
            if referred is not None:
                kept[referred.id] = session.id
                remaining.append(referred)
    return PurgePlan(tuple(_children_first(chosen)), kept)


def _matches(session: SessionRecord, pattern: str | None) -> bool:
    return pattern is None or any(fnmatchcase(name, pattern) for name in (session.id, session.title, session.agent))


def _referred_ids(session: SessionRecord) -> list[str]:
    """Return the sessions that a session needs: its parent, and the one whose log it continues."""
    return [each for each in (session.parent_id, session.origin_id) if each is not None]


def _children_first(sessions: dict[str, SessionRecord]) -> Iterable[SessionRecord]:
    """Yield sessions after their children and forks, so that an interrupted purge leaves no reference to a missing one."""
    depths: dict[str, int] = {}
    for start in sessions.values():
        path = [start]
        while path:
            session = path[-1]
            referred = [sessions[each] for each in _referred_ids(session) if each in sessions]
            unknown = [each for each in referred if each.id not in depths and each not in path]  # a cycle ends here
            if unknown:
                path.append(unknown[0])
            else:
                depths[session.id] = 1 + max((depths.get(each.id, 0) for each in referred), default=0)
                path.pop()
    return sorted(sessions.values(), key=lambda session: depths[session.id], reverse=True)
