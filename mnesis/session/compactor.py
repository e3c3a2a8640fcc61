"""The schedule of a session's sweeps, and the events they publish."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mnesis.compaction.policy import pays_off_when_expired, urgency
from mnesis.concurrency import import_in_thread
from mnesis.context.forms import pin_unknown_forms, with_forms
from mnesis.events.bus import MnesisEvent
from mnesis.events.payloads import (
    CompactionCompletedPayload,
    CompactionFailedPayload,
    CompactionTriggeredPayload,
    MessageUpdatedPayload,
    PartUpdatedPayload,
    PruneCompletedPayload,
    SummarizerBreakerChangedPayload,
)
from mnesis.ids import now_ms
from mnesis.llm.base import LLM
from mnesis.llm.breaker import BreakerStatus, CircuitBreaker
from mnesis.llm.connection import connection_options
from mnesis.llm.no_model import NoModel
from mnesis.llm.resolve import SwitchedLLM, resolve
from mnesis.models.context import ActiveContext, Budget
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import NO_MODEL
from mnesis.redaction import get_logger
from mnesis.session.cache_report import CacheAge
from mnesis.session.core import SessionCore
from mnesis.store.base import Compaction
from mnesis.telemetry.hooks import observe
from mnesis.tokens.model_info import ModelInfo, context_limit_options, price_ratio

if TYPE_CHECKING:
    from mnesis.compaction.limits import SpendingLimit
    from mnesis.compaction.plan import Trigger
    from mnesis.compaction.summarizer import Summarizer

logger = get_logger(__name__)

MAX_INPUT_FRACTION = 0.75
"""The part of a summariser's window for the transcript. The rest is for instructions, reply and counting errors."""


DEFAULT_CONCURRENCY = 4
"""The default number of concurrent summaries: few enough for the rate limits of small accounts, and four times as fast
as one."""

ONE_AT_A_TIME = re.compile(r"(ollama|ollama_chat|lm_studio|llamafile|llama_?cpp)/")
"""Local servers that answer one request at a time unless configured otherwise. Further requests would wait and time
out."""


