"""Group commit: appends of different sessions that wait at the same time share one transaction.

A transaction costs more than most appends: BEGIN, COMMIT, the disk, a notification and two changes of threads. Such a
transaction does not wait for any other. It appends only to sessions that are unchanged since this store wrote them and
that no other transaction has locked. Each other append gets a separate transaction afterwards, and so does every append
if the shared transaction fails.
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
"""The largest number of appends in one transaction, so that the first one does not wait long for the last one."""
MAX_SHARED_BYTES = 65_536
"""Larger appends get a separate transaction, so that others do not wait until they are sent."""


class PendingAppend(AwaitedWrite):
    """An append that may share a transaction with those of other sessions. It belongs to the event loop that creates
    it.

    `append_alone` is its transaction. `send_append` sends its statement for a session that this store has written. It
    returns the answer, which is empty if the session has changed, and the result.
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
    """Return whether an append is small and needs only the accounts of its session from the database."""
    return (
        append.fence is None
        and sum(len(message.parts) for message in encoded) <= MAX_SHARED_BYTES
        and not any(file_ids(message) for message in append.messages)
    )
