"""Copying all that is intact from a damaged database to a new one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnesis.config import StoreConfig
from mnesis.errors import ConfigurationError, CorruptStoreError, MnesisStoreError, StaleContextError
from mnesis.models.context import Cover
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import NO_MODEL, ForkPoint, SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.store.base import Append, Compaction
from mnesis.store.forks import clip_spans
from mnesis.store.sqlite.salvage_reader import DamagedDatabase, ReadableSession, messages_of, read_damaged
from mnesis.store.sqlite.salvage_records import RestoredContext, SalvagedRecords, read_records, restore_context
from mnesis.store.sqlite.salvage_runs import SalvagedRun, copy_runs
from mnesis.store.sqlite.store import SqliteStore
from mnesis.system.unfinished_files import remove_leftovers, unfinished_path

BATCH_MESSAGES = 500
"""The number of messages that one transaction stores, unless a turn is longer."""
Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SalvagedSession:
    """The result of copying a session. `gaps` are the first and last seqs, in the old log, of messages that were not
    copied.

    `lost_summaries` are the ids of summaries that are damaged or cover a message that was not copied. `damaged_records`
    are the kinds of records that were omitted: usage, covers, prunes, pins.
    """

    session_id: str
    message_count: int
    gaps: tuple[tuple[int, int], ...]
    settings_are_intact: bool = True
    summary_count: int = 0
    lost_summaries: tuple[str, ...] = ()
    damaged_records: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything was copied."""
        return self.settings_are_intact and not (self.gaps or self.lost_summaries or self.damaged_records)


