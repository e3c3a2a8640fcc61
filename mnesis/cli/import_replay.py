"""Replay of an exported session on a store: messages are appended and summaries committed in their original order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from mnesis.cli.export_format import parse_message
from mnesis.errors import DuplicateIDError, MnesisStoreError, SessionNotFoundError
from mnesis.models.context import Cover, Prune
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import UNFINISHED, ForkPoint, Interruption, SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Compaction, Store
from mnesis.store.settings import parse_fork_point

_SETTINGS = ("id", "model", "system_prompt", "agent", "title", "metadata", "created_at", "updated_at", "system_tokens")


@dataclass(frozen=True)
class Export:
    """The values in an export. `hidden` are the spans that each summary, by id, does not cover."""

    session: SessionRecord
    messages: list[Message]
    summaries: list[Summary]
    hidden: dict[str, list[list[int]]]
    covers: list[Cover]
    prunes: list[Prune]
    turn_ends: list[int]
    compactions: list[CompactionResult]
    interruptions: list[Interruption]


def parse_export(lines: dict[str, list[dict[str, Any]]], new_id: str | None) -> Export:
    """Parse the lines of an export. Raises ValueError, TypeError or KeyError if they are not a valid export."""
    session_fields = dict(lines["session"][0]["value"])
    session_fields["forked_from"] = parse_fork_point(session_fields.get("forked_from"))
    usage = TokenUsage.model_validate(session_fields.pop("usage"))
    session = SessionRecord(**session_fields, usage=usage)
    session = replace(session, id=new_id or session.id)
    messages = [parse_message(line["value"], session.id) for line in lines["message"]]
    if [message.seq for message in messages] != list(range(1, session.last_seq + 1)):
        raise ValueError(
            f"{session.last_seq} messages in order were expected, but {len(messages)} follow, or not in order"
        )
    if lines["prune"] and not lines["compaction"] and session.forked_from is None:
        raise ValueError("there are pruned outputs, but no compaction")
    return Export(
        session=session,
        messages=messages,
        summaries=[Summary(**line["value"], session_id=session.id) for line in lines["summary"]],
        hidden={line["value"]["id"]: line["hidden"] for line in lines["summary"]},
        covers=[Cover(**line["value"]) for line in lines["cover"]],
        prunes=[Prune(**line["value"]) for line in lines["prune"]],
        turn_ends=[line["value"]["seq"] for line in lines["turn"]],
        compactions=[CompactionResult(**line["value"], session_id=session.id) for line in lines["compaction"]],
        interruptions=[Interruption(**line["value"]) for line in lines["interruption"]],
    )


@dataclass
class Replay:
    """One import in progress: the number of messages appended so far, and the current covers.

    A fork shares the messages up to `shared_seq` with a session of the store, and has the summaries `_shared_ids`.
    `on_append` is called with the number of messages after each append.
    """

    store: Store
    export: Export
    on_append: Callable[[int], None] = lambda count: None
    shared_seq: int = field(default=0, init=False)
    _shared_ids: frozenset[str] = field(default=frozenset(), init=False)
    _appended: int = field(default=0, init=False)
    _covers: tuple[Cover, ...] = field(default=(), init=False)
    _usage_stored: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Import everything in order, or nothing.

        Until all is stored, the metadata of the session says that it is unfinished, so that `ls`, `doctor` and the next
        import recognise what a killed process left. The next import of the same session deletes that and begins again.

        Raises `MnesisStoreError` if the session already exists or the stored log differs from the export, and the
        errors of the store.
        """
        session = self.export.session
        settings = {name: getattr(session, name) for name in _SETTINGS}
        settings["metadata"] = {**session.metadata, UNFINISHED: "import"}
        new_session = SessionRecord(
            **settings, parent_id=await self._find_parent(), context_tokens=session.system_tokens
        )
        created = await self._create(new_session)
        if not created and (await self.store.session(session.id)).unfinished == "import":
            await self.store.purge(session.id)
            created = await self._create(new_session)
        if not created:
            raise MnesisStoreError(
                f"session {session.id!r} was created by another process meanwhile; import it under another id"
            )
        try:
            await self._replay()
        except BaseException:  # also after Ctrl-C, because half a session is worse than none
            with suppress(MnesisStoreError):
                await self.store.purge(session.id)
            raise

    async def _create(self, new_session: SessionRecord) -> bool:
        """Create the session, as a fork if the messages that it shares are in the store. Returns whether it was created."""
        point = self.export.session.forked_from
        if point is None or not await self._has_shared_messages(point):
            _, created = await self.store.create_session(new_session)
            return created
        stored_ids = {summary.id for summary in await self.store.summaries(point.session_id)}
        shared_ids = frozenset(summary.id for summary in self.export.summaries if summary.id in stored_ids)
        try:
            _, created = await self.store.fork_session(
                point.session_id, new_session, last_seq=point.seq, summary_ids=shared_ids
            )
        except DuplicateIDError:
            return False
        if created:
            self.shared_seq = self._appended = point.seq
            self._shared_ids = shared_ids
        return created

    async def _has_shared_messages(self, point: ForkPoint) -> bool:
        """Return whether the session that a fork continues has the same messages."""
        after, page_size = 0, 500
        try:
            while after < point.seq:
                until = min(after + page_size, point.seq)
                page = await self.store.messages(point.session_id, after_seq=after, until_seq=until)
                own = [message.model_copy(update={"session_id": self.export.session.id}) for message in page]
                if not page or own != self.export.messages[after : after + len(page)]:
                    return False
                after = page[-1].seq
        except SessionNotFoundError:
            return False
        return (await self.store.session(point.session_id)).unfinished is None

    async def _replay(self) -> None:
        export, session = self.export, self.export.session
        steps = list(_compactions_with_summaries(export))
        for number, (result, summaries) in enumerate(steps, 1):
            await self._append_until(self._last_seq_seen(result, summaries))
            await self._compact(summaries, result, export.prunes if number == len(steps) else ())
        await self._append_until(session.last_seq)
        await self._restore_final_covers()
        for interruption in export.interruptions:
            await self.store.record_interruption(session.id, interruption)
        await self._verify()
        await self.store.update_session(session.id, metadata=session.metadata)

    async def _find_parent(self) -> str | None:
        """Return the id of the parent session, or None if it is not in this database."""
        parent_id = self.export.session.parent_id
        if parent_id is None:
            return None
        try:
            return (await self.store.session(parent_id)).id
        except SessionNotFoundError:
            return None

    def _last_seq_seen(self, result: CompactionResult, summaries: Sequence[Summary]) -> int:
        """Return the last seq of the log when a compaction ran: the end of its turn, or of the messages it
        summarised.
        """
        ends = self.export.turn_ends
        turn_end = ends[result.turn_index] if result.turn_index < len(ends) else 0
        return max([turn_end, *(summary.last_seq for summary in summaries)])

    async def _append_until(self, seq: int) -> None:
        ends = [end for end in self.export.turn_ends if self._appended < end <= seq]
        for end in [*ends, seq]:
            group = self.export.messages[self._appended : end]
            if group:
                report = None if self._usage_stored else self._lifetime_usage()
                append = Append(group, report=report, ends_turn=end in ends)
                await self.store.append(self.export.session.id, append)
                self._appended, self._usage_stored = end, True
                self.on_append(len(group))

    def _lifetime_usage(self) -> UsageReport:
        """Return the session's whole usage as one report. An estimate does not change the context size."""
        return UsageReport(self.export.session.usage, "estimate", self.export.session.cost)

    async def _compact(self, summaries: tuple[Summary, ...], result: CompactionResult, prunes: Sequence[Prune]) -> None:
        children = {child for summary in summaries for child in summary.child_ids}
        for summary in summaries:
            for first, last in () if summary.id in children else self.export.hidden[summary.id]:
                await self._hide(first, last)
        covers = self._covers
        for summary in summaries:
            covers = _add_cover(covers, summary)
        new = tuple(summary for summary in summaries if summary.id not in self._shared_ids)
        # The first append has the whole usage, unless a fork has added no messages.
        counts_spending = self.shared_seq == self.export.session.last_seq
        compaction = Compaction(self._covers, covers, new, tuple(prunes), result, counts_spending=counts_spending)
        await self.store.compact(self.export.session.id, compaction)
        self._covers = covers

    async def _hide(self, first: int, last: int) -> None:
        if any(cover.first_seq <= first and last <= cover.last_seq for cover in self._covers):
            return
        await self._append_until(last)
        await self.store.hide(self.export.session.id, first, last)
        self._covers = (await self.store.active_context(self.export.session.id)).covers

    async def _restore_final_covers(self) -> None:
        """Hide spans that were hidden after the last compaction, then set the covers if they still differ."""
        for cover in self.export.covers:
            if cover.summary_id is None:
                await self._hide(cover.first_seq, cover.last_seq)
        if set(self._covers) != set(self.export.covers):
            result = CompactionResult(session_id=self.export.session.id)
            covers = tuple(self.export.covers)
            await self.store.compact(self.export.session.id, Compaction(self._covers, covers, (), (), result))

    async def _verify(self) -> None:
        """Read the log back. Raises `MnesisStoreError` if a message differs from the export."""
        after, page_size = 0, 500
        while page := await self.store.messages(self.export.session.id, after_seq=after, limit=page_size):
            if page != self.export.messages[after : after + len(page)]:
                raise MnesisStoreError(f"messages from {after + 1} on differ from the export after they were stored")
            after = page[-1].seq


