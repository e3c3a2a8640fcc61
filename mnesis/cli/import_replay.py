"""An exported session lived through again on a store: messages appended, summaries committed, in the order they came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from mnesis.cli.export_format import message_from
from mnesis.errors import MnesisStoreError, SessionNotFoundError
from mnesis.models.context import Cover, Prune
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import Interruption, SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.store.base import Append, Compaction, Store

_SETTINGS = ("id", "model", "system_prompt", "agent", "title", "metadata", "created_at", "updated_at", "system_tokens")


@dataclass(frozen=True)
class Export:
    """What an export holds, as values. `hidden` are the spans that a summary, by id, leaves out."""

    session: SessionRecord
    messages: list[Message]
    summaries: list[Summary]
    hidden: dict[str, list[list[int]]]
    covers: list[Cover]
    prunes: list[Prune]
    turn_ends: list[int]
    compactions: list[CompactionResult]
    interruptions: list[Interruption]


def parsed_export(lines: dict[str, list[dict[str, Any]]], new_id: str | None) -> Export:
    """The values of an export's lines. Raises ValueError, TypeError or KeyError for what is none."""
    stored = dict(lines["session"][0]["value"])
    usage = TokenUsage.model_validate(stored.pop("usage"))
    session = SessionRecord(**stored, usage=usage)
    session = replace(session, id=new_id or session.id)
    messages = [message_from(line["value"], session.id) for line in lines["message"]]
    if [message.seq for message in messages] != list(range(1, session.last_seq + 1)):
        raise ValueError(f"{session.last_seq} messages should follow, {len(messages)} do, or not in their order")
    if lines["prune"] and not lines["compaction"]:
        raise ValueError("outputs were pruned, but no compaction did it")
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
    """One import under way: how far the log has come, and what covers stand. `on_append` hears of so many messages more."""

    store: Store
    export: Export
    on_append: Callable[[int], None] = lambda count: None
    _appended: int = field(default=0, init=False)
    _covers: tuple[Cover, ...] = field(default=(), init=False)
    _told_usage: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Everything, in order, or nothing. Raises what the store raises, and `MnesisStoreError` if the session is there
        already or another log came out."""
        session = self.export.session
        settings = {name: getattr(session, name) for name in _SETTINGS}
        fresh = SessionRecord(**settings, parent_id=await self._parent(), context_tokens=session.system_tokens)
        _, made = await self.store.create_session(fresh)
        if not made:
            raise MnesisStoreError(
                f"session {session.id!r} was made by somebody else just now; import it under another id"
            )
        try:
            await self._fill()
        except BaseException:  # also Ctrl-C: half a session is worse than none
            with suppress(MnesisStoreError):
                await self.store.purge(session.id)
            raise

    async def _fill(self) -> None:
        export, session = self.export, self.export.session
        for result, made in _sweeps(export):
            await self._append_until(self._reach(result, made))
            await self._compact(made, result, export.prunes if result is export.compactions[-1] else ())
        await self._append_until(session.last_seq)
        await self._settle()
        for interruption in export.interruptions:
            await self.store.interrupted(session.id, interruption)
        await self._verify()

    async def _parent(self) -> str | None:
        """The parent, where it is in this database too."""
        parent_id = self.export.session.parent_id
        if parent_id is None:
            return None
        try:
            return (await self.store.session(parent_id)).id
        except SessionNotFoundError:
            return None

    def _reach(self, result: CompactionResult, made: Sequence[Summary]) -> int:
        """How much of the log was there when a compaction ran: its turn, and what it summarised."""
        ends = self.export.turn_ends
        turn_end = ends[result.turn_index] if result.turn_index < len(ends) else 0
        return max([turn_end, *(summary.last_seq for summary in made)])

    async def _append_until(self, seq: int) -> None:
        ends = [end for end in self.export.turn_ends if self._appended < end <= seq]
        for end in [*ends, seq]:
            group = self.export.messages[self._appended : end]
            if group:
                report = None if self._told_usage else self._lifetime()
                append = Append(group, report=report, ends_turn=end in ends)
                await self.store.append(self.export.session.id, append)
                self._appended, self._told_usage = end, True
                self.on_append(len(group))

    def _lifetime(self) -> UsageReport:
        """The whole usage at once; an estimate does not touch the size of the context."""
        return UsageReport(self.export.session.usage, "estimate", self.export.session.cost)

    async def _compact(self, made: tuple[Summary, ...], result: CompactionResult, prunes: Sequence[Prune]) -> None:
        children = {child for summary in made for child in summary.child_ids}
        for summary in made:
            for first, last in () if summary.id in children else self.export.hidden[summary.id]:
                await self._hide(first, last)
        covers = self._covers
        for summary in made:
            covers = _covered(covers, summary)
        compaction = Compaction(self._covers, covers, made, tuple(prunes), result)
        await self.store.compact(self.export.session.id, compaction)
        self._covers = covers

    async def _hide(self, first: int, last: int) -> None:
        if any(cover.first_seq <= first and last <= cover.last_seq for cover in self._covers):
            return
        await self._append_until(last)
        await self.store.hide(self.export.session.id, first, last)
        self._covers = (await self.store.active_context(self.export.session.id)).covers

    async def _settle(self) -> None:
        """Spans taken out of view after the last compaction; and what stands now, should it have come about otherwise."""
        for cover in self.export.covers:
            if cover.summary_id is None:
                await self._hide(cover.first_seq, cover.last_seq)
        if set(self._covers) != set(self.export.covers):
            result = CompactionResult(session_id=self.export.session.id)
            covers = tuple(self.export.covers)
            await self.store.compact(self.export.session.id, Compaction(self._covers, covers, (), (), result))

    async def _verify(self) -> None:
        """Read the log back: every message must be what the export says."""
        after, page_size = 0, 500
        while page := await self.store.messages(self.export.session.id, after_seq=after, limit=page_size):
            if page != self.export.messages[after : after + len(page)]:
                raise MnesisStoreError(f"messages {after + 1} and following did not come back as exported")
            after = page[-1].seq


def _sweeps(export: Export) -> Iterator[tuple[CompactionResult, tuple[Summary, ...]]]:
    """Each compaction with the summaries it made.

    A result names only those that stood at its end; what was made before them, and by no earlier compaction, is theirs.
    """
    done, places = 0, {summary.id: place for place, summary in enumerate(export.summaries)}
    for result in export.compactions:
        end = max([done, *(places[name] + 1 for name in result.summary_ids)])
        yield result, tuple(export.summaries[done:end])
        done = end
    if done < len(export.summaries):
        raise ValueError("there are summaries that no compaction made")


def _covered(covers: tuple[Cover, ...], summary: Summary) -> tuple[Cover, ...]:
    """The covers once a summary stands: those inside its span give way."""
    outside = [c for c in covers if c.last_seq < summary.first_seq or summary.last_seq < c.first_seq]
    made = Cover(summary.first_seq, summary.last_seq, summary.id)
    return tuple(sorted([*outside, made], key=lambda cover: cover.first_seq))
