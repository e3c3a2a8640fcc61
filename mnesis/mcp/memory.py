"""The operations of an MCP client on a database: search, read and, if allowed, record, within a scope and a grant."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread

from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.models.search import Search, SearchHit, SearchMode
from mnesis.models.session import SessionRecord
from mnesis.recall.fence import format_time, quote
from mnesis.recall.grants import Grant
from mnesis.session.session import MnesisSession
from mnesis.store.base import Store
from mnesis.tokens.estimator import TokenCounter, TokenEstimator
from mnesis.tools.recall import RecallToolHandlers
from mnesis.validation import check_integer

DEFAULT_TOTAL_TOKENS = 200_000
DEFAULT_RESULT_TOKENS = 4_000
MAX_LIMIT = 50
MAX_PAGES = 20
"""The number of pages of hits that are read to find those within the scope."""
TITLE_CHARS = 80


@dataclass(frozen=True, slots=True)
class Scope:
    """The sessions that a client may use: those named, and those whose id begins with a prefix. Both empty: all."""

    session_ids: frozenset[str] = frozenset()
    prefix: str = ""

    def allows(self, session_id: str) -> bool:
        """Return whether a session is within the scope."""
        if session_id in self.session_ids or (self.prefix and session_id.startswith(self.prefix)):
            return True
        return not self.session_ids and not self.prefix


def default_grant() -> Grant:
    """Return the grant of a server: how many tokens its clients may read in total, and in one result."""
    return Grant(tokens=DEFAULT_TOTAL_TOKENS, result_tokens=DEFAULT_RESULT_TOKENS, depth=None)


@dataclass
class Memory:
    """The sessions of a database, as an MCP client sees them.

    Every result is quoted as a record of what was said, and counts against `grant`. A session outside `scope` does not
    exist for a client. `search_engine` keeps the search index up to date and writes nothing else. Only with
    `allows_recording` are turns written too.
    """

    engine: Engine
    scope: Scope = field(default_factory=Scope)
    grant: Grant = field(default_factory=default_grant)
    search_engine: Engine | None = None
    allows_recording: bool = False
    _count: TokenCounter | None = field(default=None, init=False)

    async def search(
        self, query: str, session_id: str | None = None, mode: SearchMode = "words", limit: int = 10
    ) -> str:
        """Return the messages that match a query, best first."""
        check_integer("limit", limit, minimum=1, maximum=MAX_LIMIT)
        available_tokens = self.grant.remaining("lcm_grep", query)
        if session_id is not None:
            await self.session(session_id)
        engine = self.search_engine or self.engine
        await engine.open()
        hits = [hit async for hit in self._hits(engine.store, query, session_id, mode, limit)]
        lines = [line for hit in hits for line in _hit_lines(hit)] or ["Nothing found."]
        return await self._finish("search", query, lines, available_tokens)

    async def _hits(
        self, store: Store, query: str, session_id: str | None, mode: SearchMode, limit: int
    ) -> AsyncIterator[SearchHit]:
        """Yield the hits within the scope, read in pages."""
        cursor: str | None = None
        yielded = 0
        for _ in range(MAX_PAGES):
            page = await store.search(Search(query, session_id, MAX_LIMIT, cursor, mode))
            for hit in page:
                if self.scope.allows(hit.session_id):
                    yield hit
                    yielded += 1
                    if yielded == limit:
                        return
            cursor = page.next_cursor
            if cursor is None:
                return

    async def grep(
        self,
        session_id: str,
        pattern: str,
        mode: str = "regex",
        summary_id: str | None = None,
        cursor: str | None = None,
    ) -> str:
        """Return the matches of a pattern in one session."""
        return await (await self._handlers(session_id)).grep(pattern, mode, summary_id, cursor)

    async def describe(self, session_id: str, id: str) -> str:
        """Describe the object with an id."""
        return await (await self._handlers(session_id)).describe(id)

    async def expand(self, session_id: str, id: str, cursor: str | None = None) -> str:
        """Return a page of the originals behind a summary, or of a message."""
        return await (await self._handlers(session_id)).expand(id, cursor)

    async def sessions(self, limit: int = 20, contains: str | None = None) -> str:
        """Return the newest sessions of the scope, one per line, with their titles."""
        check_integer("limit", limit, minimum=1, maximum=MAX_LIMIT)
        available_tokens = self.grant.remaining("lcm_describe", "sessions")
        lines: list[str] = []
        async for record in self._records():
            title = record.title or await self._first_words(record.id)
            if contains and contains.lower() not in f"{record.id} {title}".lower():
                continue
            lines.append(f"[{record.id} · {record.last_seq} messages · {format_time(record.updated_at)}] {title}")
            if len(lines) == limit:
                break
        return await self._finish("sessions", contains or "", lines or ["No sessions."], available_tokens)

    async def session(self, session_id: str) -> SessionRecord:
        """Return the record of a session. Raises `SessionNotFoundError` outside the scope too."""
        await self.engine.open()
        if not self.scope.allows(session_id):
            raise SessionNotFoundError(session_id)
        return await self.engine.store.session(session_id)

    async def session_facts(self, session_id: str) -> str:
        """Describe a session as JSON: numbers, and the ids of its summaries and newest messages."""
        record = await self.session(session_id)
        store = self.engine.store
        newest = await store.messages(session_id, after_seq=max(0, record.last_seq - MAX_LIMIT), limit=MAX_LIMIT)
        facts: dict[str, Any] = {
            "id": record.id,
            "title": record.title or await self._first_words(session_id),
            "agent": record.agent,
            "parent_id": record.parent_id,
            "messages": record.last_seq,
            "updated_at": record.updated_at,
            "summaries": [summary.id for summary in await store.summaries(session_id)],
            "newest_messages": [{"id": message.id, "seq": message.seq, "role": message.role} for message in newest],
        }
        return json.dumps(facts, ensure_ascii=False, indent=1)

    async def record(self, session_id: str, user_message: str, assistant_response: str) -> str:
        """Store a turn in a session of the scope, which is created if necessary."""
        if not self.allows_recording:
            raise ConfigurationError("this server is read-only; start it with --allow-record")
        if not self.scope.allows(session_id):
            raise ConfigurationError(f"session {session_id!r} is outside the scope of this server")
        async with MnesisSession.open(
            model=None, system_prompt="", session_id=session_id, engine=self.engine
        ) as session:
            result = await session.record(user_message, assistant_response)
        return f"Stored as {result.user_message_id} and {result.assistant_message_id} in session {session_id!r}."

    async def _records(self) -> AsyncIterator[SessionRecord]:
        await self.engine.open()
        cursor: str | None = None
        while True:
            page = await self.engine.store.sessions(cursor=cursor)
            for record in page.sessions:
                if self.scope.allows(record.id):
                    yield record
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _first_words(self, session_id: str) -> str:
        messages = await self.engine.store.messages(session_id, limit=1)
        words = " ".join(messages[0].text_content()[: TITLE_CHARS * 4].split()) if messages else ""
        return words[:TITLE_CHARS]

    async def _handlers(self, session_id: str) -> RecallToolHandlers:
        await self.session(session_id)
        return RecallToolHandlers(self.engine.store, session_id, await self._counter(), self.grant)

    async def _counter(self) -> TokenCounter:
        if self._count is None:
            count = TokenEstimator().estimate
            await to_thread.run_sync(count, "load the tables")
            self._count = count
        return self._count

    async def _finish(self, tool: str, target: str, lines: Sequence[str], available_tokens: int) -> str:
        """Quote as many lines as fit, and record the use."""
        count = await self._counter()
        kept: list[str] = []
        used_tokens = count(quote("From the log", []))
        for line in lines:
            used_tokens += count(line) + 1
            if used_tokens > available_tokens:
                kept.append("… The rest does not fit; ask for less.")
                break
            kept.append(line)
        text = quote("From the log", kept)
        self.grant.record_use(tool, target[:200], count(text))
        return text


def _hit_lines(hit: SearchHit) -> tuple[str, str]:
    under = f" · under {hit.summary_id}" if hit.summary_id else ""
    head = (
        f"session {hit.session_id} · {hit.message_id} · message {hit.seq} · {hit.role} · {format_time(hit.created_at)}"
    )
    return f"[{head}{under}]", hit.excerpt
