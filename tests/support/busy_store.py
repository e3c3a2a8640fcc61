"""A store whose thread is kept busy."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable

from mnesis.store.sqlite import SqliteStore


async def hold(store: SqliteStore) -> Callable[[], None]:
    """Keep the store's thread busy until the function that is returned is called."""
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(30)

    task = asyncio.ensure_future(store.database.read(wait))
    await begun.wait()

    def release() -> None:
        go_on.set()
        task.cancel()

    return release
