"""The read-only half of `MnesisSession`: log, summaries, search, and stored files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mnesis.concurrency import import_in_thread
from mnesis.errors import SessionClosedError
from mnesis.late_types import declare_late_types
from mnesis.models.page_sizes import GREP_TIMEOUT_SECONDS, LOG_PAGE_MESSAGES, MAX_PAGE_CHARS, MAX_PAGE_LINES
from mnesis.telemetry.hooks import observe

if TYPE_CHECKING:
    from mnesis.config import MnesisConfig
    from mnesis.engine.engine import Engine
    from mnesis.events.bus import EventBus
    from mnesis.files.grep import FileMatches
    from mnesis.files.handler import LargeFileHandler
    from mnesis.files.paging import FilePage
    from mnesis.models.context import Budget
    from mnesis.models.dag import SummaryDag
    from mnesis.models.finding import Verification
    from mnesis.models.message import Message, Role
    from mnesis.models.results import CompactionResult, Description, Expansion, TurnSnapshot
    from mnesis.models.search import GrepPage, SearchMode, SearchPage
    from mnesis.models.session import ForkPoint, Interruption
    from mnesis.models.summary import Summary
    from mnesis.models.timeline import Timeline
    from mnesis.models.tool import ToolSpec
    from mnesis.models.usage import TokenUsage
    from mnesis.recall.grants import Grant
    from mnesis.search.time_parameters import TimeInput
    from mnesis.session.core import SessionCore
    from mnesis.store.base import OnDamage
else:
    declare_late_types(
        globals(),
        {
            "mnesis.config": "MnesisConfig",
            "mnesis.engine.engine": "Engine",
            "mnesis.events.bus": "EventBus",
            "mnesis.files.grep": "FileMatches",
            "mnesis.files.handler": "LargeFileHandler",
            "mnesis.files.paging": "FilePage",
            "mnesis.models.context": "Budget",
            "mnesis.models.dag": "SummaryDag",
            "mnesis.models.finding": "Verification",
            "mnesis.models.message": "Message Role",
            "mnesis.models.results": "CompactionResult Description Expansion TurnSnapshot",
            "mnesis.models.search": "GrepPage SearchMode SearchPage",
            "mnesis.models.session": "ForkPoint Interruption",
            "mnesis.models.summary": "Summary",
            "mnesis.models.timeline": "Timeline",
            "mnesis.models.tool": "ToolSpec",
            "mnesis.models.usage": "TokenUsage",
            "mnesis.recall.grants": "Grant",
            "mnesis.search.time_parameters": "TimeInput",
            "mnesis.session.core": "SessionCore",
            "mnesis.store.base": "OnDamage",
        },
    )


class SessionReader:
    """The read-only half of `MnesisSession`. After `close()` every method raises `SessionClosedError`."""

    _core: SessionCore
    _closed: bool

    @property
    def id(self) -> str:
        """The id of the session in its database."""
        return self._core.session_id

    @property
    def model(self) -> str:
        """The model string that this object was opened with."""
        return self._core.model.model_id

    @property
    def system_prompt(self) -> str:
        """The system prompt that this object was opened with."""
        return self._core.system_prompt

    @property
    def agent(self) -> str:
        """The name of the agent that the session belongs to."""
        return self._core.record.agent

    @property
    def parent_id(self) -> str | None:
        """The session whose sub-agent this session is, or None."""
        return self._core.record.parent_id

    @property
    def forked_from(self) -> ForkPoint | None:
        """The message at which the session continues another one, or None if it is not a fork."""
        return self._core.record.forked_from

    @property
    def config(self) -> MnesisConfig:
        """The configuration of this object."""
        return self._core.config

    @property
    def engine(self) -> Engine:
        """The engine whose database holds the session."""
        return self._core.engine

    @property
    def budget(self) -> Budget:
        """The limits and thresholds of the context, in tokens."""
        return self._core.budget

    @property
    def context_tokens(self) -> int:
        """The size of the context in tokens: the provider's report, or the estimate if that is larger."""
        return self._core.record.context_tokens

    @property
    def token_usage(self) -> TokenUsage:
        """Lifetime token usage: the sum over all turns and summaries, including those before `load()`."""
        return self._core.record.usage

    @property
    def cost(self) -> float:
        """Lifetime cost in US dollars, as far as prices are known."""
        return self._core.record.cost

    @property
    def compaction_in_progress(self) -> bool:
        """Whether a compaction of the session is running or about to start in this process."""
        return self._core.shared.is_compacting

    @property
    def event_bus(self) -> EventBus:
        """This session's view of the engine's event bus."""
        return self._core.bus

    @property
    def files(self) -> LargeFileHandler:
        """The handler that imports the files of this session."""
        return self._core.files

    async def messages(self, *, include_summaries: bool = False, on_damage: OnDamage = "raise") -> list[Message]:
        """Return the log: every message, verbatim, in order.

        A message that is missing or damaged raises `CorruptStoreError`. With `on_damage="mark"`, a message whose `damage` says
        why is in its place.

        `include_summaries` inserts each summary of the current context after the last message it replaces, as a message with
        `is_summary`.
        """
        from mnesis.recall import expand

        messages = [message async for message in self.iter_messages(on_damage=on_damage)]
        return await expand.insert_summaries(self._core.store, self.id, messages) if include_summaries else messages

    async def conversation_messages(self) -> list[Message]:
        """Return the log without summaries."""
        return await self.messages()

    async def iter_messages(
        self, *, after_seq: int = 0, page: int = LOG_PAGE_MESSAGES, on_damage: OnDamage = "raise"
    ) -> AsyncIterator[Message]:
        """Iterate over the log, reading `page` messages at a time, for logs that are too large for memory."""
        from mnesis.recall import expand

        self._check_open()
        messages = expand.read_log(self._core.store, self.id, after_seq=after_seq, page_size=page, on_damage=on_damage)
        async for message in messages:
            yield message

    async def message(self, message_id: str) -> Message:
        """Return a message of the log. Raises `MessageNotFoundError`."""
        self._check_open()
        return await self._core.store.message(self.id, message_id)

    async def verify(self, *, head: str | None = None) -> Verification:
        """Check every hash of the session, and return the head of its log and the findings.

        `head` is an earlier head. The head later proves that the messages it covers were not changed, removed or
        reordered.
        """
        self._check_open()
        heads = {self.id: head} if head is not None else None
        return await self._core.store.verify(session_id=self.id, heads=heads)

    def history(self) -> list[TurnSnapshot]:
        """Return a snapshot of the context after each turn, oldest first."""
        self._check_open()
        return self._core.store.turns(self.id)

    async def compactions(self) -> list[CompactionResult]:
        """Return every compaction of the session, oldest first."""
        self._check_open()
        return await self._core.store.compactions(self.id)

    async def interruptions(self) -> list[Interruption]:
        """Return the model calls that failed or were cancelled, with the partial reply. They are never sent to a model."""
        self._check_open()
        return await self._core.store.interruptions(self.id)

    async def summaries(self) -> list[Summary]:
        """Return every summary of the session, children before parents."""
        self._check_open()
        return await self._core.store.summaries(self.id)

    async def dag(self) -> SummaryDag:
        """Return the graph of all summaries, and which of them are in the context now. It displays itself."""
        from mnesis.models.dag import SummaryDag

        self._check_open()
        # The context is read first: a sweep in between adds summaries and never removes one.
        context = await self._core.store.active_context(self.id)
        summaries = await self._core.store.summaries(self.id)
        return SummaryDag.of(self.id, summaries, {cover.summary_id for cover in context.covers})

    async def timeline(self) -> Timeline:
        """Return the size of the context after each turn, with compactions and thresholds. It displays itself."""
        from anyio import to_thread

        from mnesis.models.timeline import Timeline

        self._check_open()
        compactions = await self._core.store.compactions(self.id)
        turns = await to_thread.run_sync(self._core.store.turns, self.id)
        return Timeline.of(self.id, turns, compactions, self.budget)

    async def search(
        self,
        query: str,
        limit: int = 10,
        *,
        cursor: str | None = None,
        mode: SearchMode = "words",
        role: Role | None = None,
        tool: str | None = None,
        after: TimeInput | None = None,
        before: TimeInput | None = None,
        when: TimeInput | None = None,
        now: datetime | int | None = None,
        summary_id: str | None = None,
        neighbours: int = 0,
    ) -> SearchPage:
        """Search the log for messages that answer a query in plain language, best match first.

        Compaction never changes the results. The page is a sequence of hits with a `next_cursor`. `mode="substring"` finds
        the exact text of `query`, newest first. `role`, `tool` (a tool name), `after`, `before` and `when` (times) and
        `summary_id` (the messages that a summary covers) filter the hits. `neighbours` is the number of messages to add on each
        side of a hit.

        A time is milliseconds since 1970, a datetime, an ISO date or an expression such as "last week" or "am Dienstagabend".
        Expressions, also those in the query, are relative to `now`: a datetime, whose time zone defines where days begin, or
        milliseconds, in UTC. None is the current time, or that of the first page.

        Raises `ConfigurationError` if `limit` is below 1 or `cursor` belongs to another search. Raises
        `SummaryNotFoundError`.

        ```python
        for hit in await session.search("Which port does the staging database use?"):
            print(hit.seq, hit.excerpt)
        ```
        """
        await import_in_thread("mnesis.search.time_parameters", "mnesis.recall.expand")
        from mnesis.models.search import Search
        from mnesis.recall import expand
        from mnesis.search.time_parameters import resolve_times

        self._check_open()
        times = resolve_times(after, before, when, now, cursor)
        request = Search(
            query, self.id, limit, cursor, mode, role, tool, times.after, times.before, summary_id, times.now
        )
        with observe("search", session_id=self.id, mode=mode, query=query) as observation:
            page = await self._core.store.search(request)
            observation.set(hits=len(page))
        return await expand.add_neighbours(self._core.store, page, neighbours)

    async def grep(
        self,
        pattern: str,
        summary_id: str | None = None,
        *,
        ignore_case: bool = False,
        limit: int = 50,
        cursor: str | None = None,
        timeout_seconds: float = GREP_TIMEOUT_SECONDS,
        after: TimeInput | None = None,
        before: TimeInput | None = None,
        when: TimeInput | None = None,
        now: datetime | int | None = None,
    ) -> GrepPage:
        """Find the matches of a regular expression in the log, in order, grouped by the summary that covers them.

        `after`, `before` and `when` are times, relative to `now`, as in `search()`. Runs in a thread. After `timeout_seconds` the page ends with the matches so far, and `timed_out` is set. Raises
        `ConfigurationError` if the pattern is invalid, and `SummaryNotFoundError`.
        """
        await import_in_thread("mnesis.recall.grep", "mnesis.search.time_parameters")
        from mnesis.recall.grep import GrepQuery, grep
        from mnesis.search.time_parameters import resolve_times

        self._check_open()
        times = resolve_times(after, before, when, now)
        request = GrepQuery(pattern, summary_id, ignore_case, limit, cursor, timeout_seconds, times.after, times.before)
        return await grep(self._core.store, self.id, request)

    def recall_tools(self, grant: Grant | None = None) -> list[ToolSpec]:
        """Return `lcm_grep`, `lcm_describe` and `lcm_expand` for this session, for your own model or sub-agent.

        `send()` offers them automatically. `grant` limits what they may return; None means 8,000 tokens in total.
        """
        from mnesis.tools.recall import recall_tools

        self._check_open()
        return recall_tools(self._core.store, self.id, self._core.count_tokens, grant)

    def file_tools(self, grant: Grant | None = None) -> list[ToolSpec]:
        """Return `lcm_read_file` and `lcm_search_file` for the files that this session and its parents refer to.

        `send()` offers them automatically. `grant` limits what they may return; None means 8,000 tokens in total.
        """
        from mnesis.tools.files import file_tools

        self._check_open()
        return file_tools(self._core.store, self._core.files.storage, self.id, self._core.count_tokens, grant)

    async def read_file(
        self,
        content_id: str,
        *,
        line: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        max_chars: int = MAX_PAGE_CHARS,
        max_lines: int = MAX_PAGE_LINES,
    ) -> FilePage:
        """Read a page of a stored file that this session or a parent refers to.

        The page starts at a `line` (from 1), a byte `offset` or a `cursor`. `content_id` may be abbreviated to a unique
        prefix. Raises `FileNotStoredError`, `DamagedFileError`, and `ConfigurationError` if the position is not in the file.
        """
        from mnesis.recall import stored_files

        self._check_open()
        stored = await stored_files.find_stored_file(self._core.store, self._core.files.storage, self.id, content_id)
        return await stored_files.read_file_page(
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
        timeout_seconds: float = GREP_TIMEOUT_SECONDS,
    ) -> FileMatches:
        """Find the lines of a stored file that match a regular expression, in order. Runs in a thread.

        After `timeout_seconds` the page ends with the matches so far, and `timed_out` is set. Raises the same errors as
        `read_file()`, and `ConfigurationError` if the pattern is invalid. `grep()` and `search()` do not search stored files.
        """
        from mnesis.recall import stored_files

        self._check_open()
        stored = await stored_files.find_stored_file(self._core.store, self._core.files.storage, self.id, content_id)
        return await stored_files.search_stored_file(
            stored, pattern, ignore_case=ignore_case, limit=limit, cursor=cursor, timeout_seconds=timeout_seconds
        )

    async def file_path(self, content_id: str) -> Path:
        """Return the path of a stored file, after checking that its content is intact. Do not change the file.

        Raises `FileNotStoredError` and `DamagedFileError`, and `ConfigurationError` if stored files are encrypted.
        """
        from mnesis.recall import stored_files

        self._check_open()
        return await stored_files.verified_file_path(self._core.store, self._core.files.storage, self.id, content_id)

    async def file_content(self, content_id: str) -> bytes:
        """Return all bytes of a stored file, checked against its hash. Raises `FileNotStoredError` and `DamagedFileError`."""
        from mnesis.recall import stored_files

        self._check_open()
        return await stored_files.read_file_content(self._core.store, self._core.files.storage, self.id, content_id)

    async def expand(
        self,
        summary_id: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        children: bool = False,
        max_tokens: int | None = None,
        after: TimeInput | None = None,
        before: TimeInput | None = None,
        when: TimeInput | None = None,
        now: datetime | int | None = None,
    ) -> Expansion:
        """Return the original messages that a summary covers, verbatim and in order, `limit` per page.

        `children` returns the summaries that the summary condenses instead. The id of a message returns that message.
        `max_tokens` limits the size of a page, which always contains at least one message. `after`, `before` and `when` are
        times, relative to `now`, as in `search()`: other messages are left out. Raises `SummaryNotFoundError`.
        """
        from mnesis.recall import expand
        from mnesis.search.time_parameters import resolve_times

        self._check_open()
        if children:
            return await expand.expand_children(self._core.store, self.id, summary_id)
        times = resolve_times(after, before, when, now)
        return await expand.expand(
            self._core.store, self.id, summary_id, cursor=cursor, limit=limit, max_tokens=max_tokens, times=times
        )

    async def describe(self, id: str) -> Description:
        """Describe what an id refers to: the session, a message, a summary or a file. Raises `NotFoundError`."""
        from mnesis.recall import expand

        self._check_open()
        return await expand.describe(self._core.store, self.id, id)

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosedError(self.id)