def _compactions_with_summaries(export: Export) -> Iterator[tuple[CompactionResult, tuple[Summary, ...]]]:
    """Yield each compaction with the summaries it created.

    A result lists only the summaries in the context at its end. Earlier summaries that belong to no earlier compaction are
    its own too.
    """
    consumed, positions = 0, {summary.id: place for place, summary in enumerate(export.summaries)}
    for result in export.compactions:
        end = max([consumed, *(positions[name] + 1 for name in result.summary_ids)])
        yield result, tuple(export.summaries[consumed:end])
        consumed = end
    is_incomplete = consumed < len(export.summaries) or (export.prunes and not export.compactions)
    if is_incomplete and export.session.forked_from is None:
        raise ValueError("there are summaries that no compaction created")
    if is_incomplete:  # the pruned outputs that a fork shares with its original
        yield CompactionResult(session_id=export.session.id), tuple(export.summaries[consumed:])


def _add_cover(covers: tuple[Cover, ...], summary: Summary) -> tuple[Cover, ...]:
    """Return the covers with a summary added. Covers inside its span are removed."""
    outside = [c for c in covers if c.last_seq < summary.first_seq or summary.last_seq < c.first_seq]
    new_cover = Cover(summary.first_seq, summary.last_seq, summary.id)
    return tuple(sorted([*outside, new_cover], key=lambda cover: cover.first_seq))
