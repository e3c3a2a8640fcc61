"""Which stored files a session may look into: those that it, or a session it was started by, refers to."""

from __future__ import annotations

from mnesis.errors import ConfigurationError, FileNotStoredError
from mnesis.models.context import FileReference
from mnesis.models.message import FileRefPart, Message
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