@dataclass(frozen=True, slots=True)
class Salvage:
    """The result of a salvage. `lost_messages` belong to sessions whose name cannot be read."""

    path: str
    sessions: tuple[SalvagedSession, ...]
    runs: tuple[SalvagedRun, ...] = ()
    lost_messages: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every message and every other known record of sessions and runs was copied."""
        runs_are_complete = all(run.is_copied and not run.pending_items for run in self.runs)
        return not self.lost_messages and runs_are_complete and all(each.is_complete for each in self.sessions)


async def salvage(
    source: Path, target: Path, report: Report | None = None, *, config: StoreConfig | None = None
) -> Salvage:
    """Copy every message whose hash is right to the new database `target`, in order, and list the gaps.

    Messages keep their ids and times and are numbered without gaps; each session notes in its metadata, under
    `salvage`, which of the old numbers are missing. Turns, interruptions, titles and settings are copied if they are
    readable. Summaries, covers, prunes, pins, usage, cost and map runs are copied if their hashes are right. In the
    copy, all summaries belong to one compaction. References to stored files come with the messages. The source is not
    changed. If the process is killed, no `target` exists. `report` is called with the number of finished sessions and
    the total. `config` has the time to wait for a process that has locked the source, and the key of an encrypted
    source, with which the target is also encrypted.

    Raises `ConfigurationError` if `target` exists, `EncryptionKeyError` if the key is missing or wrong, and
    `CorruptStoreError` if the source has no session that can be read.
    """
    _check_target(target)
    config = config or StoreConfig()
    remove_leftovers(target.parent)
    unfinished = unfinished_path(target)
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
        copies: dict[str, _CopiedLog] = {}
        for number, session in enumerate(sessions, 1):  # a fork comes after the session that it continues
            salvaged.append(await _copy_session(database, session, store, copies))
            if report is not None:
                report(number, len(sessions))
        runs = await copy_runs(database, store)
    finally:
        await store.close()
    return Salvage(str(target), tuple(salvaged), runs, database.count_lost_messages(sessions))


@dataclass(frozen=True, slots=True)
class _CopiedLog:
    """The new seqs of the messages of a log, by their old ones, the gaps in the old log, and the summaries by id.

    `owners` are the sessions that store the messages, each with the first old seq of its messages, in order.
    """

    new_seqs: dict[int, int]
    gaps: list[tuple[int, int]]
    summaries: dict[str, Summary] = field(default_factory=dict)
    owners: tuple[tuple[int, str], ...] = ()

    def until(self, seq: int) -> _CopiedLog:
        """Return the messages that a fork at an old seq shares."""
        new_seqs = {old: new for old, new in self.new_seqs.items() if old <= seq}
        last_seq = len(new_seqs)
        summaries = {name: each for name, each in self.summaries.items() if each.last_seq <= last_seq}
        owners = tuple((first_seq, name) for first_seq, name in self.owners if first_seq <= seq)
        return _CopiedLog(new_seqs, clip_spans(self.gaps, seq), summaries, owners)

    def owner_of(self, seq: int) -> str | None:
        """Return the session that stores the message with an old seq."""
        return next((name for first_seq, name in reversed(self.owners) if first_seq <= seq), None)


async def _copy_session(
    database: DamagedDatabase, session: ReadableSession, store: SqliteStore, copies: dict[str, _CopiedLog]
) -> SalvagedSession:
    records = read_records(database, session)
    log = await _begin_log(session, store, copies, records.inherited_ids)
    copies[session.id] = log
    gaps, new_seqs, shared_count = log.gaps, log.new_seqs, len(log.new_seqs)
    report = None if records.usage is None else UsageReport(records.usage, "estimate", records.cost)
    for batch in _batches(database, session, gaps):
        messages = [message for _, message in batch]
        ends_turn = batch[-1][0] in session.turn_ends
        await store.append(session.id, Append(messages, report, ends_turn=ends_turn))
        report = None  # the first append has the usage of the whole session
        new_seqs.update({seq: len(new_seqs) + place for place, (seq, _) in enumerate(batch, 1)})
    context = await _copy_context(store, session.id, records, log)
    log.summaries.update(context.kept)
    for interruption in session.interruptions:
        after_seq = new_seqs.get(max((seq for seq in new_seqs if seq <= interruption.after_seq), default=0), 0)
        await store.record_interruption(session.id, replace(interruption, after_seq=after_seq))
    result = SalvagedSession(
        session.id,
        len(new_seqs) - shared_count,
        tuple(gaps),
        session.settings_are_intact,
        len(context.summaries),
        context.lost_summaries,
        tuple(records.damaged),
    )
    if not result.is_complete:
        await _note_gaps(store, session, result)
    return result


async def _copy_context(
    store: SqliteStore, session_id: str, records: SalvagedRecords, log: _CopiedLog
) -> RestoredContext:
    """Restore summaries, covers, prunes and pins. Returns the restored records."""
    new_seqs = log.new_seqs
    context = restore_context(records, new_seqs, log.summaries)
    for first_seq, last_seq in context.hidden:
        await store.hide(session_id, first_seq, last_seq)
    prunes = tuple(replace(prune, seq=new_seqs[prune.seq]) for prune in records.prunes if prune.seq in new_seqs)
    if context.roots or prunes:
        read_covers = (await store.active_context(session_id)).covers
        roots = [Cover(summary.first_seq, summary.last_seq, summary.id) for summary in context.roots]
        outside = [c for c in read_covers if not any(r.first_seq <= c.first_seq <= r.last_seq for r in roots)]
        covers = tuple(sorted([*outside, *roots], key=lambda cover: cover.first_seq))
        own_roots = tuple(root.id for root in context.roots if root.id not in records.inherited_ids)
        result = CompactionResult(session_id=session_id, summary_ids=own_roots)
        sweep = Compaction(read_covers, covers, context.summaries, prunes, result, counts_spending=False)
        try:
            await store.compact(session_id, sweep)
        except MnesisStoreError:  # the summaries contradict each other
            lost = (*context.lost_summaries, *(summary.id for summary in context.summaries))
            kept = {name: each for name, each in context.kept.items() if name in records.inherited_ids}
            context = replace(context, summaries=(), kept=kept, roots=(), lost_summaries=lost)
    for seq in records.pins:
        if seq in new_seqs:
            try:
                await store.pin(session_id, new_seqs[seq])
            except StaleContextError:
                records.damaged.append("pins")
    return context


async def _note_gaps(store: SqliteStore, session: ReadableSession, result: SalvagedSession) -> None:
    """Write the missing parts into the metadata of the copy."""
    metadata = session.settings.get("metadata")
    note = {
        "gaps": [list(gap) for gap in result.gaps],
        "settings_are_intact": result.settings_are_intact,
        "lost_summaries": list(result.lost_summaries),
        "damaged_records": list(result.damaged_records),
    }
    known = metadata if isinstance(metadata, dict) else {}
    await store.update_session(session.id, metadata={**known, "salvage": note})


async def _begin_log(
    session: ReadableSession, store: SqliteStore, copies: dict[str, _CopiedLog], inherited_ids: Collection[str]
) -> _CopiedLog:
    """Create a session, or a fork if the session that it continues was copied. Returns the messages that it shares."""
    point = session.forked_from
    if point is None or point.session_id not in copies:
        await store.create_session(_record(session))
        gaps = [(1, point.seq)] if point is not None and point.seq else []
        return _CopiedLog({}, gaps, owners=((1, session.id),))
    origin_id, shared = _find_origin(point, copies, inherited_ids)
    await store.fork_session(
        origin_id, _record(session), last_seq=len(shared.new_seqs), summary_ids=tuple(shared.summaries)
    )
    return replace(shared, owners=(*shared.owners, (point.seq + 1, session.id)))


def _find_origin(
    point: ForkPoint, copies: dict[str, _CopiedLog], inherited_ids: Collection[str]
) -> tuple[str, _CopiedLog]:
    """Return the session whose summaries a fork inherits, and the messages that it shares with the fork. Pure.

    `point` names the session that stores the message. The fork may come from a fork of that session, which has other
    summaries.
    """
    candidates = [
        point.session_id,
        *(name for name, log in copies.items() if log.owner_of(point.seq) == point.session_id),
    ]
    shared = {}
    for name in candidates:
        log = copies[name].until(point.seq)
        shared[name] = replace(
            log, summaries={key: each for key, each in log.summaries.items() if key in inherited_ids}
        )
    origin_id = max(shared, key=lambda name: len(shared[name].summaries))
    return origin_id, shared[origin_id]


def _batches(
    database: DamagedDatabase, session: ReadableSession, gaps: list[tuple[int, int]]
) -> Iterator[list[tuple[int, Message]]]:
    """Yield intact messages with their old seqs, divided where turns end. Adds the gaps between these to `gaps`."""
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
