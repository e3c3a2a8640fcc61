"""One turn of `send()`: store the messages, compact, call the model, run tools, store the reply, compact."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnesis.errors import (
    ContextIrreducibleError,
    ContextOverflowError,
    LLMBadRequestError,
    LLMError,
    LLMResponseError,
    NothingToRetryError,
)
from mnesis.formats.parse import new_message
from mnesis.formats.request import render_request
from mnesis.formats.request_digests import RequestDigests, digest_request
from mnesis.ids import now_ms
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.retry import complete_with_retry, stream_with_retry
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import FinishReason, Message, MessagePart, ReasoningPart, TextPart, ToolPart
from mnesis.models.results import CacheReport, CompactionResult, ReasoningDelta, StreamEvent, TextDelta, TurnResult
from mnesis.models.sent_request import RequestParts
from mnesis.models.session import Interruption
from mnesis.models.tool import ToolSpec
from mnesis.models.usage import TokenUsage
from mnesis.recall.grants import Grant
from mnesis.redaction import get_logger, redact
from mnesis.session.cache_report import report_cache
from mnesis.session.compactor import Compactor
from mnesis.session.core import SessionCore
from mnesis.session.doom_loop import detect_doom_loop
from mnesis.session.reentrancy import user_code
from mnesis.session.replies import finish_reason, reply_parts
from mnesis.session.resume import find_resume_point
from mnesis.session.tool_runner import ToolRunner, wait_for_late_results
from mnesis.session.usage_report import report_usage
from mnesis.tools.files import file_tools
from mnesis.tools.recall import recall_tools
from mnesis.tools.toolset import Toolset

logger = get_logger(__name__)

OnPart = Callable[[MessagePart], Awaitable[None] | None]
"""A function that receives each part as it arrives: chunks of text and reasoning, then the tool calls."""

OnDoomLoop = Literal["warn", "stop"]
"""The reaction to a doom loop: the turn continues, or it ends before the repeated call runs."""

DOOM_LOOP_REFUSAL = (
    "This call was not run: the same call was made several times in a row, so the turn was stopped. Try something else."
)
"""The result of each tool call in the reply at which a doom loop stops the turn."""

OVERFLOW_RETRY_FRACTION = 0.7
"""The size of the next request, relative to one that the provider rejected as too long."""


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """The arguments of a turn. `on_event` receives the events of `stream()` as they happen, except the end of the
    turn.
    """

    toolset: Toolset
    system_prompt: str | None = None
    llm_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    on_part: OnPart | None = None
    on_event: Callable[[StreamEvent], None] | None = None
    on_doom_loop: OnDoomLoop = "warn"

    @property
    def is_streamed(self) -> bool:
        """Whether a caller receives the pieces of a reply as they arrive."""
        return self.on_part is not None or self.on_event is not None


@dataclass(frozen=True, slots=True)
class _Answer:
    """The reply to a request, the window that the request was rendered from, and when it was sent, in ms since 1970."""

    window: Window
    reply: LLMReply
    digests: RequestDigests
    sent_at: int


@dataclass
class _Progress:
    """The progress of a turn."""

    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    is_looping: bool = False
    compaction: CompactionResult | None = None
    cache_reports: list[CacheReport] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    """The pieces of the reply's text that have arrived."""
    offered_tools: set[str] = field(default_factory=set)

    @property
    def partial_text(self) -> str:
        """The text of the reply as far as it has arrived."""
        return "".join(self.pieces)


