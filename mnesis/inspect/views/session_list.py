"""The list of sessions: filters, and sub-agents below the session they work for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnesis.errors import CorruptStoreError, SessionNotFoundError
from mnesis.ids import now_ms
from mnesis.models.session import SessionRecord
from mnesis.store.base import Store

PAGE_SESSIONS = 50
MAX_SCANNED_SESSIONS = 2_000
"""The number of sessions that one page examines for its filters, so that a rare match does not read the whole
database."""
MAX_CHILDREN = 20
MAX_DEPTH = 3
TITLE_CHARS = 160
PERIODS_MS = {"1h": 3_600_000, "24h": 86_400_000, "7d": 604_800_000, "30d": 2_592_000_000}
KINDS = ("tree", "flat", "parents", "children")


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One line of the list. `depth` is 0 unless it is shown below its parent."""

    session: SessionRecord
    title: str
    depth: int


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """What the list shows. Empty strings select everything."""

    text: str = ""
    agent: str = ""
    model: str = ""
    period: str = ""
    kind: str = "tree"

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> SessionFilter:
        """Read the filter from a query string. Unknown values select everything."""
        kind, period = query.get("kind", "tree"), query.get("period", "")
        return cls(
            query.get("q", "").strip(),
            query.get("agent", "").strip(),
            query.get("model", "").strip(),
            period if period in PERIODS_MS else "",
            kind if kind in KINDS else "tree",
        )

    def matches(self, session: SessionRecord, title: str) -> bool:
        """Return whether the list shows a session."""
        if self.period and session.updated_at < now_ms() - PERIODS_MS[self.period]:
            return False
        if self.agent and self.agent.lower() not in session.agent.lower():
            return False
        if self.model and self.model.lower() not in session.model.lower():
            return False
        return self.text.lower() in f"{session.id}\n{title}".lower()

    @property
    def is_empty(self) -> bool:
        """Whether every session is shown."""
        return self == SessionFilter(kind=self.kind) and self.kind in ("tree", "flat")


@dataclass(frozen=True, slots=True)
class SessionList:
    """A page of the list, and the cursor of the next page."""

    rows: tuple[SessionRow, ...]
    filter: SessionFilter
    next_cursor: str | None


async def list_sessions(store: Store, query: Mapping[str, str]) -> SessionList:
    """Read a page of sessions, those used last first."""
    wanted, cursor = SessionFilter.from_query(query), query.get("cursor") or None
    rows: list[SessionRow] = []
    scanned = count = 0
    while True:
        page = await store.sessions(limit=PAGE_SESSIONS - count, cursor=cursor)
        for session in page.sessions:
            has_parent = session.parent_id is not None and await _exists(store, session.parent_id)
            if (wanted.kind in ("tree", "parents") and has_parent) or (wanted.kind == "children" and not has_parent):
                continue
            if wanted.kind == "parents" and not (await store.sessions(limit=1, parent_id=session.id)).sessions:
                continue
            title = await session_title(store, session)
            below = (
                await _children(store, session, wanted, 1, {session.id}) if wanted.kind in ("tree", "parents") else []
            )
            if wanted.matches(session, title) or below:
                rows += [SessionRow(session, title, 0), *below]
                count += 1
        scanned += len(page.sessions)
        cursor = page.next_cursor
        if cursor is None or count >= PAGE_SESSIONS or scanned >= MAX_SCANNED_SESSIONS:
            return SessionList(tuple(rows), wanted, cursor)


async def child_sessions(store: Store, session_id: str) -> list[SessionRow]:
    """Read the sub-agents of a session, at most `MAX_CHILDREN`."""
    page = await store.sessions(limit=MAX_CHILDREN, parent_id=session_id)
    return [SessionRow(child, await session_title(store, child), 0) for child in page.sessions]


async def session_title(store: Store, session: SessionRecord) -> str:
    """Return the title of a session, or the beginning of its first message."""
    if session.title:
        return session.title
    try:
        first = await store.messages(session.id, limit=1)
    except (CorruptStoreError, SessionNotFoundError):
        return "(its first message is damaged; see `mnesis doctor`)"
    return " ".join(first[0].text_content()[: TITLE_CHARS * 4].split())[:TITLE_CHARS] if first else ""


async def _children(
    store: Store, parent: SessionRecord, wanted: SessionFilter, depth: int, seen: set[str]
) -> list[SessionRow]:
    page = await store.sessions(limit=MAX_CHILDREN, parent_id=parent.id)
    rows: list[SessionRow] = []
    for child in page.sessions:
        if child.id in seen:
            continue
        seen.add(child.id)
        title = await session_title(store, child)
        below = await _children(store, child, wanted, depth + 1, seen) if depth < MAX_DEPTH else []
        if wanted.matches(child, title) or below:
            rows += [SessionRow(child, title, depth), *below]
    return rows


async def _exists(store: Store, session_id: str) -> bool:
    try:
        await store.session(session_id)
    except SessionNotFoundError:
        return False
    return True
