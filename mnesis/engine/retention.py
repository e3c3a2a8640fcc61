"""Purging by rule: plan what to erase, prove that nothing kept refers to it, and erase it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from anyio import to_thread

from mnesis.config import RetentionConfig, StoreConfig
from mnesis.errors import FileNotStoredError, MnesisError
from mnesis.files.storage import FileStorage
from mnesis.ids import now_ms
from mnesis.models.retention import PurgePlan, select_sessions
from mnesis.models.session import SessionRecord
from mnesis.redaction import get_logger
from mnesis.store.base import Store
from mnesis.store.sqlite import SqliteStore

logger = get_logger(__name__)

PAGE_SESSIONS = 500


async def plan_purge(store: Store, rule: RetentionConfig) -> PurgePlan:
    """Return the plan of what the rule would now erase. Changes nothing."""
    sessions = [session async for session in _all_sessions(store)]
    plan = select_sessions(sessions, rule, now_ms())
    if not rule.purge_files:
        return plan
    chosen_ids = {session.id for session in plan.sessions}
    file_ids: dict[str, None] = {}
    for session in plan.sessions:
        for reference in await store.file_references(session_id=session.id):
            file_ids[reference.content_id] = None
    return replace(plan, file_ids=tuple(await find_unused_files(store, file_ids, chosen_ids)))


async def find_unused_files(
    store: Store, content_ids: Iterable[str], without_sessions: Collection[str] = ()
) -> list[str]:
    """Return which of these files nothing in the database uses, outside `without_sessions`.

    Both the list of references and the messages must agree, because either may be damaged.
    """
    unused = [
        each
        for each in content_ids
        if all(reference.session_id in without_sessions for reference in await store.file_references(content_id=each))
    ]
    mentioned = await store.mentioned_files(unused, without_sessions=without_sessions) if unused else set()
    return [each for each in unused if each not in mentioned]


async def has_same_state(store: Store, session: SessionRecord) -> bool:
    """Return whether a session is unchanged since the plan was made, and has no new child or fork."""
    try:
        current = await store.session(session.id)
    except MnesisError:
        return False
    children = await store.sessions(parent_id=session.id, limit=1)
    forks = await store.forks(session.id)
    is_same = (current.created_at, current.updated_at, current.last_seq) == (
        session.created_at,
        session.updated_at,
        session.last_seq,
    )
    return is_same and not children.sessions and not forks


async def purge_files(store: Store, storage: FileStorage, content_ids: Iterable[str], config: StoreConfig) -> list[str]:
    """Delete stored files that nothing refers to any more, in this database or in another database that uses the
    storage.

    `config` has the key of encrypted databases.

    Returns the ids of the deleted files. If another database cannot be read, the files are kept.
    """
    purged: list[str] = []
    for content_id in await find_unused_files(store, content_ids):
        if await _is_used_elsewhere(store, storage, content_id, config):
            continue
        try:
            if await to_thread.run_sync(partial(storage.remove, content_id)):
                purged.append(content_id)
        except FileNotStoredError:  # an odd id in the log never named a stored file
            continue
    return purged


async def _all_sessions(store: Store) -> AsyncIterator[SessionRecord]:
    cursor: str | None = None
    while True:
        page = await store.sessions(limit=PAGE_SESSIONS, cursor=cursor)
        for session in page.sessions:
            yield session
        cursor = page.next_cursor
        if cursor is None:
            return


async def _is_used_elsewhere(store: Store, storage: FileStorage, content_id: str, config: StoreConfig) -> bool:
    """Return whether another database refers to a file, or may do so because it was moved or cannot be read."""
    for location in await to_thread.run_sync(storage.databases):
        if location == store.location:
            continue
        try:
            if await _read_references(location, content_id, config):
                return True
        except MnesisError as error:
            logger.warning(
                "the stored file %s stays, because the database %s may refer to it and cannot be read (%s); if it was deleted,"
                " delete %s",
                content_id,
                location,
                error,
                storage.note_address(location),
            )
            return True
    return False


async def _read_references(location: str, content_id: str, config: StoreConfig) -> bool:
    other = SqliteStore(StoreConfig(db_path=Path(location), read_only=True, encryption_key=config.encryption_key))
    try:
        await other.open()
        return not await find_unused_files(other, [content_id])
    finally:
        await other.close()
