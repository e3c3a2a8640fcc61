"""Copy every session and map run from one store to another. Can be interrupted and repeated; each session is verified."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mnesis.cli.database_option import all_sessions
from mnesis.cli.export import export_lines
from mnesis.cli.import_replay import Replay, parse_export
from mnesis.errors import MnesisStoreError, RunNotFoundError, SessionNotFoundError
from mnesis.models.run import ItemOutcome, MapRun, RunItem, RunSpec
from mnesis.models.session import SessionRecord
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Store
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import encode_message, hash_of

PAGE_MESSAGES = 500
PAGE_ITEMS = 500
WORKER = "mnesis migrate"
LEASE_MS = 3_600_000


@dataclass
class CopyReport:
    """The counts of copied records, and of those that the target already had. `heads` has the head of each log, as
    `mnesis verify` prints it.
    """

    sessions: int = 0
    sessions_present: int = 0
    messages: int = 0
    runs: int = 0
    runs_present: int = 0
    heads: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionDigest:
    """Values that must be equal in two copies of a session: a hash over the log, and the counts and settings."""

    head: str
    last_seq: int
    details: tuple[Any, ...]


async def copy_database(
    source: Store, target: Store, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> CopyReport:
    """Copy the records that the target lacks, and verify those that it has. A session that an earlier attempt left
    incomplete is copied again.

    `on_progress` is called after each session with the number of finished sessions and the total.

    Raises `MnesisStoreError` if the target has another session or run with the same id; it is not changed.
    """
    report = CopyReport()
    sessions = [*_parents_first([session async for session in all_sessions(source)])]
    for number, session in enumerate(sessions, 1):
        digest = await _digest(source, session.id)
        if await _is_present(source, target, session, digest):
            report.sessions_present += 1
        else:
            await _copy_session(source, target, session, digest)
            report.sessions += 1
            report.messages += digest.last_seq
        report.heads[session.id] = digest.head if session.forked_from is None else await _head(target, session.id)
        on_progress(number, len(sessions))
    for run in reversed(await source.runs(limit=2**31 - 1)):
        if await _copy_run(source, target, run):
            report.runs += 1
        else:
            report.runs_present += 1
    return report


async def _head(store: Store, session_id: str) -> str:
    """Return the head of a fork, which begins with that of another log."""
    return (await store.verify(session_id=session_id)).heads[0].hash


def _parents_first(sessions: Iterable[SessionRecord]) -> list[SessionRecord]:
    """Order sessions by last use, oldest first, with each session after its parent and after its original."""
    waiting = {session.id: session for session in reversed(list(sessions))}
    ordered: list[SessionRecord] = []
    while waiting:
        ready = [
            session
            for session in waiting.values()
            if session.parent_id not in waiting and session.origin_id not in waiting
        ]
        ready = ready or list(waiting.values())[:1]  # in a cycle of parents, no session comes first
        ordered.extend(waiting.pop(session.id) for session in ready)
    return ordered


async def _is_present(source: Store, target: Store, session: SessionRecord, digest: SessionDigest) -> bool:
    """Return whether the target has the session. First erases an incomplete copy of an interrupted attempt."""
    try:
        found = await _digest(target, session.id)
    except SessionNotFoundError:
        return False
    if found == digest:
        return True
    is_same_session = (await target.session(session.id)).created_at == session.created_at
    is_shorter = found.last_seq <= digest.last_seq
    if is_same_session and is_shorter and await _is_beginning(source, target, session.id, found.last_seq):
        await _purge_with_forks(target, session.id)
        return False
    raise MnesisStoreError(
        f"{target.location} has another session {session.id!r}; it was not changed. Purge it there, or export this one and"
        " import it under another id"
    )


async def _purge_with_forks(store: Store, session_id: str) -> None:
    """Erase an incomplete copy, and its forks, which are copied after it."""
    for fork_id in await store.forks(session_id):
        with suppress(SessionNotFoundError):
            await _purge_with_forks(store, fork_id)
    await store.purge(session_id)


async def _is_beginning(source: Store, target: Store, session_id: str, last_seq: int) -> bool:
    pairs = zip(await _heads(source, session_id, last_seq), await _heads(target, session_id, last_seq), strict=False)
    return all(one == other for one, other in pairs)


async def _heads(store: Store, session_id: str, last_seq: int) -> list[bytes]:
    return [digest async for digest in _digests(store, session_id, last_seq)]


async def _copy_session(source: Store, target: Store, session: SessionRecord, digest: SessionDigest) -> None:
    lines: dict[str, list[dict[str, Any]]] = {
        kind: [] for kind in ("session", "message", "summary", "cover", "prune", "turn", "compaction", "interruption")
    }
    async for line in export_lines(source, session):
        lines[line["kind"]].append(line)
    await Replay(target, parse_export(lines, None)).run()
    for seq in sorted((await source.active_context(session.id)).pins):
        await target.pin(session.id, seq)
    if await _digest(target, session.id) != digest:
        await target.purge(session.id)
        raise MnesisStoreError(
            f"the copy of session {session.id!r} differs from the original and was erased; run `mnesis doctor` on"
            f" {source.location}, and repeat this when nothing writes to it"
        )


async def _digest(store: Store, session_id: str) -> SessionDigest:
    context = await store.active_context(session_id)
    session = context.session
    head = first_log_head(session_id)
    async for digest in _digests(store, session_id, session.last_seq):
        head = extend_chain(head, digest)
    details = (
        (session.model, session.system_prompt, session.agent, session.title, repr(session.metadata)),
        (session.created_at, session.turn_count, session.usage, round(session.cost, 9)),
        context.covers,
        tuple(sorted((prune.seq, prune.part_index, prune.tokens_saved) for prune in context.prunes.values())),
        context.pins,
        tuple((summary.id, summary.text, summary.child_ids) for summary in await store.summaries(session_id)),
        len(await store.interruptions(session_id)),
        await store.file_references(session_id=session_id),
    )
    return SessionDigest(head.hex(), session.last_seq, details)


async def _digests(store: Store, session_id: str, last_seq: int) -> AsyncIterator[bytes]:
    """Yield the hash of each message, from which the head of the log follows."""
    after = 0
    while page := await store.messages(session_id, after_seq=after, until_seq=last_seq, limit=PAGE_MESSAGES):
        for message in page:
            yield hash_of(session_id, message.seq, encode_message(message))
        after = page[-1].seq


async def _copy_run(source: Store, target: Store, run: MapRun) -> bool:
    """Copy a run. Items that a worker holds become pending. Returns whether anything was missing."""
    try:
        copied = await target.run(run.id)
        if copied.is_finished and (copied.done, copied.failed) == (run.done, run.failed):
            return False
    except RunNotFoundError:
        pass
    plan = await source.run_plan(run.id)
    await target.begin_run(RunSpec(run.id, run.kind, run.fingerprint, run.model, run.created_at, plan))
    async for items in _item_pages(source, run.id):
        await target.add_items(run.id, items[0].index, [item.input for item in items])
    if run.total is not None:
        await target.seal_run(run.id, run.total)
    await _copy_outcomes(source, target, run)
    after = await target.run(run.id)
    if (after.item_count, after.done, after.failed) != (run.item_count, run.done, run.failed):
        raise MnesisStoreError(
            f"the copy of run {run.id!r} has {after.done} results and {after.failed} failures, not {run.done} and"
            f" {run.failed}; purge it in {target.location} and repeat this when nothing works on the run"
        )
    return True


async def _copy_outcomes(source: Store, target: Store, run: MapRun) -> None:
    """Claim every item that is pending in the target, store the outcomes of the source, and release the others."""
    sums: tuple[TokenUsage, float] | None = (run.usage, run.cost)
    finished = {item.index: item async for items in _item_pages(source, run.id) for item in items if item.outcome}
    unfinished: list[int] = []
    # The lease ends at once, so that items of an interrupted attempt can be claimed again.
    while claimed := await target.claim_items(
        run.id, WORKER, limit=PAGE_ITEMS, now_ms=LEASE_MS, lease_ms=LEASE_MS, max_claims=2**31
    ):
        outcomes: list[ItemOutcome] = []
        for item in claimed:
            original = finished.get(item.index)
            if original is None or original.outcome is None or original.state not in ("done", "failed"):
                unfinished.append(item.index)
                continue
            # The target stores usage per run only, so the first outcome contains it.
            usage, cost = sums or (TokenUsage(), 0.0)
            sums = None
            outcomes.append(ItemOutcome(item.index, original.state, original.outcome, original.attempts, usage, cost))
        await target.finish_items(run.id, WORKER, outcomes)
    await target.release_items(run.id, WORKER, unfinished)


async def _item_pages(store: Store, run_id: str) -> AsyncIterator[list[RunItem]]:
    after = -1
    while items := await store.run_items(run_id, after_index=after, limit=PAGE_ITEMS):
        yield items
        after = items[-1].index
