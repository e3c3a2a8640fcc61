"""The engine: composition root. One store, one bus, one set of running work per database and process.

Everything that names the same database in one process shares these, whether through one `Engine` object or several; an
`Engine` object adds the configuration and the model client its sessions use.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any

from mnesis.concurrency import RunOnce
from mnesis.config import MnesisConfig
from mnesis.engine.registry import MEMORY, _acquire, _guard, _release
from mnesis.engine.session_state import SessionRuntime
from mnesis.errors import MnesisStoreError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import SessionDeletedPayload
from mnesis.llm.base import LLM
from mnesis.llm.resolve import resolve
from mnesis.models.message import Role
from mnesis.models.search import Search, SearchMode, SearchPage
from mnesis.store.base import SessionPage, Store


class Engine:
    """A database with its event bus and model client, for any number of sessions through any door.

    `db` is the path of the database (default: `config.store.db_path`); `":memory:"` keeps everything in memory, for this
    engine alone. `config` is the default of its sessions. `llm` is a model string, a function
    `messages -> str`, or an object with the two methods of `mnesis.llm.base.LLM`; by default sessions call their own model
    through litellm. Making an engine does no I/O; it opens at first use.
    """

    def __init__(
        self, db: str | os.PathLike[str] | None = None, *, config: MnesisConfig | None = None, llm: object | None = None
    ) -> None:
        self.config = config or MnesisConfig()
        self.llm: LLM = resolve(llm)
        self.has_own_llm = llm is not None
        self.path = _path_text(db, self.config)
        self._shared = _acquire(self.path, self.config.store)
        self._closed = False
        self._end = RunOnce(self._close)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def events(self) -> EventBus:
        """Everything that happens in this database in this process: all sessions, all doors."""
        return self._shared.bus

    @property
    def store(self) -> Store:
        """The store. `await engine.open()` before using it directly."""
        return self._shared.store

    @property
    def closed(self) -> bool:
        return self._closed

    async def open(self) -> Engine:
        """Open the database; repeated calls do nothing. Raises a `MnesisStoreError` if it cannot be used."""
        if self._closed:
            raise MnesisStoreError(f"this engine of {self.path} is closed; make another one")
        async with self._shared.lock:
            await self.store.open()
        return self

    async def close(self) -> None:
        """Wait for work of this engine, then release the database if nobody else uses it. Quiet when closed already."""
        self._closed = True
        await self._end.wait()

    async def _close(self) -> None:
        await self.finish()
        if _release(self._shared):
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

    async def sessions(
        self, *, limit: int = 100, cursor: str | None = None, parent_id: str | None = None
    ) -> SessionPage:
        """Sessions by last use, newest first, a page at a time."""
        await self.open()
        return await self.store.sessions(limit=limit, cursor=cursor, parent_id=parent_id)

    async def purge(self, session_id: str) -> None:
        """Erase a session and everything that belongs to it, for good. Raises `SessionNotFoundError` if it is unknown."""
        await self.open()
        await self.store.purge(session_id)
        self.events.for_session(session_id).publish(MnesisEvent.SESSION_DELETED, SessionDeletedPayload(session_id))

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
        after: int | None = None,
        before: int | None = None,
    ) -> SearchPage:
        """Originals that a question asks for, from every session, best first. See `MnesisSession.search`."""
        await self.open()
        wanted = Search(query, session_id, limit, cursor, mode, role, tool, after, before)
        return await self.store.search(wanted)

    async def reindex(self) -> None:
        """Make the search index anew, from the logs."""
        await self.open()
        await self.store.reindex()

    def runtime(self, session_id: str) -> SessionRuntime:
        """What all objects of one session in this process share."""
        with _guard:
            runtime = self._shared.runtimes.get(session_id)
            if runtime is None:
                runtime = self._shared.runtimes[session_id] = SessionRuntime()
            return runtime

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something beside its caller; it is held until done and awaited by `close()`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self) -> None:
        """Wait for what runs beside its callers in this loop."""
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        mine = [task for task in self._tasks if task.get_loop() is loop and task is not current]
        if mine:
            await asyncio.gather(*mine, return_exceptions=True)


def _path_text(db: str | os.PathLike[str] | None, config: MnesisConfig) -> str:
    path = os.fspath(db) if db is not None else str(config.store.db_path)
    return path if path == MEMORY else str(Path(path).expanduser())