@dataclass
class Compactor:
    """The compactions of an open session."""

    core: SessionCore
    _expiry_timer: asyncio.TimerHandle | None = field(default=None, init=False)

    async def start_if_due(self, reserved_tokens: int = 0) -> bool:
        """Start a background sweep if one is due and worthwhile. Returns whether one was started. Called after each turn.

        `reserved_tokens` is mnesis's count of each request's content outside the context: tool definitions.
        """
        core = self.core
        budget = self._budget_beside(reserved_tokens)
        self._watch_expiry(reserved_tokens)
        due = urgency(core.record.context_tokens, budget)
        if due == "none" or not core.config.compaction.auto or core.shared.is_compacting:
            return False
        from mnesis.compaction.plan import plan_sweep

        reason: Trigger = "hard" if due == "hard" else "soft"
        context = with_forms(await core.store.active_context(core.session_id), core.shared.shown_forms)
        context = pin_unknown_forms(context, core.shared.seqs_with_known_forms)
        if not plan_sweep(context, budget, core.config.compaction, core.count_tokens, reason):
            return False
        core.shared.background_compaction = core.engine.spawn(self._run_in_background(reason, reserved_tokens))
        return True

    async def compact_until_fits(self, reserved_tokens: int = 0) -> CompactionResult | None:
        """Compact until the context is below the hard threshold, or until compaction stops helping.

        Called before each request. Returns the result of the last sweep that changed the context, or None.
        """
        core, last = self.core, None
        if not core.config.compaction.auto:
            return None
        for _ in range(core.config.compaction.max_compaction_rounds):
            if urgency(core.record.context_tokens, self._budget_beside(reserved_tokens)) != "hard":
                break
            result = await self.sweep("hard", reserved_tokens=reserved_tokens, rechecks=True)
            if result is None:
                continue
            if not (result.level_used or result.pruned_tool_outputs):
                break
            last = result
        return last

    async def compact_after_expiry(self, reserved_tokens: int = 0) -> CompactionResult | None:
        """Compact if the provider's cache has certainly expired and a sweep pays off.

        The prefix must be written again anyway, and a smaller one costs less. Returns the result of a sweep that
        changed the context, or None.
        """
        age = self.core.cache_age()
        if age is None or age.left_seconds >= 0:
            return None
        return await self._compact_for_expiry(age, reserved_tokens)

    async def compact_before_request(self, reserved_tokens: int = 0) -> CompactionResult | None:
        """Compact if the provider's cache has expired, or the next request would be over the hard threshold.

        Returns the result of the last sweep that changed the context, or None.
        """
        expired = await self.compact_after_expiry(reserved_tokens)
        return await self.compact_until_fits(reserved_tokens) or expired

    def is_due_before_request(self, reserved_tokens: int = 0) -> bool:
        """Return whether `compact_before_request()` would try to compact now."""
        core, age = self.core, self.core.cache_age()
        is_over = urgency(core.record.context_tokens, self._budget_beside(reserved_tokens)) == "hard"
        has_expired = age is not None and age.left_seconds < 0 and self._pays_off(age, reserved_tokens)
        return core.config.compaction.auto and (is_over or has_expired)

    async def _compact_for_expiry(self, age: CacheAge, reserved_tokens: int) -> CompactionResult | None:
        if not self._pays_off(age, reserved_tokens):
            return None
        self.core.shared.expiry_swept = age.answered_at
        result = await self.sweep("expiry", reserved_tokens=reserved_tokens)
        return result if result is not None and (result.level_used or result.pruned_tool_outputs) else None

    def _pays_off(self, age: CacheAge, reserved_tokens: int) -> bool:
        """Return whether a sweep pays off once this cache has expired. One request is the reason for at most one
        sweep.
        """
        core, config = self.core, self.core.config.compaction
        return (
            config.auto
            and config.cache_expiry != "ignore"
            and core.shared.expiry_swept != age.answered_at
            and pays_off_when_expired(
                core.record.context_tokens,
                self._budget_beside(reserved_tokens),
                config.expiry_threshold_fraction,
                core.newest_cache(),
                core.request_target().cache_lifetime,
            )
        )

    def _watch_expiry(self, reserved_tokens: int) -> None:
        """Compact shortly before the provider's cache expires, if that is configured and no request is made until then."""
        self.stop_watching()
        config = self.core.config.compaction
        age = self.core.cache_age() if config.cache_expiry == "before" else None
        if age is None or age.left_seconds <= 0:
            return
        delay_seconds = max(age.left_seconds - config.expiry_margin_seconds, 0)
        self._expiry_timer = asyncio.get_running_loop().call_later(
            delay_seconds, self._start_before_expiry, age, reserved_tokens
        )

    def stop_watching(self) -> None:
        """Cancel the timer that compacts before the cache expires."""
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None

    def _start_before_expiry(self, age: CacheAge, reserved_tokens: int) -> None:
        core, now = self.core, self.core.cache_age()
        is_newest = now is not None and now.answered_at == age.answered_at
        if is_newest and not (core.backoff.is_ended or core.shared.is_compacting or core.shared.turn_lock.locked()):
            core.shared.background_compaction = core.engine.spawn(self._run_before_expiry(age, reserved_tokens))

    async def _run_before_expiry(self, age: CacheAge, reserved_tokens: int) -> None:
        try:
            await self._compact_for_expiry(age, reserved_tokens)
        except Exception:
            # As in `_run_in_background()`.
            logger.warning("session %s: compaction failed", self.core.session_id, exc_info=True)

    async def sweep(
        self, trigger: Trigger, *, keep_tokens: int | None = None, reserved_tokens: int = 0, rechecks: bool = False
    ) -> CompactionResult | None:
        """Run a sweep after the one that is running, if any. Publishes its events. Continues if the caller is cancelled.

        `rechecks`: when it is this sweep's turn, return None if the context with `reserved_tokens` is no longer over the
        hard threshold. Raises the errors of the store. If the summariser fails, level 3 takes over.
        """
        coroutine = self._run_exclusively(trigger, keep_tokens, reserved_tokens, rechecks)
        return await self.core.run_to_completion(coroutine)

    def _budget_beside(self, reserved_tokens: int) -> Budget:
        """Return the budget that remains after `reserved_tokens` of mnesis's count, converted to the provider's count
        by the calibration.
        """
        return self.core.budget.after_reserving(int(reserved_tokens * self.core.record.calibration))

    async def _run_exclusively(
        self, trigger: Trigger, keep_tokens: int | None = None, reserved_tokens: int = 0, rechecks: bool = False
    ) -> CompactionResult | None:
        core, shared = self.core, self.core.shared
        async with shared.compaction_lock:
            if rechecks:
                shared.advance(await core.store.session(core.session_id))
                if urgency(core.record.context_tokens, self._budget_beside(reserved_tokens)) != "hard":
                    return None
            with observe("compaction", session_id=core.session_id, trigger=trigger) as observation:
                result = await self._run_sweep(trigger, keep_tokens, reserved_tokens)
                observation.set(
                    level=result.level_used,
                    folded_messages=result.compacted_message_count,
                    tokens_before=result.tokens_before,
                    tokens_after=result.tokens_after,
                    cost=result.cost,
                )
                return result

    async def _run_in_background(self, trigger: Trigger, reserved_tokens: int) -> None:
        try:
            await self._run_exclusively(trigger, reserved_tokens=reserved_tokens)
        except Exception:
            # Nothing waits for this task. The failure was published, the context is unchanged, the next turn tries again.
            logger.warning("session %s: compaction failed", self.core.session_id, exc_info=True)

    async def _run_sweep(self, trigger: Trigger, keep_tokens: int | None, reserved_tokens: int) -> CompactionResult:
        await import_in_thread("mnesis.compaction.sweep", "mnesis.compaction.summarizer", "mnesis.compaction.limits")
        from mnesis.compaction.sweep import Sweep

        core, summarizer = self.core, await self._make_summarizer()
        sweep = Sweep(
            store=core.store,
            session_id=core.session_id,
            budget=self._budget_beside(reserved_tokens),
            config=core.config.compaction,
            count=core.count_tokens,
            summarizer=summarizer,
            trigger=trigger,
            keep_tokens=keep_tokens,
            forms=core.shared.shown_forms,
            seqs_with_known_forms=core.shared.seqs_with_known_forms,
            focus=core.focus,
        )
        try:
            outcome = await sweep.run(lambda tokens: self._publish_triggered(tokens, trigger))
        except Exception as error:
            payload = CompactionFailedPayload(core.session_id, str(error), type(error).__name__)
            core.bus.publish(MnesisEvent.COMPACTION_FAILED, payload)
            raise
        core.shared.advance(outcome.session)
        if outcome.change is None and outcome.result.attempts:
            core.shared.uncommitted_compactions.append(outcome.result)
        if outcome.change is not None:
            core.shared.unreported_compaction = outcome.result
            self._publish_completed(outcome.result, *outcome.change)
        return outcome.result

    def _publish_triggered(self, tokens: int, trigger: Trigger) -> None:
        payload = CompactionTriggeredPayload(self.core.session_id, tokens, trigger)
        self.core.bus.publish(MnesisEvent.COMPACTION_TRIGGERED, payload)

    def _publish_completed(self, result: CompactionResult, before: ActiveContext, change: Compaction) -> None:
        bus, session_id = self.core.bus, self.core.session_id
        if result.pruned_tool_outputs:
            pruned = PruneCompletedPayload(session_id, result.pruned_tool_outputs, result.pruned_tokens)
            bus.publish(MnesisEvent.PRUNE_COMPLETED, pruned)
        if bus.has_handlers(MnesisEvent.MESSAGE_UPDATED) or bus.has_handlers(MnesisEvent.PART_UPDATED):
            self._publish_changes(before, change)
        fields = {
            name: getattr(result, name) for name in CompactionCompletedPayload.__annotations__ if name != "result"
        }
        bus.publish(MnesisEvent.COMPACTION_COMPLETED, CompactionCompletedPayload(**fields, result=result))
        self.core.publish_updated()

    def _publish_changes(self, before: ActiveContext, change: Compaction) -> None:
        bus, session_id = self.core.bus, self.core.session_id
        messages = {item.seq: item.id for item in before.items if isinstance(item, Message)}
        for prune in change.prunes:
            part = PartUpdatedPayload(session_id, messages[prune.seq], prune.part_index, prune.tokens_saved)
            bus.publish(MnesisEvent.PART_UPDATED, part)
        folded = {
            seq: cover.summary_id for cover in change.covers for seq in range(cover.first_seq, cover.last_seq + 1)
        }
        pruned = dict.fromkeys(prune.seq for prune in change.prunes)
        for seq, summary_id in sorted({**pruned, **folded}.items()):
            if seq in messages:
                payload = MessageUpdatedPayload(session_id, messages[seq], seq, summary_id)
                bus.publish(MnesisEvent.MESSAGE_UPDATED, payload)

    async def _make_summarizer(self) -> Summarizer:
        from mnesis.compaction.summarizer import Summarizer

        core, config = self.core, self.core.config.compaction
        choice = config.compaction_model
        llm, model = core.llm, core.model
        if isinstance(choice, str):
            # A client that always calls one model, or no model, would ignore the choice.
            llm = resolve() if isinstance(llm, SwitchedLLM) and (llm.model or isinstance(llm.inner, NoModel)) else llm
            model = ModelInfo.from_model_string(choice)
        elif choice is not None:
            llm = resolve(choice)
        spending_limit = await self._spending_limit()
        available_tokens = min(model.context_limit - model.max_output_tokens, core.budget.context_limit * 4)
        name = choice if isinstance(choice, str) else core.model.model_id
        options = context_limit_options(model) | self._summary_options(model)
        summarizer = Summarizer(
            llm=llm,
            model=name,
            input_tokens=max(int(available_tokens * MAX_INPUT_FRACTION), 512),
            timeout_seconds=config.timeout_seconds,
            retry=core.config.session.retry,
            options=options,
            instructions=config.compaction_prompt,
            on_retry=core.publish_retry,
            backoff=core.backoff,
            output_limit_tokens=model.max_output_tokens,
            concurrency=config.summary_concurrency or (1 if ONE_AT_A_TIME.match(name) else DEFAULT_CONCURRENCY),
            spending_limit=spending_limit,
            breaker=self._find_breaker(name, llm, options),
            lengths=core.shared.summary_lengths,
            on_breaker_change=functools.partial(self._publish_breaker_change, name, llm),
        )
        if config.reuse_cached_prefix and not callable(choice):
            summarizer.prefix_writer = await self._make_prefix_writer(summarizer)
        return summarizer

    def _find_breaker(self, model: str, llm: LLM, options: Mapping[str, Any]) -> CircuitBreaker:
        config = self.core.config.compaction
        return self.core.shared.breakers.find(
            model,
            llm,
            str(options.get("api_base") or options.get("base_url") or ""),
            max_failures=config.max_summarizer_failures,
            open_seconds=config.summarizer_pause_seconds,
        )

    async def _make_prefix_writer(self, summarizer: Summarizer) -> Summarizer | None:
        """Return the session's model as a summarizer that reads the conversation from its provider's cache, or None if
        the cache does not have it. A compaction model with an unknown price counts as cheaper, because the user chose
        it.
        """
        await import_in_thread("mnesis.session.cached_prefix")
        from mnesis.session.cached_prefix import find_cached_prefix

        core = self.core
        model = core.request_target().model
        ratio = price_ratio(summarizer.model, model)
        prefix = await find_cached_prefix(core, ratio) if ratio is not None else None
        if prefix is None:
            return None
        return replace(
            summarizer,
            llm=core.llm,
            model=model,
            options=prefix.options,
            prefix=prefix,
            breaker=self._find_breaker(model, core.llm, prefix.options),
            on_breaker_change=functools.partial(self._publish_breaker_change, model, core.llm),
        )

    async def _spending_limit(self) -> SpendingLimit:
        from mnesis.compaction.limits import SpendingLimit

        config = self.core.config.compaction
        if not SpendingLimit.is_set(config):
            return SpendingLimit()
        results = await self.core.store.compactions(self.core.session_id)
        return SpendingLimit.remaining(config, [*results, *self.core.shared.uncommitted_compactions], now_ms())

    def _publish_breaker_change(self, model: str, llm: LLM, status: BreakerStatus, reason: str) -> None:
        payload = SummarizerBreakerChangedPayload(
            self.core.session_id, model, status.state, status.failures, status.retry_after_seconds, reason
        )
        # A session without a model has no calls that could fail or recover.
        if not isinstance(getattr(llm, "inner", llm), NoModel):
            self.core.bus.publish(MnesisEvent.SUMMARIZER_BREAKER_CHANGED, payload)
        if status.state == "open":
            _warn_once(model, reason)

    def _summary_options(self, model: ModelInfo) -> dict[str, Any]:
        """Return the summariser's own options, or else the connection options of the session if the provider is the
        same.
        """
        config = self.core.config
        if config.compaction.compaction_options is not None:
            return dict(config.compaction.compaction_options)
        is_same_provider = model.provider_id == self.core.model.provider_id
        return connection_options(config.session.llm_options) if is_same_provider else {}


@functools.cache
def _warn_once(model: str, reason: str) -> None:
    problem = "no model is configured" if model == NO_MODEL else f"{model}: {reason}"
    logger.warning(
        "no model is available for summaries (%s); until it answers, compactions use level 3, extracts without a model",
        problem,
    )
