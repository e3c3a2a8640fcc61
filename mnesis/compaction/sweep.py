"""One sweep: read the active context, plan, write summaries, commit everything at once.

The summaries are written outside any transaction; the commit compares what was read with what stands then, so another
sweep that came first wins and this one reads again. A crash anywhere before the commit leaves the context as it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mnesis.compaction.extract import Passage
from mnesis.compaction.fold import Run, chunks
from mnesis.compaction.plan import SweepPlan, Trigger, plan_sweep
from mnesis.compaction.pointers import digs
from mnesis.compaction.summarize import Count, Draft, Order, Writer, summarise
from mnesis.compaction.transcript import file_ids, passages, plain_text
from mnesis.config import CompactionConfig
from mnesis.context.markers import summary_text
from mnesis.errors import StaleContextError
from mnesis.ids import now_ms, short_id
from mnesis.models.context import ActiveContext, Budget, Cover
from mnesis.models.message import Message
from mnesis.models.results import CompactionAttempt, CompactionResult
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.base import Compaction, Store

logger = logging.getLogger(__name__)


CHUNK_TOKENS = 40_000
SUMMARY_RATIO = 6
CONDENSED_RATIO = 3
SMALLEST_SUMMARY_TOKENS = 48
FAN_IN = 4
# Pointers into the originals are left out where a summary would hardly be shorter than what it stands for.
WORTH_POINTING = 0.6
STALE_RETRIES = 5


@dataclass
class _Slot:
    """A summary that stands, or is going to stand, in the active context. `made` marks those of this sweep.

    `inner` marks a leaf that is as long as what it stands for: it may only become the child of another summary.
    """

    summary: Summary
    made: bool = False
    inner: bool = False


class Swept(NamedTuple):
    """What a sweep did, the session's state after it, and, if it did anything, what it had read and what it committed."""

    result: CompactionResult
    session: SessionRecord
    change: tuple[ActiveContext, Compaction] | None = None


