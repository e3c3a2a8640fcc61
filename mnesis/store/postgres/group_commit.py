"""Group commit: appends of different sessions that wait at the same time share one transaction.

A transaction costs more than most appends: BEGIN, COMMIT, the disk, a notification and two changes of threads. Such a
transaction waits for no other. It appends only to sessions that are as this store left them and that nobody else holds; the
other appends have a transaction of their own afterwards. If it fails, each of its appends has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mnesis.store.accounting import file_ids
from mnesis.store.awaited_writes import AwaitedWrite
from mnesis.store.base import Append, AppendResult
from mnesis.store.codec import EncodedMessage
from mnesis.store.postgres.stored_session import StoredSession
from mnesis.store.postgres.transaction import Answer, Transaction

MAX_GROUP_APPENDS = 32
"""Appends in one transaction at most, so that the first one does not wait long for the last one."""
MAX_SHARED_BYTES = 65_536
"""Larger appends have a transaction of their own, so that others do not wait until they are sent."""


class PendingAppend(AwaitedWrite):
    """An append that may share a transaction with those of other sessions. It belongs to the event loop that makes it.

    `append_alone` is its transaction. `send_append` sends its statement for a session as this store left it, and returns the
    answer, which is empty if the session is another one, and the result.
    """

    __slots__ = ("append_alone", "send_append", "session_id")

    def __init__(
        self,
        session_id: str,
        append_alone: Callable[[Transaction], AppendResult],
        send_append: Callable[[Transaction, StoredSession], tuple[Answer, AppendResult]],
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop.create_future(), loop)
        self.session_id, self.append_alone, self.send_append = session_id, append_alone, send_append


def may_share(append: Append, encoded: Sequence[EncodedMessage]) -> bool:
    """Return whether an append is small and needs nothing from the database but the accounts of its session."""
    return (
        append.fence is None
        and sum(len(message.parts) for message in encoded) <= MAX_SHARED_BYTES
        and not any(file_ids(message) for message in append.messages)
    )
