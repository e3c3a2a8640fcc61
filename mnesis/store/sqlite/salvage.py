"""Copying all that is intact from a damaged database to a new one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from mnesis.config import StoreConfig
from mnesis.errors import ConfigurationError, CorruptStoreError
from mnesis.models.message import Message
from mnesis.models.session import NO_MODEL, SessionRecord
from mnesis.store.base import Append
from mnesis.store.sqlite.salvage_reader import DamagedDatabase, ReadableSession, messages_of, read_damaged
from mnesis.store.sqlite.store import SqliteStore

BATCH_MESSAGES = 500
"""Messages that one transaction stores, unless a turn is longer."""
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SalvagedSession:
    """What was copied of a session. `gaps` are first and last seq, in the old log, of messages that were not."""

    session_id: str
    message_count: int
    gaps: tuple[tuple[int, int], ...]
    settings_are_intact: bool = True


@dataclass(frozen=True, slots=True)
class Salvage:
    """The result of a salvage. `lost_messages` belong to sessions whose name cannot be read."""

    path: str
    sessions: tuple[SalvagedSession, ...]
    lost_messages: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every message was copied, with the settings of its session."""
        return not self.lost_messages and all(not each.gaps and each.settings_are_intact for each in self.sessions)


async def salvage(
    source: Path, target: Path, report: Report | None = None, *, config: StoreConfig | None = None
) -> Salvage:
    """Copy every message whose hash is right to the new database `target`, in order, and list the gaps.

    Messages keep their ids and times and are numbered without gaps; each session notes in its metadata, under `salvage`,
    which of the old numbers are missing. Turns, interruptions, titles and settings are copied as far as they are readable;
    contexts begin without summaries, and usage and cost at zero. The source is not changed. If the process is killed, no
    `target` exists. `report` is called with the number of sessions done and of all. `config` says how long to wait for a
    process that holds the source, and has the key of an encrypted source, which the target is encrypted with too.

    Raises `ConfigurationError` if `target` exists, `EncryptionKeyError` if the key is missing or wrong, and
    `CorruptStoreError` if the source has no session that can be read.
    """
    _check_target(target)
    config = config or StoreConfig()
    unfinished = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with read_damaged(source, config.connection_timeout, config.read_encryption_key()) as database:
            store = SqliteStore(unfinished, StoreConfig(encryption_key=config.encryption_key))
            result = await _copy(database, source, store, target, report)
        unfinished.rename(target)
    except sqlite3.Error as error:
        raise CorruptStoreError(
            f"no session of {source} can be read: {error}; continue with your last backup", db_path=source
        ) from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                unfinished.with_name(unfinished.name + suffix).unlink()
    return result


def _check_target(target: Path) -> None:
    if os.path.lexists(target):
        raise ConfigurationError(f"{target} already exists, and a salvage never replaces a file; name a new file")
    if not target.absolute().parent.is_dir():
        raise ConfigurationError(f"the directory {target.parent} does not exist; create it first")


async def _copy(
    database: DamagedDatabase, source: Path, store: SqliteStore, target: Path, report: Report | None
) -> Salvage:
    sessions = database.sessions()
    if not sessions and not database.has_no_sessions():
        raise CorruptStoreError(
            f"{source} has no session that can be read; continue with your last backup", db_path=source
        )
    await store.open()
    try:
        salvaged = []
        for number, session in enumerate(sessions, 1):
            salvaged.append(await _copy_session(database, session, store))
            if report is not None:
                report(number, len(sessions))
    finally:
        await store.close()
    return Salvage(str(target), tuple(salvaged), database.count_lost_messages(sessions))


async def _copy_session(database: DamagedDatabase, session: ReadableSession, store: SqliteStore) -> SalvagedSession:
    gaps: list[tuple[int, int]] = []
    count, new_seqs = 0, {0: 0}
    await store.create_session(_record(session))
    for batch in _batches(database, session, gaps):
        messages = [message for _, message in batch]
        ends_turn = batch[-1][0] in session.turn_ends
        await store.append(session.id, Append(messages, ends_turn=ends_turn))
        count += len(messages)
        new_seqs.update({seq: count - len(messages) + place for place, (seq, _) in enumerate(batch, 1)})
    for interruption in session.interruptions:
        after_seq = new_seqs[max(seq for seq in new_seqs if seq <= interruption.after_seq)]
        await store.record_interruption(session.id, replace(interruption, after_seq=after_seq))
    if gaps or not session.settings_are_intact:
        metadata = session.settings.get("metadata")
        note = {"gaps": [list(gap) for gap in gaps], "settings_are_intact": session.settings_are_intact}
        known = metadata if isinstance(metadata, dict) else {}
        await store.update_session(session.id, metadata={**known, "salvage": note})
    return SalvagedSession(session.id, count, tuple(gaps), session.settings_are_intact)


def _batches(
    database: DamagedDatabase, session: ReadableSession, gaps: list[tuple[int, int]]
) -> Iterator[list[tuple[int, Message]]]:
    """Yield intact messages with their old seqs, divided where turns end. Adds the gaps between them to `gaps`."""
    batch: list[tuple[int, Message]] = []
    for seq, message in messages_of(database, session):
        if message is not None:
            batch.append((seq, message))
        elif gaps and gaps[-1][1] == seq - 1:
            gaps[-1] = (gaps[-1][0], seq)
        else:
            gaps.append((seq, seq))
        if batch and (seq in session.turn_ends or len(batch) >= BATCH_MESSAGES):
            yield batch
            batch = []
    if batch:
        yield batch


def _record(session: ReadableSession) -> SessionRecord:
    def text(name: str, default: str) -> str:
        value = session.settings.get(name)
        return value if isinstance(value, str) else default

    metadata = session.settings.get("metadata")
    return SessionRecord(
        id=session.id,
        model=text("model", NO_MODEL),
        system_prompt=text("system_prompt", ""),
        agent=text("agent", "default"),
        parent_id=session.parent_id,
        title=text("title", ""),
        metadata=metadata if isinstance(metadata, dict) else {},
        created_at=session.created_at,
        updated_at=session.created_at,
        system_tokens=session.system_tokens,
    )