@dataclass
class Sweep:
    """One compaction of one session. `writer` None: level 3 only."""

    store: Store
    session_id: str
    budget: Budget
    config: CompactionConfig
    count: Count
    writer: Writer | None
    trigger: Trigger
    attempts: list[CompactionAttempt] = field(default_factory=list)

    async def run(self, on_start: Callable[[int], None] | None = None) -> Swept:
        """Do it; `on_start` is called with the context's size once it is clear that there is something to do."""
        started = time.monotonic()
        for _ in range(STALE_RETRIES):
            context = await self.store.active_context(self.session_id)
            plan = plan_sweep(context, self.budget, self.config, self.count, self.trigger)
            if not plan:
                return Swept(self._nothing(context), context.session)
            if on_start is not None:
                on_start(context.session.context_tokens)
                on_start = None
            compaction = await self._prepare(context, plan, started)
            if compaction is None:
                return Swept(self._nothing(context), context.session)
            try:
                session = await self.store.compact(self.session_id, compaction)
            except StaleContextError:
                logger.info("session %s: another compaction came first, reading again", self.session_id)
                continue
            return Swept(self._stored(compaction.result, session), session, (context, compaction))
        raise StaleContextError(
            f"session {self.session_id!r}: {STALE_RETRIES} compactions in a row found their span changed by other writers"
        )

    def _nothing(self, context: ActiveContext) -> CompactionResult:
        tokens = context.session.context_tokens
        return CompactionResult(
            session_id=self.session_id,
            tokens_before=tokens,
            tokens_after=tokens,
            trigger=self.trigger,
            attempts=tuple(self.attempts),
        )

    @staticmethod
    def _stored(result: CompactionResult, session: SessionRecord) -> CompactionResult:
        return result.model_copy(
            update={"tokens_after": session.context_tokens, "turn_index": max(session.turn_count - 1, 0)}
        )

    async def _prepare(self, context: ActiveContext, plan: SweepPlan, started: float) -> Compaction | None:
        slots = [_Slot(item) for item in context.items if isinstance(item, Summary)]
        made: list[Summary] = []
        folded: set[int] = set()
        for run in plan.fold.runs:
            for chunk in chunks(run, context.prunes, self._chunk_tokens()):
                leaf = await self._leaf(chunk, slots)
                if leaf is not None:
                    slots.append(leaf)
                    made.append(leaf.summary)
                    folded.update(message.seq for message in chunk.messages)
        slots.sort(key=lambda slot: slot.summary.first_seq)
        raw = [item.seq for item in context.items if isinstance(item, Message) and item.seq not in folded]
        if made or self._over_cap(slots):
            made += await self._condense(slots, raw)
        given_up = {slot.summary.id for slot in slots if slot.inner}
        slots = [slot for slot in slots if not slot.inner]
        made = [summary for summary in made if summary.id not in given_up]
        if not made and not plan.prunes:
            return None
        return self._compaction(context, plan, slots, made, started)

    def _chunk_tokens(self) -> int:
        return min(CHUNK_TOKENS, self.writer.input_tokens) if self.writer else CHUNK_TOKENS

    def _over_cap(self, slots: Sequence[_Slot]) -> bool:
        return sum(slot.summary.token_count for slot in slots) > self.budget.summary_tokens

    async def _leaf(self, chunk: Run, slots: Sequence[_Slot]) -> _Slot | None:
        """A summary of messages; None if it would not be smaller than they are."""
        source = sum(message.token_count for message in chunk.messages)
        found = passages(chunk.messages)
        order = self._order(found, source, chunk.tokens, SUMMARY_RATIO)
        if order is None:
            return self._verbatim(chunk, slots)
        draft = await self._draft(order)
        leaf = self._summary(draft, chunk.messages, ())
        return _Slot(leaf, made=True) if leaf.token_count < chunk.tokens else self._verbatim(chunk, slots)

    def _verbatim(self, chunk: Run, slots: Sequence[_Slot]) -> _Slot | None:
        """A few words between two summaries: no summary can be shorter, but one may take them in with its neighbours."""
        first, last = chunk.messages[0].seq, chunk.messages[-1].seq
        between = any(s.summary.last_seq < first for s in slots) and any(s.summary.first_seq > last for s in slots)
        if not between:
            return None
        draft = Draft(plain_text(passages(chunk.messages)), 3, ())
        return _Slot(self._summary(draft, chunk.messages, ()), made=True, inner=True)

    def _order(self, found: Sequence[Passage], source: int, standing: int, ratio: int) -> Order | None:
        """A summary of `source` tokens that takes the place of `standing` tokens of context; None if it could not be smaller.

        Asked for is a `ratio`th of the source; up to half of it is taken, within what summaries may take altogether.
        """
        largest = max(self.budget.summary_tokens // 2, SMALLEST_SUMMARY_TOKENS)
        most = min(max(source // 2, SMALLEST_SUMMARY_TOKENS), largest, standing - self._fence_tokens() - 1)
        if most < SMALLEST_SUMMARY_TOKENS // 2:
            return None
        return Order(found, source, min(max(source // ratio, SMALLEST_SUMMARY_TOKENS), most), most)

    def _fence_tokens(self) -> int:
        blank = Summary(
            id=short_id("sum"), kind="leaf", depth=0, level=3, text="", token_count=0,
            first_seq=100_000, last_seq=100_000, message_count=0, source_tokens=0,
        )  # fmt: skip
        return self.count(summary_text(blank)) + 4

    async def _condense(self, slots: list[_Slot], raw: Sequence[int]) -> list[Summary]:
        """Merge summaries until their sum is within its cap. Changes `slots`; returns what was made."""
        made: list[Summary] = []
        for _ in range(self.config.max_compaction_rounds if self.config.condensation_enabled else 0):
            if not self._over_cap(slots) and not any(slot.inner for slot in slots):
                break
            group = choose_group(slots, raw)
            merged = await self._merged(group) if group else None
            if merged is None:
                break
            made.append(merged.summary)
            place = slots.index(group[0])
            slots[place : place + len(group)] = [merged]
        return made

    async def _merged(self, group: Sequence[_Slot]) -> _Slot | None:
        children = [slot.summary for slot in group]
        tokens = sum(child.token_count for child in children)
        order = self._order(passages(children), tokens, tokens, CONDENSED_RATIO)
        if order is None:
            return None
        draft = await self._draft(replace(order, condensing=True))
        summary = self._summary(draft, (), children)
        return _Slot(summary, made=True) if summary.token_count < tokens else None

    async def _draft(self, order: Order) -> Draft:
        draft = await summarise(order, self.writer, self.count, level2=self.config.level2_enabled)
        self.attempts.extend(draft.attempts)
        return draft

    def _summary(self, draft: Draft, messages: Sequence[Message], children: Sequence[Summary]) -> Summary:
        sources: Iterable[Message | Summary] = [*messages, *children]
        first = messages[0].seq if messages else children[0].first_seq
        last = messages[-1].seq if messages else children[-1].last_seq
        summary = Summary(
            id=short_id("sum"),
            session_id=self.session_id,
            kind="leaf" if messages else "condensed",
            depth=0 if messages else max(child.depth for child in children) + 1,
            level=draft.level,
            text=draft.text,
            token_count=0,
            first_seq=first,
            last_seq=last,
            message_count=len(messages) or sum(child.message_count for child in children),
            source_tokens=sum(m.token_count for m in messages) or sum(child.source_tokens for child in children),
            file_ids=file_ids(sources),
            child_ids=tuple(child.id for child in children),
            model_id=draft.model_id,
            created_at=now_ms(),
        )
        summary = self._counted(summary)
        if draft.level == 3:
            return summary
        pointed = self._counted(summary.model_copy(update={"digs": digs(messages, children, self.count)}))
        standing = sum(m.token_count for m in messages) + sum(child.token_count for child in children)
        return pointed if pointed.token_count < standing * WORTH_POINTING else summary

    def _counted(self, summary: Summary) -> Summary:
        return summary.model_copy(update={"token_count": self.count(summary_text(summary)) + 4})

    def _compaction(
        self, context: ActiveContext, plan: SweepPlan, slots: Sequence[_Slot], made: Sequence[Summary], started: float
    ) -> Compaction:
        covers = [Cover(s.summary.first_seq, s.summary.last_seq, s.summary.id) for s in slots]
        hidden = [cover for cover in context.covers if cover.summary_id is None and not _inside(cover, covers)]
        standing = [slot.summary for slot in slots if slot.made]
        leaves = [summary for summary in made if summary.kind == "leaf"]
        writer = self.writer
        result = CompactionResult(
            session_id=self.session_id,
            summary_message_id=standing[-1].id if standing else "",
            summary_ids=tuple(summary.id for summary in standing),
            level_used=max((summary.level for summary in made), default=0),
            compacted_message_count=sum(leaf.message_count for leaf in leaves),
            summary_token_count=sum(summary.token_count for summary in standing),
            tokens_before=context.session.context_tokens,
            elapsed_ms=(time.monotonic() - started) * 1000,
            pruned_tool_outputs=len(plan.prunes),
            pruned_tokens=plan.pruned_tokens,
            trigger=self.trigger,
            attempts=tuple(self.attempts),
            usage=writer.usage if writer else CompactionResult.model_fields["usage"].default,
            cost=writer.cost if writer else 0.0,
            created_at=now_ms(),
        )
        return Compaction(
            read_covers=context.covers,
            covers=tuple(sorted([*covers, *hidden], key=lambda cover: cover.first_seq)),
            summaries=tuple(made),
            prunes=plan.prunes,
            result=result,
        )


def _inside(cover: Cover, others: Iterable[Cover]) -> bool:
    return any(other.first_seq <= cover.first_seq and cover.last_seq <= other.last_seq for other in others)


def choose_group(slots: Sequence[_Slot], raw: Sequence[int]) -> list[_Slot]:
    """Which neighbours to merge next: the oldest `FAN_IN` of the lowest depth that has so many in a row; else the oldest
    neighbours there are. Neighbours have no visible message between them. Empty if there are none. Pure."""
    rows: list[list[_Slot]] = []
    for slot in slots:
        last = rows[-1][-1].summary.last_seq if rows else 0
        apart = any(last < seq < slot.summary.first_seq for seq in raw)
        if rows and not apart:
            rows[-1].append(slot)
        else:
            rows.append([slot])
    level_rows = [group for row in rows for group in _same_depth(row) if len(group) >= FAN_IN]
    if level_rows:
        return min(level_rows, key=lambda group: group[0].summary.depth)[:FAN_IN]
    wide = [row for row in rows if len(row) > 1]
    return wide[0][:FAN_IN] if wide else []


def _same_depth(row: Sequence[_Slot]) -> list[list[_Slot]]:
    groups: list[list[_Slot]] = []
    for slot in row:
        if groups and groups[-1][-1].summary.depth == slot.summary.depth:
            groups[-1].append(slot)
        else:
            groups.append([slot])
    return groups
