"""One sweep: read the active context, plan, summarize, and commit in one transaction.

Summaries are written outside the transaction. The commit fails if the spans that were read have changed since, and the
sweep starts again from the new context. A crash before the commit leaves the context unchanged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from anyio import to_thread

from mnesis.compaction.extract import Passage
from mnesis.compaction.fold import MessageSpan, split_span
from mnesis.compaction.identifiers import list_missing_identifiers
from mnesis.compaction.limits import Deadline
from mnesis.compaction.merge import PendingSummary, choose_group, previous_text
from mnesis.compaction.plan import SweepPlan, Trigger, plan_sweep
from mnesis.compaction.pointers import make_pointers
from mnesis.compaction.summarize import SummaryDraft, summarize
from mnesis.compaction.summarizer import Summarizer, SummaryRequest
from mnesis.compaction.transcript import passages, referenced_file_ids, transcript_text
from mnesis.config import CompactionConfig
from mnesis.context.forms import pin_unknown_forms, with_forms
from mnesis.context.markers import summary_text
from mnesis.errors import StaleContextError
from mnesis.ids import now_ms, short_id
from mnesis.llm.breaker import Clock
from mnesis.models.context import ActiveContext, Budget, Cover
from mnesis.models.message import Message
from mnesis.models.results import CompactionAttempt, CompactionResult
from mnesis.models.session import SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.models.usage import TokenUsage
from mnesis.redaction import get_logger
from mnesis.store.base import Append, Compaction, Store
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenCounter

logger = get_logger(__name__)

MAX_CHUNK_TOKENS = 40_000
"""Messages for one leaf summary. Summaries of longer sources lose details."""

SUMMARY_RATIO = 6
CONDENSED_RATIO = 3
"""Source tokens per requested token, for summaries of messages and of summaries. The latter are dense already."""

MIN_SUMMARY_TOKENS = 48

MAX_RATIO_WITH_POINTERS = 0.6
"""Drill-down pointers are omitted if they would make the summary longer than this fraction of its source."""

KEEP_SUMMARY_FRACTION = 0.3
"""The largest size of all summaries after a sweep with the target `keep_tokens`, as a fraction of the context beyond
it."""

MAX_IDENTIFIERS_FRACTION = 0.2
"""The size of the line with rare identifiers that a model's summary lacks, as a fraction of the requested tokens."""

MAX_STALE_ATTEMPTS = 5
"""The number of sweeps in a row whose spans another writer may change before the error is raised."""


class SweepOutcome(NamedTuple):
    """The result of a sweep and the session's state after it.

    `change` has the context that was read and the commit, or is None if nothing changed.
    """

    result: CompactionResult
    session: SessionRecord
    change: tuple[ActiveContext, Compaction] | None = None


