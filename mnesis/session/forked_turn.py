"""The first turn of a fork, and the lookup of the user message that it answers again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from mnesis.errors import NothingToRetryError
from mnesis.late_types import declare_late_types

if TYPE_CHECKING:
    from mnesis.models.results import TurnResult
    from mnesis.store.base import Store
else:
    declare_late_types(globals(), {"mnesis.models.results": "TurnResult", "mnesis.store.base": "Store"})

S = TypeVar("S")

PAGE_MESSAGES = 50


class ForkedTurn(NamedTuple, Generic[S]):
    """A fork, which the caller closes, and the result of its first turn."""

    session: S
    result: TurnResult


async def find_question(store: Store, session_id: str, message_id: str | None) -> str:
    """Return the id of the newest user message at or before a message; None is the end of the log.

    Raises `MessageNotFoundError`, and `NothingToRetryError` if there is no user message.
    """
    if message_id is None:
        until_seq = (await store.session(session_id)).last_seq
    else:
        until_seq = (await store.message(session_id, message_id)).seq
    while until_seq > 0:
        after_seq = max(until_seq - PAGE_MESSAGES, 0)
        for message in reversed(await store.messages(session_id, after_seq=after_seq, until_seq=until_seq)):
            if message.role == "user":
                return message.id
        until_seq = after_seq
    raise NothingToRetryError(f"session {session_id!r} has no user message there that could be answered again")
