"""The engine, the composition root: one store and one event bus per database and process.

All `Engine` objects of a process that use the same database share them. Each `Engine` has its own configuration and model
client for its sessions.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread

from mnesis.concurrency import RunOnce
from mnesis.config import ConfigOrDict, MnesisConfig, RetentionConfig, parse_config
from mnesis.engine.follow import POLL_SECONDS, ChangeStream, parse_cursor, stop_task
from mnesis.engine.fork_session import fork_session
from mnesis.engine.kept_windows import KeptWindows
from mnesis.engine.registry import IN_MEMORY, acquire_shared, identify_shared, release_shared
from mnesis.engine.session_state import SessionState
from mnesis.errors import ConfigurationError, MnesisError, MnesisStoreError, SessionNotFoundError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import SessionDeletedPayload
from mnesis.late_types import declare_late_types
from mnesis.llm.base import LLM
from mnesis.llm.resolve import resolve
from mnesis.models.message import Role
from mnesis.redaction import get_logger
from mnesis.store.base import OnIndexed, SessionPage, Store
from mnesis.store.embedding_store import embedding_store
from mnesis.store.heads import Heads
from mnesis.store.redacting import redacting_store
from mnesis.telemetry.hooks import observe

if TYPE_CHECKING:
    from mnesis.models.finding import Verification
    from mnesis.models.retention import PurgePlan
    from mnesis.models.search import SearchMode, SearchPage
    from mnesis.models.session import SessionRecord
    from mnesis.search.time_parameters import TimeInput
else:
    declare_late_types(
        globals(),
        {
            "mnesis.models.finding": "Verification",
            "mnesis.models.retention": "PurgePlan",
            "mnesis.models.search": "SearchMode SearchPage",
            "mnesis.models.session": "SessionRecord",
            "mnesis.search.time_parameters": "TimeInput",
        },
    )

logger = get_logger(__name__)

T = TypeVar("T")


class Engine:
    """A database with its event bus and model client, for any number of sessions through any API.

    `db` is the path of the database, by default `config.store.db_path`, `MNESIS_DB` or `~/.mnesis/sessions.db`. `":memory:"`
    keeps everything in memory, for this engine only. A URL, `"postgresql://user@host/name"`, is a PostgreSQL database, which
    several machines can use. `config` is the default configuration of its sessions. `llm` is a model string, a function
    `messages -> str` or an object with the two methods of `mnesis.llm.base.LLM`; by default each session calls its own model
    through litellm. Creating an engine does no I/O; the database is opened at the first use.

    `clock` returns the seconds since 1970. `clock` decides when a provider's cache has expired.

    With `follow=True`, `events` also publishes what other processes commit to the database, from `open()` on, or after the
    position `since`, which `cursor()` returned earlier. Each event is published once, in the order of the commits.

    ```python
    async with Engine("chat.db") as engine:
        session = await MnesisSession.create(model="openai/gpt-4o", engine=engine)
    ```
    """

    def __init__(
        self,
        db: str | os.PathLike[str] | None = None,
        *,
        config: ConfigOrDict | None = None,
        llm: object | None = None,
        follow: bool = False,
        since: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if since is not None:
            parse_cursor(since)
            if not follow:
                raise ConfigurationError(
                    "since= needs follow=True; to read changes once, iterate over engine.changes()"
                )
        self.config = parse_config(config) or MnesisConfig()
        self.clock = clock
        self.llm: LLM = resolve(llm)
        self.has_own_llm = llm is not None
        self.path = self.config.store.resolve_path(db)
        self.config.file.is_in_database(self.path)  # raises before anything is stored
        self._shared = acquire_shared(self.path, self.config.store)
        self._store = self._make_store()
        self.kept_windows = KeptWindows()
        self._identifying = threading.Lock()
        self._follows = follow
        self._since = since
        self._follower: asyncio.Task[None] | None = None
        self._has_joined = False
        self._closed = False
        self._has_applied_retention = False
        self._shutdown = RunOnce(self._close)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def events(self) -> EventBus:
        """The event bus of the database: events of all its sessions in this process, through any API."""
        return self._shared.bus

    @property
    def store(self) -> Store:
        """The store. Call `await engine.open()` before using it directly. With `MnesisConfig.redact`, it redacts writes."""
        return self._store

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    async def open(self) -> Engine:
        """Open the database. Does nothing if it is open. Raises a `MnesisStoreError` if it cannot be used."""
        if self._closed:
            raise MnesisStoreError(f"the engine of {self.path!r} is closed; create a new Engine")
        if not self._shared.is_identified:
            await to_thread.run_sync(self._identify)
        async with self._shared.lock:
            await self.store.open()
        if self._follows:
            await self._start_following()
        if self.config.retention.selects_sessions and not self._has_applied_retention:
            self._has_applied_retention = True
            if not self.config.store.read_only and self.path != IN_MEMORY:
                self.spawn(self._apply_retention())
        return self

    def _make_store(self) -> Store:
        store = redacting_store(self._shared.store, self.config.redaction)
        return embedding_store(store, self.config.recall.vectors, self.config.recall.vectors_name)

    def _identify(self) -> None:
        # In a thread, which completes even if the caller is cancelled, so that users are counted once.
        with self._identifying:
            if not self._shared.is_identified:
                self._shared = identify_shared(self._shared)
                self._store = self._make_store()

    async def close(self) -> None:
        """Wait for the background tasks of this engine, then close the database unless another engine uses it.

        Does nothing if already closed. Cancelling `close()` does not stop it.
        """
        self._closed = True
        await self._shutdown.wait()

    async def _start_following(self) -> None:
        if not self._has_joined:
            self._has_joined = True
            try:
                await self._shared.publisher.join(self._since)
            except BaseException:
                self._has_joined = False
                raise
        if self._follower is None or self._follower.done() or self._follower.get_loop().is_closed():
            self._follower = asyncio.get_running_loop().create_task(self._shared.publisher.run())

    async def _close(self) -> None:
        await stop_task(self._follower)
        if self._has_joined:
            await self._shared.publisher.leave()
        await self.wait_for_tasks()
        if release_shared(self._shared):
            async with self._shared.lock:
                await self.store.close()

    async def __aenter__(self) -> Engine:
        try:
            return await self.open()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def cursor(self) -> str:
        """Return a position for `since`: after the last published change if this engine follows, else after the newest."""
        await self.open()
        if self._has_joined and (cursor := self._shared.publisher.cursor) is not None:
            return cursor
        stream = self.changes()
        await stream.start()
        return stream.cursor

    def changes(self, *, since: str | None = None, poll_seconds: float = POLL_SECONDS) -> ChangeStream:
        """Return the changes of the database, those of this process included, as an async iterator that does not end.

        It begins after the position `since`, or now. Each item has `event`, `payload` and the `cursor` that continues after
        it. A purged session leaves no events but `session.deleted`. The engine must be open when the iteration begins.

        ```python
        async for change in engine.changes(since=saved_cursor):
            print(change.event, change.payload)
            saved_cursor = change.cursor
        ```
        """
        return ChangeStream(self.store, since, poll_seconds)

    async def sessions(
        self, *, limit: int = 100, cursor: str | None = None, parent_id: str | None = None
    ) -> SessionPage:
        """Return a page of sessions, the most recently used first. `parent_id` selects the children of a session."""
        await self.open()
        return await self.store.sessions(limit=limit, cursor=cursor, parent_id=parent_id)

    async def fork(
        self, session_id: str, *, at: str | None = None, before: str | None = None, new_id: str | None = None
    ) -> SessionRecord:
        """Create a session that continues another one from a message, over a shared log, and return its record.

        `at` is the id of the last message that the fork has, `before` that of the first message that it does not have; without
        both it has all messages. `new_id` is the id of the fork; None chooses one. See `MnesisSession.fork`.

        Raises `SessionNotFoundError`, `MessageNotFoundError`, `DuplicateIDError` if `new_id` belongs to another session, and
        `ConfigurationError` for both `at` and `before`, or while the session is being imported.
        """
        await self.open()
        return await fork_session(self.store, self.events, session_id, at=at, before=before, new_id=new_id)

    async def purge(self, session_id: str, *, with_forks: bool = False) -> None:
        """Delete a session and everything that belongs to it, for good.

        Forks need the messages that they share. `with_forks` also deletes all forks, and forks of forks. Without it,
        `SessionForkedError` names the forks and nothing is deleted. Raises `SessionNotFoundError` if the session is
        unknown.
        """
        await self.open()
        if with_forks:
            for fork_id in await self.store.forks(session_id):
                with suppress(SessionNotFoundError):  # already erased, as a fork of the previous one
                    await self.purge(fork_id, with_forks=True)
        await self.store.purge(session_id)
        self.events.for_session(session_id).publish(MnesisEvent.SESSION_DELETED, SessionDeletedPayload(session_id))

    async def plan_purge(self, rule: RetentionConfig | None = None) -> PurgePlan:
        """Return which sessions and files `apply_purge` would erase. Changes nothing.

        `rule` defaults to the retention of the configuration. The plan contains neither parents of kept sessions, nor
        sessions that a kept fork continues, nor files that a kept session refers to.
        """
        from mnesis.engine.retention import plan_purge

        await self.open()
        rule = self.config.retention if rule is None else rule
        if not rule.selects_sessions:
            raise ConfigurationError("the retention rule has no condition; set older_than_days, keep_last or match")
        return await plan_purge(self.store, rule)

    async def apply_purge(self, plan: PurgePlan) -> PurgePlan:
        """Erase the sessions and files of a plan, and return those that were erased.

        A session is kept if it was used, or got a sub-agent or a fork, after the plan was made. A file is erased only
        if no database that stores files in the same directory refers to it. The purge can be interrupted and repeated:
        sub-agents are erased before their parents, and files last.
        """
        from mnesis.engine.retention import has_same_state, purge_files
        from mnesis.models.retention import PurgePlan
        from mnesis.store.file_storage import open_file_storage

        await self.open()
        purged = []
        for session in plan.sessions:
            if await has_same_state(self.store, session):
                await self.purge(session.id)
                purged.append(session)
        store_config = self.config.store
        storage = open_file_storage(self.config.file, store_config, self.path)
        erased_files = await purge_files(self.store, storage, plan.file_ids, store_config)
        return PurgePlan(tuple(purged), plan.kept, tuple(erased_files))

    async def _apply_retention(self) -> None:
        """Erase the sessions that the configured retention rule selects. A failure is logged; the next start tries
        again.
        """
        try:
            purged = await self.apply_purge(await self.plan_purge())
        except MnesisError as error:
            logger.warning("the retention rule of %s was not applied: %s", self.path, error)
            return
        if purged.sessions:
            logger.info("%s: %d sessions were erased by the retention rule", self.path, len(purged.sessions))

    async def search(
        self,
        query: str,
        *,
        limit: int = 10,
        cursor: str | None = None,
        mode: SearchMode = "words",
        session_id: str | None = None,
        role: Role | None = None,
        tool: str | None = None,
        after: TimeInput | None = None,
        before: TimeInput | None = None,
        when: TimeInput | None = None,
        now: datetime | int | None = None,
        on_progress: OnIndexed | None = None,
    ) -> SearchPage:
        """Search the messages of every session, or of one, best match first. See `MnesisSession.search`.

        Messages that are not in the search index yet are added first. `on_progress(indexed, missing)` is called during
        that time, with numbers of messages.
        """
        from mnesis.models.search import Search
        from mnesis.search.time_parameters import resolve_times

        await self.open()
        times = resolve_times(after, before, when, now, cursor)
        request = Search(query, session_id, limit, cursor, mode, role, tool, times.after, times.before, now=times.now)
        with observe("search", session_id=session_id, mode=mode, query=query) as observation:
            page = await self.store.search(request, on_progress)
            observation.set(hits=len(page))
            return page

    async def verify(self, *, heads: Heads | None = None) -> Verification:
        """Check every hash of the database, and return the head of each session's log and the findings.

        `heads` are earlier heads by session. They prove that the messages they cover were not changed, removed or reordered
        since. With `StoreConfig.integrity_key`, the seals prove that nobody without the key changed anything.
        """
        await self.open()
        return await self.store.verify(heads=heads)

    async def reindex(self, on_progress: OnIndexed | None = None) -> None:
        """Rebuild the search index from the logs. `on_progress(indexed, missing)` is called meanwhile."""
        await self.open()
        await self.store.reindex(on_progress)

    def session_state(self, session_id: str) -> SessionState:
        """Return the state that all objects of a session in this process share."""
        return self._shared.session_state(session_id)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in the background. `close()` waits for it."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait_for_tasks(self) -> None:
        """Wait for the background tasks of this engine that run in the current event loop."""
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        tasks = [task for task in self._tasks if task.get_loop() is loop and task is not current]
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
