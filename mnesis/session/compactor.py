"""Keeping a session's context within its budget: when a sweep runs, and what is told about it."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field

from mnesis.compaction.plan import Trigger, plan_sweep
from mnesis.compaction.policy import urgency
from mnesis.compaction.summarize import Writer
from mnesis.compaction.sweep import Sweep
from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import (
    CompactionCompletedPayload,
    CompactionFailedPayload,
    CompactionTriggeredPayload,
    MessageUpdatedPayload,
    PartUpdatedPayload,
    PruneCompletedPayload,
)
from mnesis.llm.resolve import resolve
from mnesis.models.context import ActiveContext
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import NO_MODEL
from mnesis.session.core import SessionCore
from mnesis.store.base import Compaction
from mnesis.tokens.model_info import ModelInfo

logger = logging.getLogger(__name__)

READABLE_SHARE = 0.75
"""How much of a summariser's window the record may take; the rest is for the instructions, the answer and counting errors."""


@dataclass
class Upkeep:
    """The compactions of one opened session."""

    scope: SessionCore
    _has_key: bool = field(default=True, init=False)

    async def nudge(self, trigger: Trigger = "soft") -> bool:
        """After a turn: start a sweep beside the conversation if one is due and would help. True if one was started."""
        scope = self.scope
        due = urgency(scope.state.context_tokens, scope.budget)
        if due == "none" or not scope.config.compaction.auto or scope.runtime.is_compacting:
            return False
        reason: Trigger = "hard" if due == "hard" else trigger
        context = await scope.store.active_context(scope.session_id)
        if not plan_sweep(context, scope.budget, scope.config.compaction, scope.count, reason):
            return False
        scope.runtime.background = scope.engine.start(self._in_background(reason))
        return True

    async def make_room(self, reserved_tokens: int = 0) -> CompactionResult | None:
        """Before a request: over the hard threshold, sweep until the context is under it or nothing more can be done."""
        scope, last = self.scope, None
        if not scope.config.compaction.auto:
            return None
        for _ in range(scope.config.compaction.max_compaction_rounds):
            if urgency(scope.state.context_tokens + reserved_tokens, scope.budget) != "hard":
                break
            result = await self.sweep("hard", only_if_still_due=reserved_tokens)
            if result is None:
                continue
            if not (result.level_used or result.pruned_tool_outputs):
                break
            last = result
        return last

    async def sweep(self, trigger: Trigger, *, only_if_still_due: int | None = None) -> CompactionResult | None:
        """One sweep, after whichever is running. With `only_if_still_due`, None if that one made this one needless.

        Publishes what happened. Raises what the store raises; a failing summariser is not a failure, level 3 steps in.
        """
        return await self.scope.carried_through(self._in_turn(trigger, only_if_still_due))

    async def _in_turn(self, trigger: Trigger, only_if_still_due: int | None = None) -> CompactionResult | None:
        scope, runtime = self.scope, self.scope.runtime
        async with runtime.compaction:
            if only_if_still_due is not None:
                runtime.state = await scope.store.session(scope.session_id)
                if urgency(runtime.state.context_tokens + only_if_still_due, scope.budget) != "hard":
                    return None
            return await self._swept(trigger)

    async def _in_background(self, trigger: Trigger) -> None:
        try:
            await self._in_turn(trigger)
        except Exception:
            # Nobody waits for this task; the failure was published, the context is as it was, the next turn tries again.
            logger.warning("session %s: compaction failed", self.scope.session_id, exc_info=True)

    async def _swept(self, trigger: Trigger) -> CompactionResult:
        scope, writer = self.scope, self._writer()
        sweep = Sweep(
            store=scope.store,
            session_id=scope.session_id,
            budget=scope.budget,
            config=scope.config.compaction,
            count=scope.count,
            writer=writer,
            trigger=trigger,
        )
        try:
            swept = await sweep.run(lambda tokens: self._tell_start(tokens, trigger))
        except Exception as error:
            payload = CompactionFailedPayload(scope.session_id, str(error), type(error).__name__)
            scope.bus.publish(MnesisEvent.COMPACTION_FAILED, payload)
            raise
        self._note_missing_key(writer)
        scope.runtime.state = swept.session
        if swept.change is not None:
            scope.runtime.finished = swept.result
            self._tell_done(swept.result, *swept.change)
        return swept.result

    def _tell_start(self, tokens: int, trigger: Trigger) -> None:
        payload = CompactionTriggeredPayload(self.scope.session_id, tokens, trigger)
        self.scope.bus.publish(MnesisEvent.COMPACTION_TRIGGERED, payload)

    def _tell_done(self, result: CompactionResult, before: ActiveContext, done: Compaction) -> None:
        bus, session_id = self.scope.bus, self.scope.session_id
        if result.pruned_tool_outputs:
            pruned = PruneCompletedPayload(session_id, result.pruned_tool_outputs, result.pruned_tokens)
            bus.publish(MnesisEvent.PRUNE_COMPLETED, pruned)
        if bus.wants(MnesisEvent.MESSAGE_UPDATED) or bus.wants(MnesisEvent.PART_UPDATED):
            self._tell_changes(before, done)
        fields = {
            name: getattr(result, name) for name in CompactionCompletedPayload.__annotations__ if name != "result"
        }
        bus.publish(MnesisEvent.COMPACTION_COMPLETED, CompactionCompletedPayload(**fields, result=result))
        self.scope.tell_updated()

    def _tell_changes(self, before: ActiveContext, done: Compaction) -> None:
        bus, session_id = self.scope.bus, self.scope.session_id
        messages = {item.seq: item.id for item in before.items if isinstance(item, Message)}
        for prune in done.prunes:
            part = PartUpdatedPayload(session_id, messages[prune.seq], prune.part_index, prune.tokens_saved)
            bus.publish(MnesisEvent.PART_UPDATED, part)
        folded = {seq: cover.summary_id for cover in done.covers for seq in range(cover.first_seq, cover.last_seq + 1)}
        pruned = dict.fromkeys(prune.seq for prune in done.prunes)
        for seq, summary_id in sorted({**pruned, **folded}.items()):
            if seq in messages:
                payload = MessageUpdatedPayload(session_id, messages[seq], seq, summary_id)
                bus.publish(MnesisEvent.MESSAGE_UPDATED, payload)

    def _writer(self) -> Writer | None:
        if not self._has_key:
            return None
        scope, config = self.scope, self.scope.config.compaction
        chosen = config.compaction_model
        llm, model, options = scope.llm, scope.model, scope.config.session.llm_options
        if isinstance(chosen, str):
            model = ModelInfo.from_model_string(chosen)
        elif chosen is not None:
            llm = resolve(chosen)
        if config.compaction_options is not None:
            options = config.compaction_options
        elif isinstance(chosen, str) and model.provider_id != scope.model.provider_id:
            options = {}
        room = min(model.context_limit - model.max_output_tokens, scope.budget.context_limit * 4)
        return Writer(
            llm=llm,
            model=chosen if isinstance(chosen, str) else scope.model.model_id,
            input_tokens=max(int(room * READABLE_SHARE), 512),
            timeout_seconds=config.timeout_seconds,
            retry=scope.config.session.retry,
            options=dict(options),
            instructions=config.compaction_prompt,
            on_retry=scope.tell_retry,
        )

    def _note_missing_key(self, writer: Writer | None) -> None:
        if writer is not None and not writer.has_key:
            self._has_key = False
            _say_once(writer.model)


@functools.cache
def _say_once(model: str) -> None:
    logger.warning(
        "no model can be asked for summaries (%s): compactions use level 3, extracts made without a model, from now on",
        "none is configured" if model == NO_MODEL else f"no valid key for {model}",
    )
