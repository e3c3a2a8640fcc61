"""The stored files a session refers to, and pages of their content."""

from __future__ import annotations

from dataclasses import dataclass

from mnesis.errors import FileError, MnesisError
from mnesis.files.paging import FilePage
from mnesis.files.storage import FileStorage
from mnesis.models.message import FileReference, FileRefPart
from mnesis.models.session import SessionRecord
from mnesis.recall.stored_files import file_references, find_stored_file, read_file_page
from mnesis.store.base import Store

MAX_FILES = 200
PAGE_CHARS = 20_000
PAGE_LINES = 1_000


@dataclass(frozen=True, slots=True)
class FileRow:
    """A stored file and the messages that refer to it."""

    part: FileRefPart
    references: tuple[FileReference, ...]


@dataclass(frozen=True, slots=True)
class FileList:
    """The files of a session and its parents, at most `MAX_FILES`; `total` counts all."""

    session: SessionRecord
    files: tuple[FileRow, ...]
    total: int


@dataclass(frozen=True, slots=True)
class FileView:
    """A page of a file. `page` is None if its content cannot be read; `problem` says why."""

    session: SessionRecord
    file: FileRow
    page: FilePage | None
    problem: str


async def read_files(store: Store, session_id: str) -> FileList:
    """Read which files a session refers to, in order of their first mention."""
    session = await store.session(session_id)
    by_id: dict[str, list[FileReference]] = {}
    for reference in await file_references(store, session_id):
        by_id.setdefault(reference.content_id, []).append(reference)
    rows = [await _row(store, references) for references in list(by_id.values())[:MAX_FILES]]
    return FileList(session, tuple(rows), len(by_id))


async def read_file(
    store: Store, storage: FileStorage, session_id: str, content_id: str, *, line: int | None, cursor: str | None
) -> FileView:
    """Read a page of a stored file. Raises `FileNotStoredError` if the session does not refer to it."""
    session = await store.session(session_id)
    references = [each for each in await file_references(store, session_id) if each.content_id == content_id]
    if not references:
        await find_stored_file(store, storage, session_id, content_id)
    row = await _row(store, references)
    try:
        stored = await find_stored_file(store, storage, session_id, content_id)
        page = await read_file_page(stored, line=line, cursor=cursor, max_chars=PAGE_CHARS, max_lines=PAGE_LINES)
    except (FileError, MnesisError) as error:
        return FileView(session, row, None, str(error))
    return FileView(session, row, page, "")


async def _row(store: Store, references: list[FileReference]) -> FileRow:
    first = references[0]
    message = await store.message(first.session_id, first.message_id)
    part = next(part for part in message.file_refs if part.content_id == first.content_id)
    return FileRow(part, tuple(references))
