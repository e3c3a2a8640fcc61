"""One turn of `send()`: store the messages, compact, call the model, run tools, store the reply, compact."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mnesis.errors import (
    ContextIrreducibleError,
    ContextOverflowError,
    LLMBadRequestError,
    LLMError,
    LLMResponseError,
    MnesisError,
)
from mnesis.files.offload import offload_results
from mnesis.formats.openai import chat_messages
from mnesis.formats.parse import new_message
from mnesis.ids import now_ms
from mnesis.llm.base import Delta, LLMReply, LLMRequest
from mnesis.llm.redact import redact
from mnesis.llm.retry import complete_with_retry, stream_with_retry
from mnesis.models.context import Window
from mnesis.models.message import FinishReason, Message, MessagePart, ReasoningPart, TextPart, ToolPart
from mnesis.models.results import CompactionResult, TurnResult
from mnesis.models.session import Interruption, UsageReport
from mnesis.models.tool import ToolSpec
from mnesis.models.usage import TokenUsage
from mnesis.recall.grants import Grant
from mnesis.session.compactor import Compactor
from mnesis.session.core import SessionCore
from mnesis.session.doom_loop import detect_doom_loop
from mnesis.tools.files import file_tools
from mnesis.tools.recall import recall_tools
from mnesis.tools.toolset import Toolset

logger = logging.getLogger(__name__)

OnPart = Callable[[MessagePart], Awaitable[None] | None]
"""A function that receives each part as it arrives: chunks of text and reasoning, then the tool calls."""

OVERFLOW_RETRY_FRACTION = 0.7
"""The size of the next request, relative to one that the provider rejected as too long."""


@dataclass
class _UserCodeRun:
    """A period of a turn in which user code runs. Tasks that the code leaves behind see `is_running` become false."""

    session_id: str
    is_running: bool = True


_user_code_runs: contextvars.ContextVar[tuple[_UserCodeRun, ...]] = contextvars.ContextVar(
    "mnesis_user_code", default=()
)


def refuse_reentrant_call(session_id: str) -> None:
    """Raise `MnesisError` if the caller is a tool or an `on_part` of a turn of this session: it would wait for itself."""
    if any(run.is_running and run.session_id == session_id for run in _user_code_runs.get()):
        raise MnesisError(
            f"a tool or on_part of session {session_id!r} called the session whose turn is waiting for it;"
            " use another session there"
        )


@contextmanager
def _user_code(session_id: str) -> Iterator[None]:
    run = _UserCodeRun(session_id)
    token = _user_code_runs.set((*_user_code_runs.get(), run))
    try:
        yield
    finally:
        run.is_running = False
        _user_code_runs.reset(token)


@dataclass
class Turn:
    """One turn. `user_messages` are validated and not yet stored. Call `run()` once."""

    core: SessionCore
    compactor: Compactor
    user_messages: Sequence[Message]
    toolset: Toolset
    system_prompt: str | None = None
    llm_options: dict[str, Any] = field(default_factory=dict)
    on_part: OnPart | None = None
    _usage: TokenUsage = field(default=TokenUsage(), init=False)
    _cost: float = field(default=0.0, init=False)
    _is_looping: bool = field(default=False, init=False)
    _compaction: CompactionResult | None = field(default=None, init=False)
    _partial_text: str = field(default="", init=False)
    _offered_tools: set[str] = field(default_factory=set, init=False)
    _grant: Grant | None = field(default=None, init=False)

    async def run(self) -> TurnResult:
        """Store the user messages, then call the model and run tools until no tool call is left. Stores every step."""
        await self.core.append(self.user_messages)
        rounds = self.core.config.session.max_tool_rounds
        for number in range(1, rounds + 1):
            window, reply = await self._call_model()
            runnable = [call for call in reply.tool_calls if self.toolset.can_run(call)]
            message = await self._store_reply(window, reply, ends_turn=not runnable)
            if not runnable:
                return await self._finish(message, reply)
            await self._run_tools(runnable, ends_turn=len(runnable) < len(reply.tool_calls) or number == rounds)
            if len(runnable) < len(reply.tool_calls):
                return await self._finish(message, reply)
        return await self._finish(message, reply, FinishReason.MAX_TOOL_ROUNDS)

    async def _call_model(self) -> tuple[Window, LLMReply]:
        """Call the model. If there is no reply, record an interruption and raise the error."""
        self._partial_text = ""
        try:
            return await self._call_and_recover()
        except LLMError as error:
            error.partial_text = error.partial_text or self._partial_text
            await self._record_interruption(error)
            raise
        except asyncio.CancelledError as error:
            await self._record_interruption(error)
            raise

    async def _call_and_recover(self) -> tuple[Window, LLMReply]:
        window, reserved = await self._build_window()
        try:
            return window, await self._complete(window)
        except ContextOverflowError as overflow:
            if self._partial_text:
                raise
            window = await self._shrink_window(window, reserved, overflow)
        except LLMBadRequestError:
            if self._partial_text or not self._disable_recall_tools():
                raise
            window, _ = await self._build_window()
        return window, await self._complete(window)

    async def _build_window(self) -> tuple[Window, int]:
        """Return the window of the next request and the tokens of its tools.

        Only the window shows whether recall tools are useful, so it may have to be assembled twice."""
        for _ in range(2):
            self._offer_recall_tools()
            reserved = self._count_tool_tokens()
            self._compaction = await self.compactor.compact_until_fits(reserved) or self._compaction
            window = await self.core.window(system_prompt=self.system_prompt, reserved_tokens=reserved)
            if not self._offer_recall_tools():
                break
        return window, reserved

    def _offer_recall_tools(self) -> bool:
        """Offer recall tools if the context omits anything, and file tools if it refers to a file.

        Returns whether a tool is new in this turn."""
        if not self.core.config.recall.tools or self.core.shared.recall_tools_rejected:
            return False
        new = [spec for spec in self._recall_tools() if spec.name not in self._offered_tools]
        for spec in new:
            self.toolset.offer(spec)
            self._offered_tools.add(spec.name)
        return bool(new)

    def _recall_tools(self) -> list[ToolSpec]:
        core, config = self.core, self.core.config.recall
        self._grant = self._grant or Grant(tokens=config.tool_tokens, result_tokens=config.tool_result_tokens)
        specs: list[ToolSpec] = []
        if core.shared.has_hidden_content:
            specs += recall_tools(core.store, core.session_id, core.count_tokens, self._grant)
        if core.has_file_references:
            specs += file_tools(core.store, core.files.storage, core.session_id, core.count_tokens, self._grant)
        return specs

    def _disable_recall_tools(self) -> bool:
        """Withdraw the recall tools after the provider rejected a request: the model may not support tools.

        Returns False if none were offered."""
        if not self._offered_tools or self.core.shared.recall_tools_rejected:
            return False
        logger.info(
            "session %s: the provider rejected a request with recall tools; retrying without them", self.core.session_id
        )
        self.core.shared.recall_tools_rejected = True
        self.toolset.withdraw(self._offered_tools)
        return True

    async def _shrink_window(self, window: Window, reserved: int, overflow: ContextOverflowError) -> Window:
        """Run a sweep, then assemble a window clearly smaller than the one that the provider rejected as too long."""
        logger.info(
            "session %s: the provider rejected the request as too long; retrying with a smaller one",
            self.core.session_id,
        )
        if self.core.config.compaction.auto:
            result = await self.compactor.sweep("overflow")
            if result is not None and (result.level_used or result.pruned_tool_outputs):
                self._compaction = result
        try:
            return await self.core.window(
                system_prompt=self.system_prompt,
                reserved_tokens=reserved,
                budget_tokens=int(window.tokens * OVERFLOW_RETRY_FRACTION),
            )
        except ContextIrreducibleError:
            raise overflow from overflow.__cause__

    async def _complete(self, window: Window) -> LLMReply:
        core, model = self.core, self.core.model
        request = LLMRequest(
            model=model.model_id,
            messages=chat_messages(window.messages, window.system_prompt),
            tools=self.toolset.definitions,
            max_output_tokens=(core.budget.max_output_tokens or model.max_output_tokens) if model.is_known else None,
            timeout_seconds=core.config.session.request_timeout_seconds,
            options={**core.config.session.llm_options, **self.llm_options},
        )
        retry = core.config.session.retry
        if self.on_part is None:
            return await complete_with_retry(core.llm, request, retry, core.publish_retry)
        reply = await self._stream(request)
        for call in reply.tool_calls:
            await self._emit_part(call)
        return reply

    async def _stream(self, request: LLMRequest) -> LLMReply:
        core, reply = self.core, None
        async for delta in stream_with_retry(core.llm, request, core.config.session.retry, core.publish_retry):
            if isinstance(delta, LLMReply):
                reply = delta
                continue
            await self._emit_delta(delta)
        if reply is None:
            raise LLMResponseError(
                "the stream ended without a reply", model=request.model, partial_text=self._partial_text
            )
        return reply

    async def _emit_delta(self, delta: Delta) -> None:
        if delta.reasoning:
            await self._emit_part(ReasoningPart(text=delta.reasoning))
        if delta.text:
            self._partial_text += delta.text
            await self._emit_part(TextPart(text=delta.text))

    async def _emit_part(self, part: MessagePart) -> None:
        """Pass a part to `on_part`. An exception in it does not affect the turn."""
        if self.on_part is None:
            return
        try:
            with _user_code(self.core.session_id):
                outcome = self.on_part(part)
                if inspect.isawaitable(outcome):
                    await outcome
        except Exception:
            logger.exception("on_part failed; the turn continues")

    async def _store_reply(self, window: Window, reply: LLMReply, *, ends_turn: bool) -> Message:
        is_reported = reply.usage is not None and reply.usage.effective_total() > 0
        usage = reply.usage if is_reported and reply.usage is not None else self._estimate_usage(window, reply)
        self._usage, self._cost = self._usage + usage, self._cost + reply.cost
        message = new_message(
            "assistant",
            reply_parts(reply),
            model_id=reply.model or self.core.model.model_id,
            tokens=usage,
            cost=reply.cost,
            finish_reason=reply.finish_reason,
        )
        report = UsageReport(usage, "request" if is_reported else "estimate", reply.cost, window.tokens)
        stored = await self.core.append([message], report=report, ends_turn=ends_turn)
        self._is_looping = detect_doom_loop(self.core, message.tool_calls) or self._is_looping
        return stored.messages[0]

    def _estimate_usage(self, window: Window, reply: LLMReply) -> TokenUsage:
        return TokenUsage(input=window.tokens, output=self.core.count_tokens(reply.text + reply.reasoning))

    async def _run_tools(self, calls: Sequence[ToolPart], *, ends_turn: bool) -> None:
        with _user_code(self.core.session_id):
            results = await self.toolset.run(calls, concurrency=self.core.config.session.tool_concurrency)
        parts: Sequence[MessagePart] = results
        if self.core.may_need_offload(results):
            parts = await offload_results(results, self.core.files)
        await self.core.append([new_message("tool", parts)], ends_turn=ends_turn)

    async def _finish(self, message: Message, reply: LLMReply, reason: str | None = None) -> TurnResult:
        triggered = await self.compactor.start_if_due()
        shared = self.core.shared
        background, shared.unreported_compaction = shared.unreported_compaction, None
        # A compaction that this turn's request had to wait for belongs to this turn.
        was_awaited = background is not None and background.trigger == "hard"
        pending = tuple(call for call in message.tool_calls if not self.toolset.can_run(call))
        return TurnResult(
            message_id=message.id,
            text=reply.text,
            finish_reason=_finish_reason(reason or reply.finish_reason),
            tokens=self._usage,
            cost=self._cost,
            compaction_triggered=triggered or was_awaited or self._compaction is not None,
            compaction_result=self._compaction or background,
            doom_loop_detected=self._is_looping,
            tool_calls=pending,
            reasoning=reply.reasoning,
            user_message_id=self.user_messages[-1].id,
        )

    def _count_tool_tokens(self) -> int:
        definitions = self.toolset.definitions
        return self.core.count_tokens(json.dumps(definitions, default=str)) if definitions else 0

    async def _record_interruption(self, error: BaseException) -> None:
        is_failure = isinstance(error, LLMError)
        interruption = Interruption(
            after_seq=self.core.record.last_seq,
            kind="failed" if is_failure else "cancelled",
            error_type=type(error).__name__,
            error=redact(str(error)),
            partial_text=getattr(error, "partial_text", "") or self._partial_text,
            created_at=now_ms(),
        )
        await self.core.run_to_completion(self.core.store.record_interruption(self.core.session_id, interruption))


def reply_parts(reply: LLMReply) -> list[MessagePart]:
    """Convert a reply to parts: reasoning, text, tool calls. Signed reasoning blocks are kept exactly."""
    parts: list[MessagePart] = []
    if reply.reasoning_blocks:
        parts += [ReasoningPart(text=str(b.get("thinking", "")), provider=dict(b)) for b in reply.reasoning_blocks]
    elif reply.reasoning:
        parts.append(ReasoningPart(text=reply.reasoning))
    if reply.text or not reply.tool_calls:
        parts.append(TextPart(text=reply.text))
    return [*parts, *reply.tool_calls]


def _finish_reason(reason: str | None) -> FinishReason | str:
    reason = reason or FinishReason.STOP
    return FinishReason(reason) if reason in FinishReason.__members__.values() else reason