class Turn:
    """One turn. Call `run()` or `resume()` once."""

    def __init__(self, core: SessionCore, compactor: Compactor, options: TurnOptions) -> None:
        self.core = core
        self.compactor = compactor
        self.options = options
        self._toolset = options.toolset
        self._progress = _Progress()
        recall = core.config.recall
        self._grant = Grant(tokens=recall.tool_tokens, result_tokens=recall.tool_result_tokens)
        self._context: ActiveContext | None = None

    async def run(self, user_messages: Sequence[Message]) -> TurnResult:
        """Store the user messages, then call the model and run tools until no tool call is left. Stores every step.

        `user_messages` are validated and not yet stored.
        """
        stored = await self.core.append(user_messages, include_context=True)
        self._context = stored.context
        return await self._continue(user_messages[-1].id)

    async def resume(self) -> TurnResult:
        """Continue the newest turn from its first unanswered step. Raises `NothingToRetryError`."""
        await wait_for_late_results(self.core.shared)
        point = find_resume_point(await self.core.store.active_context(self.core.session_id))
        if point is None:
            raise NothingToRetryError(
                f"the newest turn of session {self.core.session_id!r} is complete, or there is none; send a message instead"
            )
        reply, calls = point.reply, point.unanswered_calls
        if reply is not None and calls:
            await self._offer_called_tools(calls)
            runnable = [call for call in calls if self._toolset.can_run(call)]
            if not runnable:
                names = ", ".join(sorted({call.tool_name for call in calls}))
                raise NothingToRetryError(
                    f"session {self.core.session_id!r} waits for the results of tool calls ({names}); pass the tools as"
                    " tools=, or send the results with send([ToolResultPart(…)])"
                )
            is_last = len(runnable) < len(calls)
            await self._run_tools(runnable, ends_turn=is_last)
            if is_last:
                return await self._finish(reply, point.user_message_id)
        return await self._continue(point.user_message_id)

    async def _continue(self, user_message_id: str) -> TurnResult:
        """Call the model and run tools until no tool call is left."""
        rounds = self.core.config.session.max_tool_rounds
        for number in range(1, rounds + 1):
            answer = await self._call_model()
            reply = answer.reply
            runnable = [call for call in reply.tool_calls if self._toolset.can_run(call)]
            message = await self._store_reply(answer, ends_turn=not runnable)
            is_looping = detect_doom_loop(self.core, message.tool_calls)
            self._progress.is_looping = self._progress.is_looping or is_looping
            if is_looping and self.options.on_doom_loop == "stop":
                if runnable:
                    runner = ToolRunner(self.core, self._toolset, runnable, ends_turn=True)
                    await runner.refuse(DOOM_LOOP_REFUSAL)
                return await self._finish(message, user_message_id, FinishReason.DOOM_LOOP)
            if not runnable:
                return await self._finish(message, user_message_id)
            has_pending_calls = len(runnable) < len(reply.tool_calls)
            await self._run_tools(runnable, ends_turn=has_pending_calls or number == rounds)
            if has_pending_calls:
                return await self._finish(message, user_message_id)
        return await self._finish(message, user_message_id, FinishReason.MAX_TOOL_ROUNDS)

    async def _call_model(self) -> _Answer:
        """Call the model. If there is no reply, record an interruption and raise the error."""
        self._progress.pieces.clear()
        try:
            return await self._call_and_recover()
        except LLMError as error:
            error.partial_text = error.partial_text or self._progress.partial_text
            await self._record_interruption(error)
            raise
        except asyncio.CancelledError as error:
            await self._record_interruption(error)
            raise

    async def _call_and_recover(self) -> _Answer:
        window, reserved = await self._build_window()
        try:
            return await self._complete(window)
        except ContextOverflowError as overflow:
            if self._progress.partial_text:
                raise
            window = await self._shrink_window(window, reserved, overflow)
            return await self._complete(window)
        except LLMBadRequestError as rejection:
            if self._progress.partial_text or not self._progress.offered_tools:
                raise
            return await self._complete_without_recall_tools(rejection)

    async def _complete_without_recall_tools(self, rejection: LLMBadRequestError) -> _Answer:
        """Repeat a rejected request without recall tools: the model may not support tools.

        Only if that succeeds were the tools the cause, and the session no longer offers them. If the request is rejected
        again, raises the first rejection, which names the cause.
        """
        core = self.core
        logger.info(
            "session %s: the provider rejected a request with recall tools; retrying without them", core.session_id
        )
        self._toolset.withdraw(self._progress.offered_tools)
        window, _ = await self._build_window(offers_tools=False)
        try:
            answer = await self._complete(window)
        except LLMBadRequestError as error:
            if isinstance(error, ContextOverflowError):
                raise
            raise rejection from error
        core.shared.recall_tools_rejected = True
        self._progress.offered_tools.clear()
        return answer

    async def _build_window(self, *, offers_tools: bool = True) -> tuple[Window, int]:
        """Return the window of the next request and the tokens of its tools.

        Only the window shows whether recall tools are useful. If they do not fit next to it, it is assembled again.
        """
        offers_tools = offers_tools and self.core.config.recall.tools and not self.core.shared.recall_tools_rejected
        while True:
            reserved = self._count_tool_tokens()
            await self._compact_until_fits(reserved)
            window = await self.core.window(
                system_prompt=self.options.system_prompt,
                reserved_tokens=reserved,
                context=self._take_context(),
                shared=True,  # it is only rendered
            )
            if not offers_tools or not self._offer(await self._useful_tools(window)):
                return window, reserved
            reserved, added = self._count_tool_tokens(), self._count_tool_tokens() - reserved
            is_compacted = await self._compact_until_fits(reserved)
            if not is_compacted and window.tokens + added <= window.budget_tokens:
                return replace(window, tokens=window.tokens + added, reserved_tokens=reserved), reserved

    def _take_context(self) -> ActiveContext | None:
        """Return the context that was read with the user's message, once, if the session has not changed since."""
        context, self._context = self._context, None
        return context if context is not None and context.session is self.core.record else None

    async def _compact_until_fits(self, reserved: int) -> bool:
        """Compact if the provider's cache has expired, or the next request would be over the hard threshold.

        Returns whether the context changed.
        """
        compaction = await self.compactor.compact_before_request(reserved)
        self._progress.compaction = compaction or self._progress.compaction
        return compaction is not None

    async def _useful_tools(self, window: Window) -> list[ToolSpec]:
        """Return recall tools if the window leaves anything out, and file tools if it refers to a file."""
        specs = self._recall_tools() if window.hides_content else []
        return [*specs, *self._file_tools()] if window.file_ids or await self.core.inherits_files() else specs

    def _recall_tools(self) -> list[ToolSpec]:
        core = self.core
        return recall_tools(core.store, core.session_id, core.count_tokens, self._grant)

    def _file_tools(self) -> list[ToolSpec]:
        core = self.core
        return file_tools(core.store, core.files.storage, core.session_id, core.count_tokens, self._grant)

    async def _offer_called_tools(self, calls: Sequence[ToolPart]) -> None:
        """Offer the session's own tools that an interrupted reply called."""
        if self.core.config.recall.tools:
            names = {call.tool_name for call in calls}
            self._offer([spec for spec in (*self._recall_tools(), *self._file_tools()) if spec.name in names])

    def _offer(self, specs: Iterable[ToolSpec]) -> bool:
        """Offer tools for the rest of the turn. Returns whether one is new."""
        new = [spec for spec in specs if spec.name not in self._progress.offered_tools]
        for spec in new:
            self._toolset.offer(spec)
            self._progress.offered_tools.add(spec.name)
        return bool(new)

    async def _shrink_window(self, window: Window, reserved: int, overflow: ContextOverflowError) -> Window:
        """Run a sweep, then assemble a window clearly smaller than the one that the provider rejected as too long."""
        logger.info(
            "session %s: the provider rejected the request as too long; retrying with a smaller one",
            self.core.session_id,
        )
        if self.core.config.compaction.auto:
            result = await self.compactor.sweep("overflow", reserved_tokens=reserved)
            if result is not None and (result.level_used or result.pruned_tool_outputs):
                self._progress.compaction = result
        try:
            return await self.core.window(
                system_prompt=self.options.system_prompt,
                reserved_tokens=reserved,
                # `window.tokens` is our own count; the budget is in the provider's, as the window divides by the calibration.
                budget_tokens=int(window.tokens * OVERFLOW_RETRY_FRACTION * self.core.record.calibration),
            )
        except ContextIrreducibleError:
            raise overflow from overflow.__cause__

    async def _complete(self, window: Window) -> _Answer:
        """Call the model with a window."""
        core, model = self.core, self.core.model
        options = {**core.config.session.llm_options, **self.options.llm_options}
        kept = core.kept_window
        rendered = render_request(
            window,
            core.request_target(),
            tools=self._toolset.definitions,
            options=options,
            earlier=kept.rendered_steps,
        )
        kept.rendered_steps = rendered.steps
        request = LLMRequest(
            model=model.model_id,
            messages=rendered.messages,
            tools=rendered.tools,
            max_output_tokens=(core.budget.max_output_tokens or model.max_output_tokens) if model.is_known else None,
            timeout_seconds=core.config.session.request_timeout_seconds,
            options=rendered.options,
        )
        sent_at = core.now_ms()
        core.shared.sent_parts = RequestParts(self.options.system_prompt, tuple(self._toolset.definitions), options)
        try:
            reply = await (self._stream(request) if self.options.is_streamed else self._call_once(request))
        finally:
            core.shared.used_cache_at = core.now_ms()
        digests = core.shared.sent_digests = digest_request(rendered, core.shared.sent_digests)
        return _Answer(window, reply, digests, sent_at)

    async def _call_once(self, request: LLMRequest) -> LLMReply:
        core = self.core
        retry = core.config.session.retry
        return await complete_with_retry(core.llm, request, retry, core.publish_retry, core.backoff)

    async def _stream(self, request: LLMRequest) -> LLMReply:
        core, reply = self.core, None
        retry = core.config.session.retry
        async for delta in stream_with_retry(core.llm, request, retry, core.publish_retry, core.backoff):
            if isinstance(delta, LLMReply):
                reply = delta
                continue
            self._emit_delta(delta)
            if self.options.on_part is not None:
                await self._emit_parts(delta)
        if reply is None:
            raise LLMResponseError(
                "the stream ended without a reply", model=request.model, partial_text=self._progress.partial_text
            )
        for call in reply.tool_calls:
            await self._emit_part(call)
        return reply

    def _emit_delta(self, delta: Delta) -> None:
        self._progress.pieces.append(delta.text)
        if delta.reasoning:
            self._emit(ReasoningDelta(text=delta.reasoning))
        if delta.text:
            self._emit(TextDelta(text=delta.text))

    async def _emit_parts(self, delta: Delta) -> None:
        if delta.reasoning:
            await self._emit_part(ReasoningPart(text=delta.reasoning))
        if delta.text:
            await self._emit_part(TextPart(text=delta.text))

    def _emit(self, event: StreamEvent) -> None:
        if self.options.on_event is not None:
            self.options.on_event(event)

    async def _emit_part(self, part: MessagePart) -> None:
        """Pass a part to `on_part`. An exception in it does not affect the turn."""
        if self.options.on_part is None:
            return
        try:
            with user_code(self.core.session_id):
                outcome = self.options.on_part(part)
                if inspect.isawaitable(outcome):
                    await outcome
        except Exception:
            logger.exception("on_part failed; the turn continues")

    async def _store_reply(self, answer: _Answer, *, ends_turn: bool) -> Message:
        reply, progress = answer.reply, self._progress
        target = self.core.request_target()
        report = report_usage(answer.window, reply, self.core.count_tokens, target.dialect)
        cache_report = None
        if report.kind == "request":
            before = self.core.record
            request = self.core.describe_request(answer.digests, report)
            report = replace(report, request=request)
            cache_report = report_cache(
                before,
                request,
                answer.digests,
                report.usage,
                sent_at=answer.sent_at,
                cache=target.known_cache,
            )
        progress.usage, progress.cost = progress.usage + report.usage, progress.cost + reply.cost
        message = new_message(
            "assistant",
            reply_parts(reply),
            model_id=reply.model or self.core.model.model_id,
            tokens=report.usage,
            cost=reply.cost,
            finish_reason=reply.finish_reason,
        )
        # A reply is paid for, so a cancellation must not lose it.
        append = self.core.append([message], report=report, ends_turn=ends_turn)
        stored = await self.core.run_to_completion(append)
        if cache_report is not None:
            progress.cache_reports.append(cache_report)
            self.core.publish_cache_miss(cache_report)
        return stored.messages[0]

    async def _run_tools(self, calls: Sequence[ToolPart], *, ends_turn: bool) -> None:
        await ToolRunner(self.core, self._toolset, calls, ends_turn, self.options.on_event).run()

    async def _finish(self, reply: Message, user_message_id: str, reason: str | None = None) -> TurnResult:
        triggered = await self.compactor.start_if_due(self._count_tool_tokens())
        shared, progress = self.core.shared, self._progress
        background, shared.unreported_compaction = shared.unreported_compaction, None
        # A compaction that this turn's request waited for counts as part of this turn.
        was_awaited = background is not None and background.trigger == "hard"
        pending = tuple(call for call in reply.tool_calls if not call.has_result and not self._toolset.can_run(call))
        return TurnResult(
            message_id=reply.id,
            text=reply.text_content(),
            finish_reason=finish_reason(reason or reply.finish_reason),
            tokens=progress.usage,
            cost=progress.cost,
            cache_reports=tuple(progress.cache_reports),
            compaction_triggered=triggered or was_awaited or progress.compaction is not None,
            compaction_result=progress.compaction or background,
            doom_loop_detected=progress.is_looping,
            tool_calls=pending,
            reasoning="".join(part.text for part in reply.parts if isinstance(part, ReasoningPart)),
            user_message_id=user_message_id,
        )

    def _count_tool_tokens(self) -> int:
        definitions = self._toolset.definitions
        return self.core.count_tokens(json.dumps(definitions, default=str)) if definitions else 0

    async def _record_interruption(self, error: BaseException) -> None:
        if self.core.shared.is_turn_lost:
            return
        is_failure = isinstance(error, LLMError)
        interruption = Interruption(
            after_seq=self.core.record.last_seq,
            kind="failed" if is_failure else "cancelled",
            error_type=type(error).__name__,
            error=redact(str(error)),
            partial_text=getattr(error, "partial_text", "") or self._progress.partial_text,
            created_at=now_ms(),
        )
        await self.core.run_to_completion(self.core.store.record_interruption(self.core.session_id, interruption))
