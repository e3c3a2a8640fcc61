"""Looking back: what a session has said, found and folded, and the files it refers to. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import SessionClosedError
from mnesis.events.bus import EventBus
from mnesis.files.grep import FileMatches
from mnesis.files.handler import LargeFileHandler
from mnesis.files.paging import MAX_CHARS, MAX_LINES, FilePage
from mnesis.models.context import Budget
from mnesis.models.dag import SummaryDag
from mnesis.models.message import Message, Role
from mnesis.models.results import (
    CompactionResult,
    Description,
    Expansion,
    TurnSnapshot,
)
from mnesis.models.search import GrepPage, Search, SearchMode, SearchPage
from mnesis.models.session import Interruption
from mnesis.models.summary import Summary
from mnesis.models.timeline import Timeline
from mnesis.models.tool import ToolSpec
from mnesis.models.usage import TokenUsage
from mnesis.recall import expand, stored_files
from mnesis.recall.grants import Grant
from mnesis.recall.grep import TIMEOUT_SECONDS, Grep, grep
from mnesis.recall.stored_files import searched
from mnesis.session.core import SessionCore
from mnesis.tools.files import file_tools
from mnesis.tools.recall import recall_tools


class Lookback:
    """The reading half of `MnesisSession`. Every method raises `SessionClosedError` once the session is closed."""

    _scope: SessionCore
    _closed: bool

    @property
    def id(self) -> str:
        """The session's name in its database."""
        return self._scope.session_id

    @property
    def model(self) -> str:
        """The model string."""
        return self._scope.model.model_id

    @property
    def system_prompt(self) -> str:
        return self._scope.state.system_prompt

    @property
    def agent(self) -> str:
        return self._scope.state.agent

    @property
    def parent_id(self) -> str | None:
        return self._scope.state.parent_id

    @property
    def config(self) -> MnesisConfig:
        return self._scope.config

    @property
    def engine(self) -> Engine:
        return self._scope.engine

    @property
    def budget(self) -> Budget:
        """The marks that drive compaction, in tokens."""
        return self._scope.budget

    @property
    def context_tokens(self) -> int:
        """The size of the context as far as known: what the provider reported, at least what was counted."""
        return self._scope.state.context_tokens

    @property
    def token_usage(self) -> TokenUsage:
        """Lifetime usage: the sum over all turns, also those before `load()`."""
        return self._scope.state.usage

    @property
    def cost(self) -> float:
        """Lifetime cost in US dollars, as far as the providers' prices are known."""
        return self._scope.state.cost

    @property
    def compaction_in_progress(self) -> bool:
        return self._scope.runtime.is_compacting

    @property
    def event_bus(self) -> EventBus:
        """This session's view of the engine's event bus."""
        return self._scope.bus

    @property
    def files(self) -> LargeFileHandler:
        """What takes in the files this session is given: its settings, its model's tokens, its client."""
        return self._scope.files

    async def messages(self, *, include_summaries: bool = False) -> list[Message]:
        """The log: every message, verbatim, in order.

        With `include_summaries` the summaries that stand in the context now are put in after the last message they
        stand for, as messages with `is_summary`.
        """
        found = [message async for message in self.iter_messages()]
        return await expand.with_summaries(self._scope.store, self.id, found) if include_summaries else found

    async def conversation_messages(self) -> list[Message]:
        """The log without any summaries."""
        return await self.messages()

    async def iter_messages(self, *, after_seq: int = 0, page: int = expand.PAGE) -> AsyncIterator[Message]:
        """The log, read `page` messages at a time; for logs that should not be in memory whole."""
        self._check_open()
        async for message in expand.every_message(self._scope.store, self.id, after_seq=after_seq, page=page):
            yield message

    async def message(self, message_id: str) -> Message:
        """One message of the log, whole. Raises `MessageNotFoundError`."""
        self._check_open()
        return await self._scope.store.message(self.id, message_id)

    def history(self) -> list[TurnSnapshot]:
        """A snapshot of the context after each turn, oldest first, from the beginning of the session."""
        self._check_open()
        return self._scope.store.turns(self.id)

    async def compactions(self) -> list[CompactionResult]:
        """Every compaction of this session, oldest first."""
        self._check_open()
        return await self._scope.store.compactions(self.id)

    async def interruptions(self) -> list[Interruption]:
        """Model calls that gave no answer, with what had arrived of it; never part of the log or of a request."""
        self._check_open()
        return await self._scope.store.interruptions(self.id)

    async def summaries(self) -> list[Summary]:
        """Every summary ever made, children before parents."""
        self._check_open()
        return await self._scope.store.summaries(self.id)

    async def dag(self) -> SummaryDag:
        """Every summary with those it was made of, and which stand in the context now; draws itself."""
        self._check_open()
        # Context first: a sweep in between adds summaries, and never takes one away.
        context = await self._scope.store.active_context(self.id)
        summaries = await self._scope.store.summaries(self.id)
        return SummaryDag.of(self.id, summaries, {cover.summary_id for cover in context.covers})

    async def timeline(self) -> Timeline:
        """The size of the context after each turn, compactions and thresholds; draws itself."""
        self._check_open()
        compactions = await self._scope.store.compactions(self.id)
        return Timeline.of(self.id, self._scope.store.turns(self.id), compactions, self.budget)

    async def search(
        self,
        query: str,
        limit: int = 10,
        *,
        cursor: str | None = None,
        mode: SearchMode = "words",
        role: Role | None = None,
        tool: str | None = None,
        after: int | None = None,
        before: int | None = None,
        summary_id: str | None = None,
        neighbours: int = 0,
    ) -> SearchPage:
        """Originals that a question asks for, best first; the page is a sequence of hits with a `next_cursor`.

        Folding never changes what is found. `mode` "substring" finds `query` as it stands, newest first. `role`, `tool`
        (its name), `after` and `before` (milliseconds since 1970) and `summary_id` (what stands behind it) narrow the
        search; `neighbours` brings so many messages on each side of a hit. Raises `ConfigurationError` for a limit below
        1 or a cursor of another search, `SummaryNotFoundError`.
        """
        self._check_open()
        wanted = Search(query, self.id, limit, cursor, mode, role, tool, after, before, summary_id)
        return await expand.with_neighbours(self._scope.store, await self._scope.store.search(wanted), neighbours)

    async def grep(
        self,
        pattern: str,
        summary_id: str | None = None,
        *,
        ignore_case: bool = False,
        limit: int = 50,
        cursor: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> GrepPage:
        """Every match of a regular expression in the log, in order, grouped by the summary that covers it now.

        Runs off the event loop. After `timeout_seconds` the page ends with what was found, `timed_out` set. Raises
        `ConfigurationError` for a pattern that cannot be read, `SummaryNotFoundError`.
        """
        self._check_open()
        wanted = Grep(pattern, summary_id, ignore_case, limit, cursor, timeout_seconds)
        return await grep(self._scope.store, self.id, wanted)

    def recall_tools(self, grant: Grant | None = None) -> list[ToolSpec]:
        """`lcm_grep`, `lcm_describe` and `lcm_expand` for this session, to hand to a model or a sub-agent of your own.

        `send()` offers them by itself. Without a grant they may bring back 8,000 tokens altogether.
        """
        self._check_open()
        return recall_tools(self._scope.store, self.id, self._scope.count, grant)

    def file_tools(self, grant: Grant | None = None) -> list[ToolSpec]:
        """`lcm_read_file` and `lcm_search_file` for the files this session and its parents refer to.

        `send()` offers them by itself. Without a grant they may bring back 8,000 tokens altogether.
        """
        self._check_open()
        return file_tools(self._scope.store, self._scope.files.storage, self.id, self._scope.count, grant)

    async def read_file(
        self,
        content_id: str,
        *,
        line: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        max_chars: int = MAX_CHARS,
        max_lines: int = MAX_LINES,
    ) -> FilePage:
        """A stretch of a stored file that this session or a parent refers to, from a line (from 1), a byte or a cursor on.

        `content_id` may be its beginning. Raises `FileNotStoredError`, `DamagedFileError`, `ConfigurationError` for a place
        that is not in the file.
        """
        self._check_open()
        stored = await stored_files.stored_file(self._scope.store, self._scope.files.storage, self.id, content_id)
        return await stored_files.file_page(
            stored, line=line, offset=offset, cursor=cursor, max_chars=max_chars, max_lines=max_lines
        )

    async def search_file(
        self,
        content_id: str,
        pattern: str,
        *,
        ignore_case: bool = False,
        limit: int = 50,
        cursor: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> FileMatches:
        """The lines of a stored file that match a regular expression, in order; runs off the event loop.

        After `timeout_seconds` the page ends with what was found, `timed_out` set. Raises as `read_file()`, and
        `ConfigurationError` for a pattern that cannot be read. `grep()` and `search()` do not look into stored files.
        """
        self._check_open()
        stored = await stored_files.stored_file(self._scope.store, self._scope.files.storage, self.id, content_id)
        return await searched(
            stored, pattern, ignore_case=ignore_case, limit=limit, cursor=cursor, timeout_seconds=timeout_seconds
        )

    async def file_path(self, content_id: str) -> Path:
        """Where the bytes of a stored file are, once they were read and found to be what was stored; not to be changed.

        Raises `FileNotStoredError`, `DamagedFileError`.
        """
        self._check_open()
        return await stored_files.file_path(self._scope.store, self._scope.files.storage, self.id, content_id)

    async def expand(
        self,
        summary_id: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        children: bool = False,
        max_tokens: int | None = None,
    ) -> Expansion:
        """The originals behind a summary, exact and in order, `limit` at a time; with `children` the summaries it was made
        of. The id of a message gives that message.

        `max_tokens` ends a page before it becomes larger; one message is always in it. Raises `SummaryNotFoundError`.
        """
        self._check_open()
        if children:
            return await expand.expand_children(self._scope.store, self.id, summary_id)
        return await expand.expand(
            self._scope.store, self.id, summary_id, cursor=cursor, limit=limit, max_tokens=max_tokens
        )

    async def describe(self, id: str) -> Description:
        """What an id names in this session: the session itself, a message, a summary or a file. Raises `NotFoundError`."""
        self._check_open()
        return await expand.describe(self._scope.store, self.id, id)

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosedError(self.id)
