"""One turn of `send()`, as a list of steps: store, make room, ask, run tools, store, upkeep."""

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
from mnesis.files.offload import results_taken_in
from mnesis.formats.openai import chat_messages
from mnesis.formats.parse import draft
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
from mnesis.session.compactor import Upkeep
from mnesis.session.core import SessionCore
from mnesis.tools.files import file_tools
from mnesis.tools.recall import recall_tools
from mnesis.tools.toolset import Toolset

logger = logging.getLogger(__name__)

OnPart = Callable[[MessagePart], Awaitable[None] | None]
"""Called with each part as it arrives: pieces of text and reasoning, then the tool calls."""

# After a provider said that a request was too long, the next one is cut to this share of what it was allowed.
OVERFLOW_SHARE = 0.7


@dataclass
class _Inside:
    """A stretch of a turn in which the user's code runs. Tasks that this code leaves behind outlive `running`."""

    session_id: str
    running: bool = True


_inside: contextvars.ContextVar[tuple[_Inside, ...]] = contextvars.ContextVar("mnesis_inside", default=())


def refuse_from_inside(session_id: str) -> None:
    """Raise if the caller is a tool or an `on_part` of a turn of this very session: it would wait for itself."""
    if any(stretch.running and stretch.session_id == session_id for stretch in _inside.get()):
        raise MnesisError(
            f"a tool or on_part of session {session_id!r} called the session it belongs to, whose turn waits for it;"
            " use another session there"
        )


@contextmanager
def _inside_turn(session_id: str) -> Iterator[None]:
    stretch = _Inside(session_id)
    token = _inside.set((*_inside.get(), stretch))
    try:
        yield
    finally:
        stretch.running = False
        _inside.reset(token)


