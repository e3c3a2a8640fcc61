"""Which stored files a session may look into: those that it, or a session it was started by, refers to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread

from mnesis.errors import ConfigurationError, FileNotStoredError
from mnesis.files.grep import FileMatches, search_file
from mnesis.files.paging import FilePage, read_page
from mnesis.files.storage import FileStorage, StoredFile
from mnesis.models.message import FileReference, FileRefPart, Message
from mnesis.recall.regex import check_pattern, compiled
from mnesis.search.pagination import page_limit
from mnesis.store.base import Store

SHORTEST_ID_CHARS = 6


async def resolve_file(store: Store, session_id: str, file_id: str) -> str:
    """The id of a file that this session or one of its parents refers to; its beginning is enough where only one begins so.

    Raises `FileNotStoredError`, `ConfigurationError` for the beginning of several.
    """
    wanted = str(file_id).strip().lower().rstrip("…")
    found = {each.content_id for each in await references(store, session_id)}
    if wanted in found:
        return wanted
    fitting = sorted(each for each in found if len(wanted) >= SHORTEST_ID_CHARS and each.startswith(wanted))
    if len(fitting) > 1:
        raise ConfigurationError(
            f"{len(fitting)} files begin with {wanted!r}: {', '.join(fitting)}; give more of the id"
        )
    if not fitting:
        raise FileNotStoredError(str(file_id)[:80], where=f"the files session {session_id!r} refers to")
    return fitting[0]


async def references(store: Store, session_id: str) -> list[FileReference]:
    """The messages of a session and its parents that refer to stored files."""
    found: list[FileReference] = []
    seen: set[str] = set()
    waiting: str | None = session_id
    while waiting is not None and waiting not in seen:
        seen.add(waiting)
        found += await store.file_references(session_id=waiting)
        waiting = (await store.session(waiting)).parent_id
    return found


async def inherits_files(store: Store, parent_id: str | None) -> bool:
    """Whether the parent of a session, or a parent's parent, refers to stored files."""
    return parent_id is not None and bool(await references(store, parent_id))


async def find_reference(store: Store, session_id: str, file_id: str) -> tuple[Message, FileRefPart] | None:
    """The first message that refers to a file, and how; None if none does. Raises `ConfigurationError` as `resolve_file`."""
    try:
        content_id = await resolve_file(store, session_id, file_id)
    except FileNotStoredError:
        return None
    first = next(each for each in await references(store, session_id) if each.content_id == content_id)
    message = await store.message(first.session_id, first.message_id)
    return message, next(part for part in message.file_refs if part.content_id == content_id)


async def stored_file(store: Store, storage: FileStorage, session_id: str, content_id: str) -> StoredFile:
    """A stored file that the session or a parent refers to. Raises `FileNotStoredError`, `DamagedFileError`."""
    found = await resolve_file(store, session_id, content_id)
    return await to_thread.run_sync(storage.find, found, abandon_on_cancel=True)


async def file_page(stored: StoredFile, **bounds: Any) -> FilePage:
    """A page of a stored file; the bounds are those of `read_page`."""
    return await to_thread.run_sync(partial(read_page, stored, **bounds), abandon_on_cancel=True)


async def file_path(store: Store, storage: FileStorage, session_id: str, content_id: str) -> Path:
    """Where a stored file is, once it was read whole and found to be what was stored."""
    found = await resolve_file(store, session_id, content_id)
    return (await to_thread.run_sync(storage.verified, found, abandon_on_cancel=True)).path


SEARCH_SECONDS = 5.0

MATCHES = 50


async def searched(
    stored: StoredFile,
    pattern: str,
    *,
    ignore_case: bool = False,
    limit: int = MATCHES,
    cursor: str | None = None,
    timeout_seconds: float = SEARCH_SECONDS,
) -> FileMatches:
    """A page of the lines of a stored file that match, found off the event loop. Raises `ConfigurationError`."""
    check_pattern(pattern)
    if not 0 < timeout_seconds < float("inf"):
        raise ConfigurationError(f"timeout_seconds is a positive number of seconds, not {timeout_seconds!r}")
    find = await to_thread.run_sync(partial(compiled, pattern, ignore_case=ignore_case))
    search = partial(
        search_file,
        stored,
        find,
        asked=(pattern, ignore_case),
        limit=page_limit(limit),
        cursor=cursor,
        timeout_seconds=timeout_seconds,
    )
    return await to_thread.run_sync(search, abandon_on_cancel=True)
