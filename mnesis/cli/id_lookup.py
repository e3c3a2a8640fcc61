"""Ids as people type them: whole, or their beginning where it is unique."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from mnesis.cli.database_option import all_sessions
from mnesis.cli.output import clean
from mnesis.errors import MessageNotFoundError, NotFoundError, SessionNotFoundError

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

CANDIDATES_SHOWN = 5
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Found:
    """A summary or message, and the session it belongs to."""

    session_id: str
    id: str
    kind: Literal["summary", "message"]


async def find_session(store: Store, text: str) -> SessionRecord:
    """The session of this id, or the only one whose id begins so.

    Raises `SessionNotFoundError`, and `click.UsageError` naming candidates where several begin so.
    """
    try:
        return await store.session(text)
    except SessionNotFoundError:
        matches = [session async for session in all_sessions(store) if _begins(session.id, text)]
        if not matches:
            raise
    if len(matches) > 1:
        raise _ambiguous(text, [session.id for session in matches])
    return matches[0]


async def chosen_sessions(store: Store, session_id: str | None) -> list[SessionRecord]:
    """The session that an id or the start of one names, or every session if None."""
    if session_id is None:
        return [session async for session in all_sessions(store)]
    return [await find_session(store, session_id)]


async def find_item(store: Store, text: str, sessions: Sequence[SessionRecord]) -> Found:
    """The summary, else the message, of this id or the only one whose id begins so, in any of `sessions`.

    Raises `NotFoundError`, and `click.UsageError` naming candidates.
    """
    for look in (_summaries, _messages):
        begun = [found for session in sessions async for found in look(store, session, text)]
        matches = [found for found in begun if found.id == text] or begun
        if len(matches) > 1:
            raise _ambiguous(text, [f"{found.id} of session {found.session_id}" for found in matches])
        if matches:
            return matches[0]
    where = f"session {sessions[0].id!r}" if len(sessions) == 1 else store.location
    raise NotFoundError(text, where=where)


async def find_message_seq(store: Store, session: SessionRecord, text: str) -> int:
    """The place of a message, given by that number, by its id or by the beginning of its id."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    begun = [found async for found in _messages(store, session, text)]
    matches = [found for found in begun if found.id == text] or begun
    if len(matches) > 1:
        raise _ambiguous(text, [found.id for found in matches])
    if not matches:
        raise MessageNotFoundError(text, where=f"session {session.id!r}")
    return (await store.message(session.id, matches[0].id)).seq


async def _summaries(store: Store, session: SessionRecord, text: str) -> AsyncIterator[Found]:
    for summary in await store.summaries(session.id):
        if _begins(summary.id, text):
            yield Found(session.id, summary.id, "summary")


async def _messages(store: Store, session: SessionRecord, text: str) -> AsyncIterator[Found]:
    try:
        yield Found(session.id, (await store.message(session.id, text)).id, "message")
        return
    except MessageNotFoundError:
        after = 0
    while page := await store.messages(session.id, after_seq=after, limit=_PAGE):
        after = page[-1].seq
        for message in page:
            if _begins(message.id, text):
                yield Found(session.id, message.id, "message")


def _begins(id: str, text: str) -> bool:
    """Whether `text` is the beginning of an id. An empty one begins none: it comes from a variable that is not set."""
    return bool(text) and id.startswith(text)


def _ambiguous(text: str, names: Sequence[str]) -> click.UsageError:
    shown = ", ".join(clean(name) for name in names[:CANDIDATES_SHOWN])
    more = f" and {len(names) - CANDIDATES_SHOWN} more" if len(names) > CANDIDATES_SHOWN else ""
    return click.UsageError(
        f"{clean(text)!r} begins {len(names)} ids: {shown}{more}; write more of the one you mean, or name its session"
    )