@dataclass
class Sweep:
    """One compaction of one session. Without a `summarizer`, all summaries are level 3.

    `keep_tokens` is the size that remains unfolded; None leaves it to the trigger. See `plan_sweep()`. `forms` are the
    changed messages that a model received, by `seq`; summaries are made from them. Messages that are not in
    `seqs_with_known_forms`, unless that is None, are folded only if the context does not fit otherwise. Calls of the
    summarizer end `config.sweep_timeout_seconds` after the start, by the `clock`; level 3 does the rest.
    """

    store: Store
    session_id: str
    budget: Budget
    config: CompactionConfig
    count: TokenCounter
    summarizer: Summarizer | None
    trigger: Trigger
    keep_tokens: int | None = None
    forms: Mapping[int, Message] = field(default_factory=dict)
    seqs_with_known_forms: Collection[int] | None = None
    focus: str = ""
    """The subject that summaries keep above all, or ""."""
    clock: Clock = time.monotonic
    attempts: list[CompactionAttempt] = field(default_factory=list)
    _summary_cap_tokens: int = field(default=0, init=False)

    async def run(self, on_start: Callable[[int], None] | None = None) -> SweepOutcome:
        """Run the sweep.

        `on_start` is called once with the context's tokens, if there is something to do.

        Raises `StaleContextError` if other writers changed the context `MAX_STALE_ATTEMPTS` times in a row.
        """
        started = time.monotonic()
        if self.summarizer is not None:
            self.summarizer.set_deadline(Deadline.after(self.config.sweep_timeout_seconds, self.clock))
        for _ in range(MAX_STALE_ATTEMPTS):
            context = with_forms(await self.store.active_context(self.session_id), self.forms)
            plan = self._plan(pin_unknown_forms(context, self.seqs_with_known_forms))
            if not plan and self.trigger in ("hard", "overflow"):
                plan = self._plan(context)
            if plan and on_start is not None:
                on_start(context.session.context_tokens)
                on_start = None
            self._summary_cap_tokens = self._summary_cap(context)
            compaction = await self._prepare(context, plan, started) if plan else None
            if compaction is None:
                return await self._book_spending(context, started)
            try:
                session = await self.store.compact(self.session_id, compaction)
            except StaleContextError:
                logger.info("session %s: the context changed during the compaction; starting again", self.session_id)
                continue
            return SweepOutcome(self._final_result(compaction.result, session), session, (context, compaction))
        await self._book_spending(await self.store.active_context(self.session_id), started)
        raise StaleContextError(
            f"session {self.session_id!r}: other writers changed the context during {MAX_STALE_ATTEMPTS} compactions in a row;"
            " compact again when fewer of them are active"
        )

    def _plan(self, context: ActiveContext) -> SweepPlan:
        return plan_sweep(context, self.budget, self.config, self.count, self.trigger, keep_tokens=self.keep_tokens)

    def _empty_result(self, context: ActiveContext) -> CompactionResult:
        tokens = context.session.context_tokens
        return CompactionResult(
            session_id=self.session_id,
            tokens_before=tokens,
            tokens_after=tokens,
            trigger=self.trigger,
            **self._spending(),
        )

    async def _book_spending(self, context: ActiveContext, started: float) -> SweepOutcome:
        """Return the result of a sweep that changed nothing. The cost of its calls is added to the session's sums."""
        result = self._empty_result(context)
        if self.attempts:
            times = {"elapsed_ms": (time.monotonic() - started) * 1000, "created_at": now_ms()}
            result = result.model_copy(update=times)
        if not (result.usage.effective_total() or result.cost):
            return SweepOutcome(result, context.session)
        report = UsageReport(result.usage, "estimate", result.cost)
        return SweepOutcome(result, (await self.store.append(self.session_id, Append([], report))).session)

    def _spending(self) -> dict[str, Any]:
        """Return the fields of a result that report the attempts: also rejected ones, and those for a stale context."""
        usage = sum((attempt.usage for attempt in self.attempts), TokenUsage())
        return {"attempts": tuple(self.attempts), "usage": usage, "cost": sum(a.cost for a in self.attempts)}

    @staticmethod
    def _final_result(result: CompactionResult, session: SessionRecord) -> CompactionResult:
        return result.model_copy(
            update={"tokens_after": session.context_tokens, "turn_index": max(session.turn_count - 1, 0)}
        )

    async def _prepare(self, context: ActiveContext, plan: SweepPlan, started: float) -> Compaction | None:
        pending = [PendingSummary(item) for item in context.items if isinstance(item, Summary)]
        chunks = [chunk for span in plan.fold.spans for chunk in split_span(span, context.prunes, self._chunk_tokens())]
        new_summaries: list[Summary] = []
        folded_seqs: set[int] = set()
        copied_ids: set[str] = set()
        for chunk, summary in zip(chunks, await self._summarize_chunks(chunks, pending), strict=True):
            leaf = PendingSummary(summary, is_new=True) if summary else self._keep_verbatim(chunk, pending)
            if leaf is not None:
                pending.append(leaf)
                new_summaries.append(leaf.summary)
                copied_ids |= {leaf.summary.id} if leaf.must_merge else set()
                folded_seqs.update(message.seq for message in chunk.messages)
        pending.sort(key=lambda each: each.summary.first_seq)
        visible_seqs = [item.seq for item in context.items if isinstance(item, Message) and item.seq not in folded_seqs]
        if new_summaries or self._exceeds_summary_cap(pending):
            new_summaries += await self._condense(pending, visible_seqs)
        dropped_ids = {each.summary.id for each in pending if each.must_merge}
        pending = [each for each in pending if not each.must_merge]
        new_summaries = [summary for summary in new_summaries if summary.id not in dropped_ids]
        if not new_summaries and not plan.prunes:
            return None
        # A leaf that contains its messages' text lost nothing, so it is not a sign that a level failed.
        level_used = max((summary.level for summary in new_summaries if summary.id not in copied_ids), default=0)
        return self._build_compaction(context, plan, pending, new_summaries, level_used, started)

    def _summary_cap(self, context: ActiveContext) -> int:
        """Return how many tokens all summaries together may take."""
        if self.keep_tokens is None:
            return self.budget.summary_tokens
        excess_tokens = max(context.session.context_tokens - self.keep_tokens, 0)
        return min(self.budget.summary_tokens, max(int(excess_tokens * KEEP_SUMMARY_FRACTION), 1))

    def _chunk_tokens(self) -> int:
        return min(MAX_CHUNK_TOKENS, self.summarizer.input_tokens) if self.summarizer else MAX_CHUNK_TOKENS

    def _exceeds_summary_cap(self, pending: Sequence[PendingSummary]) -> bool:
        return sum(each.summary.token_count for each in pending) > self._summary_cap_tokens

    async def _summarize_chunks(
        self, chunks: Sequence[MessageSpan], pending: Sequence[PendingSummary]
    ) -> list[Summary | None]:
        """Summarize chunks of messages, oldest first. Returns None if no summary would be smaller than the chunk.

        The first chunk is summarized alone, the following ones `concurrency` at a time. The chunks of such a batch do not see
        each other's summaries, but all of them see the newest one before the batch.
        """
        earlier = [each.summary for each in pending]
        summaries: list[Summary | None] = []
        size = self.summarizer.concurrency if self.summarizer else 1
        for batch in [chunks[:1], *(chunks[start : start + size] for start in range(1, len(chunks), size))]:
            tasks = []
            try:
                async with asyncio.TaskGroup() as group:
                    for chunk in batch:
                        previous = previous_text(earlier, chunk.messages[0].seq)
                        tasks.append(group.create_task(self._summarize_chunk(chunk, previous)))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from errors
            for task in tasks:
                summary, attempts = task.result()
                summaries.append(summary)
                self.attempts.extend(attempts)
                earlier += [summary] if summary else []
        return summaries

    async def _summarize_chunk(
        self, chunk: MessageSpan, previous: str
    ) -> tuple[Summary | None, tuple[CompactionAttempt, ...]]:
        """Summarize a chunk of messages. The summary is None if it would not be smaller than the chunk."""
        source_tokens = sum(message.token_count for message in chunk.messages)
        transcript = passages(chunk.messages)
        request = self._make_request(transcript, source_tokens, chunk.tokens, SUMMARY_RATIO)
        if request is None:
            return None, ()
        draft = await self._write(replace(request, previous=previous, messages=chunk.messages))
        leaf = self._build_summary(draft, chunk.messages, ())
        return (leaf if leaf.token_count < chunk.tokens else None), draft.attempts

    def _keep_verbatim(self, chunk: MessageSpan, pending: Sequence[PendingSummary]) -> PendingSummary | None:
        """Turn a short chunk between two summaries into a leaf that contains its text.

        The leaf must be merged with its neighbors. Returns None if the chunk is not between two summaries.
        """
        first, last = chunk.messages[0].seq, chunk.messages[-1].seq
        is_between = any(s.summary.last_seq < first for s in pending) and any(
            s.summary.first_seq > last for s in pending
        )
        if not is_between:
            return None
        draft = SummaryDraft(transcript_text(passages(chunk.messages)), 3, ())
        return PendingSummary(self._build_summary(draft, chunk.messages, ()), is_new=True, must_merge=True)

    def _make_request(
        self, transcript: Sequence[Passage], source_tokens: int, visible_tokens: int, ratio: int
    ) -> SummaryRequest | None:
        """Build the request for one summary.

        The summary replaces `visible_tokens` of the context; its source has `source_tokens`. One `ratio`th of the
        source is requested; up to half of it is accepted, within the cap for all summaries. Returns None if no summary
        could be smaller than what it replaces.
        """
        max_allowed_tokens = max(self._summary_cap_tokens // 2, MIN_SUMMARY_TOKENS)
        max_tokens = min(
            max(source_tokens // 2, MIN_SUMMARY_TOKENS), max_allowed_tokens, visible_tokens - self._fence_tokens() - 1
        )
        if max_tokens < MIN_SUMMARY_TOKENS // 2:
            return None
        return SummaryRequest(
            transcript,
            source_tokens,
            min(max(source_tokens // ratio, MIN_SUMMARY_TOKENS), max_tokens),
            max_tokens,
            focus=self.focus,
        )

    def _fence_tokens(self) -> int:
        blank = Summary(
            id=short_id("sum"), kind="leaf", depth=0, level=3, text="", token_count=0,
            first_seq=100_000, last_seq=100_000, message_count=0, source_tokens=0,
        )  # fmt: skip
        return self.count(summary_text(blank)) + MESSAGE_OVERHEAD_TOKENS

    async def _condense(self, pending: list[PendingSummary], visible_seqs: Sequence[int]) -> list[Summary]:
        """Merge summaries until all of them fit the cap.

        Updates `pending` in place; returns the new summaries.
        """
        new_summaries: list[Summary] = []
        for _ in range(self.config.max_compaction_rounds if self.config.condensation_enabled else 0):
            if not self._exceeds_summary_cap(pending) and not any(each.must_merge for each in pending):
                break
            group = choose_group(pending, visible_seqs)
            merged = await self._merge(group) if group else None
            if merged is None:
                break
            new_summaries.append(merged.summary)
            index = pending.index(group[0])
            pending[index : index + len(group)] = [merged]
        return new_summaries

    async def _merge(self, group: Sequence[PendingSummary]) -> PendingSummary | None:
        children = [each.summary for each in group]
        tokens = sum(child.token_count for child in children)
        request = self._make_request(passages(children), tokens, tokens, CONDENSED_RATIO)
        if request is None:
            return None
        draft = await self._write(replace(request, condenses_summaries=True))
        self.attempts.extend(draft.attempts)
        summary = self._build_summary(draft, (), children)
        return PendingSummary(summary, is_new=True) if summary.token_count < tokens else None

    async def _write(self, request: SummaryRequest) -> SummaryDraft:
        draft = await summarize(request, self.summarizer, self.count, level2_enabled=self.config.level2_enabled)
        if draft.level == 3:
            return draft
        available_tokens = min(
            int(request.target_tokens * MAX_IDENTIFIERS_FRACTION), request.max_tokens - self.count(draft.text) - 1
        )
        texts = [passage.text for passage in request.passages]
        line = await to_thread.run_sync(list_missing_identifiers, texts, draft.text, available_tokens, self.count)
        return replace(draft, text=f"{draft.text}\n\n{line}") if line else draft

    def _build_summary(self, draft: SummaryDraft, messages: Sequence[Message], children: Sequence[Summary]) -> Summary:
        sources: Iterable[Message | Summary] = [*messages, *children]
        first_seq = messages[0].seq if messages else children[0].first_seq
        last_seq = messages[-1].seq if messages else children[-1].last_seq
        summary = Summary(
            id=short_id("sum"),
            session_id=self.session_id,
            kind="leaf" if messages else "condensed",
            depth=0 if messages else max(child.depth for child in children) + 1,
            level=draft.level,
            text=draft.text,
            token_count=0,
            first_seq=first_seq,
            last_seq=last_seq,
            message_count=len(messages) or sum(child.message_count for child in children),
            source_tokens=sum(m.token_count for m in messages) or sum(child.source_tokens for child in children),
            file_ids=referenced_file_ids(sources),
            child_ids=tuple(child.id for child in children),
            model_id=draft.model_id,
            created_at=now_ms(),
        )
        summary = self._with_token_count(summary)
        if draft.level == 3:
            return summary
        with_pointers = self._with_token_count(
            summary.model_copy(update={"pointers": make_pointers(messages, children, self.count)})
        )
        source_tokens = sum(m.token_count for m in messages) + sum(child.token_count for child in children)
        return with_pointers if with_pointers.token_count < source_tokens * MAX_RATIO_WITH_POINTERS else summary

    def _with_token_count(self, summary: Summary) -> Summary:
        return summary.model_copy(update={"token_count": self.count(summary_text(summary)) + MESSAGE_OVERHEAD_TOKENS})

    def _build_compaction(
        self,
        context: ActiveContext,
        plan: SweepPlan,
        pending: Sequence[PendingSummary],
        new_summaries: Sequence[Summary],
        level_used: int,
        started: float,
    ) -> Compaction:
        covers = [Cover(s.summary.first_seq, s.summary.last_seq, s.summary.id) for s in pending]
        hidden = [cover for cover in context.covers if cover.summary_id is None and not _is_inside(cover, covers)]
        visible_summaries = [each.summary for each in pending if each.is_new]
        leaves = [summary for summary in new_summaries if summary.kind == "leaf"]
        result = CompactionResult(
            session_id=self.session_id,
            summary_message_id=visible_summaries[-1].id if visible_summaries else "",
            summary_ids=tuple(summary.id for summary in visible_summaries),
            level_used=level_used,
            compacted_message_count=sum(leaf.message_count for leaf in leaves),
            summary_token_count=sum(summary.token_count for summary in visible_summaries),
            tokens_before=context.session.context_tokens,
            elapsed_ms=(time.monotonic() - started) * 1000,
            pruned_tool_outputs=len(plan.prunes),
            pruned_tokens=plan.pruned_tokens,
            trigger=self.trigger,
            **self._spending(),
            created_at=now_ms(),
        )
        return Compaction(
            read_covers=context.covers,
            covers=tuple(sorted([*covers, *hidden], key=lambda cover: cover.first_seq)),
            summaries=tuple(new_summaries),
            prunes=plan.prunes,
            result=result,
        )


def _is_inside(cover: Cover, others: Iterable[Cover]) -> bool:
    return any(other.first_seq <= cover.first_seq and cover.last_seq <= other.last_seq for other in others)
