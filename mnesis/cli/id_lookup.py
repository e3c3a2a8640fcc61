"""Lookup of sessions, summaries and messages by id or by a unique prefix of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

import click

from mnesis.cli.database_option import all_sessions
from mnesis.cli.output import clean_line
from mnesis.errors import MessageNotFoundError, NotFoundError, SessionNotFoundError

if TYPE_CHECKING:
    from mnesis.models.session import SessionRecord
    from mnesis.store.base import Store

MAX_CANDIDATES_SHOWN = 5
_PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class ItemRef:
    """A summary or message, and the session it belongs to."""

    session_id: str
    id: str
    kind: Literal["summary", "message"]


class UnknownSessionError(SessionNotFoundError):
    """No session has this id or begins with it. `similar_ids` are ids that the user may have meant."""

    def __init__(self, id: str, location: str | None, similar_ids: Sequence[str]) -> None:
        super().__init__(id, location=location)
        self.similar_ids = similar_ids

    def __str__(self) -> str:
        if not self.similar_ids:
            return f"{super().__str__()}; `mnesis ls` lists the sessions"
        return f"{super().__str__()}; did you mean {' or '.join(map(repr, self.similar_ids))}?"


def _similar_ids(text: str, ids: Sequence[str]) -> list[str]:
    """Return at most three ids that are like `text`, or contain it."""
    containing = [each for each in ids if len(text) > 2 and text.lower() in each.lower()]
    return [*containing, *(each for each in get_close_matches(text, ids, n=3) if each not in containing)][:3]


async def find_session(store: Store, text: str) -> SessionRecord:
    """Find the session with this id, or the only one whose id starts with `text`.

    Raises `SessionNotFoundError` if none matches, and `click.UsageError` listing candidates if several do.
    """
    try:
        return await store.session(text)
    except SessionNotFoundError:
        matches = [session async for session in all_sessions(store) if _is_prefix(session.id, text)]
        if not matches:
            ids = [session.id async for session in all_sessions(store)]
            raise UnknownSessionError(text, store.location, _similar_ids(text, ids)) from None
    if len(matches) > 1:
        raise _ambiguous_id_error(text, [session.id for session in matches])
    if matches[0].damage is not None:
        return await store.session(matches[0].id)  # raises an error that describes the damage
    return matches[0]


async def select_sessions(store: Store, session_id: str | None) -> list[SessionRecord]:
    """Return the session with this id or id prefix, or every session if `session_id` is None."""
    if session_id is None:
        return [session async for session in all_sessions(store)]
    return [await find_session(store, session_id)]


async def find_item(store: Store, text: str, sessions: Sequence[SessionRecord]) -> ItemRef:
    """Find the summary, or else the message, with this id or id prefix in any of `sessions`.

    Raises `NotFoundError` if none matches, and `click.UsageError` listing candidates if several do.
    """
    for find_candidates in (_summaries, _messages):
        candidates = [item for session in sessions async for item in find_candidates(store, session, text)]
        matches = [item for item in candidates if item.id == text] or candidates
        if len(matches) > 1:
            raise _ambiguous_id_error(text, [f"{item.id} of session {item.session_id}" for item in matches])
        if matches:
            return matches[0]
    location = f"session {sessions[0].id!r}" if len(sessions) == 1 else store.location
    raise NotFoundError(text, location=location)


async def find_message_seq(store: Store, session: SessionRecord, text: str) -> int:
    """Return the seq of a message, given that number, its id or a prefix of its id."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    candidates = [item async for item in _messages(store, session, text)]
    matches = [item for item in candidates if item.id == text] or candidates
    if len(matches) > 1:
        raise _ambiguous_id_error(text, [item.id for item in matches])
    if not matches:
        raise MessageNotFoundError(text, location=f"session {session.id!r}")
    return (await store.message(session.id, matches[0].id)).seq


async def _summaries(store: Store, session: SessionRecord, text: str) -> AsyncIterator[ItemRef]:
    for summary in await store.summaries(session.id):
        if _is_prefix(summary.id, text):
            yield ItemRef(session.id, summary.id, "summary")


async def _messages(store: Store, session: SessionRecord, text: str) -> AsyncIterator[ItemRef]:
    try:
        yield ItemRef(session.id, (await store.message(session.id, text)).id, "message")
        return
    except MessageNotFoundError:
        after = 0
    while page := await store.messages(session.id, after_seq=after, limit=_PAGE_SIZE):
        after = page[-1].seq
        for message in page:
            if _is_prefix(message.id, text):
                yield ItemRef(session.id, message.id, "message")


def _is_prefix(id: str, text: str) -> bool:
    """Return whether an id starts with `text`. An empty text matches nothing: it comes from an unset shell variable."""
    return bool(text) and id.startswith(text)


def _ambiguous_id_error(text: str, names: Sequence[str]) -> click.UsageError:
    listed = ", ".join(clean_line(name) for name in names[:MAX_CANDIDATES_SHOWN])
    more = f" and {len(names) - MAX_CANDIDATES_SHOWN} more" if len(names) > MAX_CANDIDATES_SHOWN else ""
    return click.UsageError(
        f"{clean_line(text)!r} matches {len(names)} ids: {listed}{more}; write more characters of the id, or give its session"
    )
