"""Stored files that a session may read and search: those that it or one of its parent sessions refers to."""

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
from mnesis.models.page_sizes import GREP_TIMEOUT_SECONDS
from mnesis.recall.regex import check_pattern, compile_pattern
from mnesis.search.pagination import page_limit
from mnesis.store.base import Store

MIN_ID_PREFIX_CHARS = 6
DEFAULT_MATCH_LIMIT = 50


async def resolve_file_id(store: Store, session_id: str, file_id: str) -> str:
    """Return the full id of a file that this session or one of its parents refers to, given the id or a unique prefix.

    Raises `FileNotStoredError` if no file matches, and `ConfigurationError` if several do.
    """
    prefix = str(file_id).strip().lower().rstrip("…")
    known_ids = {each.content_id for each in await file_references(store, session_id)}
    if prefix in known_ids:
        return prefix
    matching_ids = sorted(each for each in known_ids if len(prefix) >= MIN_ID_PREFIX_CHARS and each.startswith(prefix))
    if len(matching_ids) > 1:
        raise ConfigurationError(
            f"{len(matching_ids)} files have ids that begin with {prefix!r}: {', '.join(matching_ids)}; pass more of the id"
        )
    if not matching_ids:
        raise FileNotStoredError(str(file_id)[:80], location=f"the files session {session_id!r} refers to")
    return matching_ids[0]


async def file_references(store: Store, session_id: str) -> list[FileReference]:
    """Return all references to stored files in a session and its parents."""
    references: list[FileReference] = []
    visited: set[str] = set()
    current_id: str | None = session_id
    while current_id is not None and current_id not in visited:
        visited.add(current_id)
        references += await store.file_references(session_id=current_id)
        current_id = (await store.session(current_id)).parent_id
    return references


async def inherits_files(store: Store, parent_id: str | None) -> bool:
    """Return whether the parent of a session, or one of its ancestors, refers to stored files."""
    return parent_id is not None and bool(await file_references(store, parent_id))


async def find_file_reference(store: Store, session_id: str, file_id: str) -> tuple[Message, FileRefPart] | None:
    """Return the first message that refers to a file, with the reference; None if there is none.

    Raises `ConfigurationError` if `file_id` is a prefix of several ids.
    """
    try:
        content_id = await resolve_file_id(store, session_id, file_id)
    except FileNotStoredError:
        return None
    first = next(each for each in await file_references(store, session_id) if each.content_id == content_id)
    message = await store.message(first.session_id, first.message_id)
    return message, next(part for part in message.file_refs if part.content_id == content_id)


async def find_stored_file(store: Store, storage: FileStorage, session_id: str, content_id: str) -> StoredFile:
    """Find a stored file that the session or one of its parents refers to.

    Raises `FileNotStoredError` or `DamagedFileError`.
    """
    file_id = await resolve_file_id(store, session_id, content_id)
    return await to_thread.run_sync(storage.find, file_id, abandon_on_cancel=True)


async def read_file_page(stored: StoredFile, **bounds: Any) -> FilePage:
    """Read a page of a stored file, off the event loop. `bounds` are the arguments of `read_page`."""
    return await to_thread.run_sync(partial(read_page, stored, **bounds), abandon_on_cancel=True)


async def verified_file_path(store: Store, storage: FileStorage, session_id: str, content_id: str) -> Path:
    """Verify the content of a stored file and return its path.

    Raises `FileNotStoredError` or `DamagedFileError`, and `ConfigurationError` if the file is encrypted.
    """
    file_id = await resolve_file_id(store, session_id, content_id)
    stored = await to_thread.run_sync(storage.find_verified, file_id, abandon_on_cancel=True)
    if stored.plain_path is None:
        raise ConfigurationError(f"the stored file {file_id} is encrypted on disk; read it with file_content()")
    return stored.plain_path


async def read_file_content(store: Store, storage: FileStorage, session_id: str, content_id: str) -> bytes:
    """Read all bytes of a stored file, checked against its hash. Raises `FileNotStoredError` or `DamagedFileError`."""
    file_id = await resolve_file_id(store, session_id, content_id)
    return await to_thread.run_sync(storage.read, file_id, abandon_on_cancel=True)


async def search_stored_file(
    stored: StoredFile,
    pattern: str,
    *,
    ignore_case: bool = False,
    limit: int = DEFAULT_MATCH_LIMIT,
    cursor: str | None = None,
    timeout_seconds: float = GREP_TIMEOUT_SECONDS,
) -> FileMatches:
    """Return a page of the matching lines of a stored file, searched off the event loop.

    Raises `ConfigurationError` for an invalid pattern, limit, time limit or cursor.
    """
    check_pattern(pattern)
    if not 0 < timeout_seconds < float("inf"):
        raise ConfigurationError(f"timeout_seconds must be a positive number, not {timeout_seconds!r}")
    find_matches = await to_thread.run_sync(partial(compile_pattern, pattern, ignore_case=ignore_case))
    search = partial(
        search_file,
        stored,
        find_matches,
        request=(pattern, ignore_case),
        limit=page_limit(limit),
        cursor=cursor,
        timeout_seconds=timeout_seconds,
    )
    return await to_thread.run_sync(search, abandon_on_cancel=True)