@dataclass
class Turn:
    """A turn being made. `drafts` are the checked messages of the user; `run()` does it once."""

    scope: SessionCore
    upkeep: Upkeep
    drafts: Sequence[Message]
    tools: Toolset
    system_prompt: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    on_part: OnPart | None = None
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
    doom_loop: bool = False
    compacted: CompactionResult | None = None
    partial: str = ""
    offered: set[str] = field(default_factory=set)
    grant: Grant | None = None

    async def run(self) -> TurnResult:
        """Store the user's messages, ask until no tool is left to run, store every step."""
        await self.scope.append(self.drafts)
        rounds = self.scope.config.session.max_tool_rounds
        for number in range(1, rounds + 1):
            window, reply = await self._answered()
            runnable = [call for call in reply.tool_calls if self.tools.can_run(call)]
            message = await self._store_reply(window, reply, ends_turn=not runnable)
            if not runnable:
                return await self._result(message, reply)
            await self._run_tools(runnable, ends_turn=len(runnable) < len(reply.tool_calls) or number == rounds)
            if len(runnable) < len(reply.tool_calls):
                return await self._result(message, reply)
        return await self._result(message, reply, FinishReason.MAX_TOOL_ROUNDS)

    async def _answered(self) -> tuple[Window, LLMReply]:
        """Ask; note it in the log of interruptions if there is no answer, and let the error through."""
        self.partial = ""
        try:
            return await self._ask()
        except LLMError as error:
            error.partial_text = error.partial_text or self.partial
            await self._note_interruption(error)
            raise
        except asyncio.CancelledError as error:
            await self._note_interruption(error)
            raise

    async def _ask(self) -> tuple[Window, LLMReply]:
        window, reserved = await self._window()
        try:
            return window, await self._call(window)
        except ContextOverflowError as overflow:
            if self.partial:
                raise
            window = await self._smaller_window(window, reserved, overflow)
        except LLMBadRequestError:
            if self.partial or not self._withdraw_lookup():
                raise
            window, _ = await self._window()
        return window, await self._call(window)

    async def _window(self) -> tuple[Window, int]:
        """The window of the next request, and the tokens its tools take. Whether looking things up has a use is known with
        the window."""
        for _ in range(2):
            self._offer_lookup()
            reserved = self._tool_tokens()
            self.compacted = await self.upkeep.make_room(reserved) or self.compacted
            window = await self.scope.window(system_prompt=self.system_prompt, reserved_tokens=reserved)
            if not self._offer_lookup():
                break
        return window, reserved

    def _offer_lookup(self) -> bool:
        """Give the model the way back once its context leaves out anything, and the way into files once it names one.
        True if something is new in this turn."""
        if not self.scope.config.recall.tools or self.scope.runtime.recall_refused:
            return False
        new = [spec for spec in self._lookup_tools() if spec.name not in self.offered]
        for spec in new:
            self.tools.offer(spec)
            self.offered.add(spec.name)
        return bool(new)

    def _lookup_tools(self) -> list[ToolSpec]:
        scope, config = self.scope, self.scope.config.recall
        self.grant = self.grant or Grant(tokens=config.tool_tokens, result_tokens=config.tool_result_tokens)
        found: list[ToolSpec] = []
        if scope.runtime.recallable:
            found += recall_tools(scope.store, scope.session_id, scope.count, self.grant)
        if scope.names_files:
            found += file_tools(scope.store, scope.files.storage, scope.session_id, scope.count, self.grant)
        return found

    def _withdraw_lookup(self) -> bool:
        """After the provider refused a request: a model that knows no tools goes on without looking things up."""
        if not self.offered or self.scope.runtime.recall_refused:
            return False
        logger.info("session %s: refused with tools for recall; trying without", self.scope.session_id)
        self.scope.runtime.recall_refused = True
        self.tools.withdraw(self.offered)
        return True

    async def _smaller_window(self, window: Window, reserved: int, overflow: ContextOverflowError) -> Window:
        """After the provider found a request too long: one sweep, then a window clearly smaller than the one it refused."""
        logger.info("session %s: the provider found the request too long; making it smaller", self.scope.session_id)
        if self.scope.config.compaction.auto:
            result = await self.upkeep.sweep("overflow")
            if result is not None and (result.level_used or result.pruned_tool_outputs):
                self.compacted = result
        try:
            return await self.scope.window(
                system_prompt=self.system_prompt,
                reserved_tokens=reserved,
                budget_tokens=int(window.tokens * OVERFLOW_SHARE),
            )
        except ContextIrreducibleError:
            raise overflow from overflow.__cause__

    async def _call(self, window: Window) -> LLMReply:
        scope, model = self.scope, self.scope.model
        request = LLMRequest(
            model=model.model_id,
            messages=chat_messages(window.messages, window.system_prompt),
            tools=self.tools.definitions,
            max_output_tokens=scope.budget.max_output_tokens if model.known else None,
            timeout_seconds=scope.config.session.request_timeout_seconds,
            options={**scope.config.session.llm_options, **self.options},
        )
        retry = scope.config.session.retry
        if self.on_part is None:
            return await complete_with_retry(scope.llm, request, retry, scope.tell_retry)
        reply = await self._streamed(request)
        for call in reply.tool_calls:
            await self._hand_out(call)
        return reply

    async def _streamed(self, request: LLMRequest) -> LLMReply:
        scope, reply = self.scope, None
        async for piece in stream_with_retry(scope.llm, request, scope.config.session.retry, scope.tell_retry):
            if isinstance(piece, LLMReply):
                reply = piece
                continue
            await self._piece(piece)
        if reply is None:
            raise LLMResponseError("the stream ended without an answer", model=request.model, partial_text=self.partial)
        return reply

    async def _piece(self, piece: Delta) -> None:
        if piece.reasoning:
            await self._hand_out(ReasoningPart(text=piece.reasoning))
        if piece.text:
            self.partial += piece.text
            await self._hand_out(TextPart(text=piece.text))

    async def _hand_out(self, part: MessagePart) -> None:
        """Give a part to the caller. What the caller does with it never costs the answer."""
        if self.on_part is None:
            return
        try:
            with _inside_turn(self.scope.session_id):
                outcome = self.on_part(part)
                if inspect.isawaitable(outcome):
                    await outcome
        except Exception:
            logger.exception("on_part failed; the turn goes on")

    async def _store_reply(self, window: Window, reply: LLMReply, *, ends_turn: bool) -> Message:
        known = reply.usage is not None and reply.usage.effective_total() > 0
        usage = reply.usage if known and reply.usage is not None else self._estimated(window, reply)
        self.usage, self.cost = self.usage + usage, self.cost + reply.cost
        message = draft(
            "assistant",
            reply_parts(reply),
            model_id=reply.model or self.scope.model.model_id,
            tokens=usage,
            cost=reply.cost,
            finish_reason=reply.finish_reason,
        )
        report = UsageReport(usage, "request" if known else "estimate", reply.cost, window.tokens)
        stored = await self.scope.append([message], report=report, ends_turn=ends_turn)
        self.doom_loop = self.scope.note_calls(message.tool_calls) or self.doom_loop
        return stored.messages[0]

    def _estimated(self, window: Window, reply: LLMReply) -> TokenUsage:
        return TokenUsage(input=window.tokens, output=self.scope.count(reply.text + reply.reasoning))

    async def _run_tools(self, calls: Sequence[ToolPart], *, ends_turn: bool) -> None:
        with _inside_turn(self.scope.session_id):
            results = await self.tools.run(calls, concurrency=self.scope.config.session.tool_concurrency)
        parts: Sequence[MessagePart] = results
        if self.scope.needs_intake(results):
            parts = await results_taken_in(results, self.scope.files)
        await self.scope.append([draft("tool", parts)], ends_turn=ends_turn)

    async def _result(self, message: Message, reply: LLMReply, reason: str | None = None) -> TurnResult:
        triggered = await self.upkeep.nudge()
        runtime = self.scope.runtime
        finished, runtime.finished = runtime.finished, None
        # One that had to be finished before this turn's request could go out belongs to this turn.
        waited = finished is not None and finished.trigger == "hard"
        pending = tuple(call for call in message.tool_calls if not self.tools.can_run(call))
        return TurnResult(
            message_id=message.id,
            text=reply.text,
            finish_reason=_finish_reason(reason or reply.finish_reason),
            tokens=self.usage,
            cost=self.cost,
            compaction_triggered=triggered or waited or self.compacted is not None,
            compaction_result=self.compacted or finished,
            doom_loop_detected=self.doom_loop,
            tool_calls=pending,
            reasoning=reply.reasoning,
            user_message_id=self.drafts[-1].id,
        )

    def _tool_tokens(self) -> int:
        definitions = self.tools.definitions
        return self.scope.count(json.dumps(definitions, default=str)) if definitions else 0

    async def _note_interruption(self, error: BaseException) -> None:
        failed = isinstance(error, LLMError)
        interruption = Interruption(
            after_seq=self.scope.state.last_seq,
            kind="failed" if failed else "cancelled",
            error_type=type(error).__name__,
            error=redact(str(error)),
            partial_text=getattr(error, "partial_text", "") or self.partial,
            created_at=now_ms(),
        )
        await self.scope.carried_through(self.scope.store.interrupted(self.scope.session_id, interruption))


def reply_parts(reply: LLMReply) -> list[MessagePart]:
    """A reply as parts: reasoning, text, tool calls. Signed reasoning blocks keep what the provider wants back."""
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
