"""Waiting for a notification. The connection is a stand-in, so that the order of events is certain."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, cast

import pytest

from mnesis.store.postgres.listener import ChangeListener


class SilentConnection:
    """A connection on which no notification arrives."""

    def __init__(self) -> None:
        self.sockets = socket.socketpair()
        self.pgconn = self

    def __enter__(self) -> SilentConnection:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.sockets:
            each.close()

    def execute(self, *_: object) -> None: ...

    def add_notify_handler(self, _: object) -> None: ...

    def fileno(self) -> int:
        return self.sockets[0].fileno()


async def test_a_cancellation_that_comes_with_a_notification_is_kept() -> None:
    may_connect = threading.Event()

    def connect() -> Any:
        may_connect.wait()
        return cast("Any", SilentConnection())

    listener = ChangeListener(connect, "changes", 1, lambda _: None)
    started = asyncio.create_task(asyncio.to_thread(listener.version))
    waiting = asyncio.create_task(listener.wait(0, 600))
    await asyncio.sleep(0)
    listening = threading.Thread(target=listener.version)
    may_connect.set()
    listening.start()
    listening.join()  # blocks the loop until the notification is in its queue
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await started == 1
    listener.stop()
