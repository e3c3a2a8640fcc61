"""One session, opened: what its turns and its upkeep work with. Store first, then state, then events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from anyio import to_thread

from mnesis.config import MnesisConfig
from mnesis.context.assemble import assemble
from mnesis.engine.engine import Engine
from mnesis.engine.session_state import SessionRuntime
from mnesis.errors import LLMError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import (
    DoomLoopDetectedPayload,
    LlmRetryPayload,
    MessageCreatedPayload,
    PartCreatedPayload,
    SessionUpdatedPayload,
)
from mnesis.files.handler import LargeFileHandler
from mnesis.files.offload import needs_intake, taken_in
from mnesis.llm.base import LLM
from mnesis.llm.no_model import NoModel
from mnesis.models.context import ActiveContext, Budget, Window
from mnesis.models.message import Message, MessagePart, TextPart, ToolPart, ToolResultPart
from mnesis.models.session import SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.recall.automatic import asked_now, placed, recalled
from mnesis.recall.stored_files import inherits_files
from mnesis.session.doom_loop import canonical_call
from mnesis.store.base import Append, Appended, Store
from mnesis.tokens.estimator import parts_tokens
from mnesis.tokens.model_info import ModelInfo

T = TypeVar("T")
# Counting more than this many characters at once would hold up the event loop noticeably.
COUNT_IN_THREAD_CHARS = 100_000


@dataclass
class SessionCore:
    """A session's id, settings, model, budget and client, and the verbs its steps are made of.

    `names_files`: the newest window's context, or a parent, refers to stored files; `inherits_files`: a parent does, which
    stays so and is asked no more."""

    engine: Engine
    session_id: str
    config: MnesisConfig
    model: ModelInfo
    budget: Budget
    count: Callable[[str], int]
    llm: LLM
    runtime: SessionRuntime
    bus: EventBus
    names_files: bool = False
    inherits_files: bool = False

    @cached_property
    def files(self) -> LargeFileHandler:
        """What takes in this session's files. Making it does no I/O."""
        config = self.config.file
        same_provider = _provider(config.exploration_summary_model) == self.model.provider_id
        return LargeFileHandler(
            self.store,
            self.count,
            config,
            llm=None if isinstance(getattr(self.llm, "inner", None), NoModel) else self.llm,
            llm_options=self.config.session.llm_options if same_provider else None,
        )

    def needs_intake(self, parts: Sequence[MessagePart]) -> bool:
        """Whether `taken_in` could change any of these parts."""
        return needs_intake(parts, self.config.file.inline_threshold)

    async def taken_in(self, parts: Sequence[MessagePart]) -> list[MessagePart]:
        """Parts as they are stored: files read, what is too large for a message moved out. Raises a `FileError`."""
        return await taken_in(parts, self.files)

    @property
    def store(self) -> Store:
        return self.engine.store

    @property
    def state(self) -> SessionRecord:
        """The newest state known here."""
        state = self.runtime.state
        assert state is not None, "set when the session is opened"  # noqa: S101  # an invariant, not input
        return state

    async def append(
        self, messages: Sequence[Message], *, report: UsageReport | None = None, ends_turn: bool = False
    ) -> Appended:
        """Count, store in one transaction, then tell. Once it has begun it is carried through, also when the caller is
        cancelled meanwhile: what is committed is also told."""
        counted = [m if m.token_count else await self.counted(m) for m in messages]
        append = Append(counted, report, ends_turn)
        try:
            stored = await self.store.append(self.session_id, append)
        except asyncio.CancelledError:
            # The write may be under way. Appending again is harmless, and tells what was committed.
            self.engine.start(self._append_again(append))
            raise
        self.runtime.state = stored.session
        if stored.fresh:
            self._tell(stored)
        return stored

    async def revise(self, hide: Sequence[tuple[int, int]], messages: Sequence[Message], last_seq: int) -> Appended:
        """Hide spans and append messages in one transaction, then tell; carried through like `append`."""
        counted = [await self.counted(message) for message in messages]
        return await self.carried_through(self._revise(hide, Append(counted), last_seq))

    async def counted(self, message: Message) -> Message:
        """The message with its token counts, taken now, once."""
        if message.token_count:
            return message
        tokens, tool_tokens = self.count_parts(message.parts)
        if not tokens:
            tokens, tool_tokens = await to_thread.run_sync(parts_tokens, message.parts, self.count)
        return message.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})

    def count_parts(self, parts: Sequence[MessagePart]) -> tuple[int, int]:
        """Tokens of a message of these parts, and of tool outputs among them; 0, 0 if they are too long to count here."""
        return parts_tokens(parts, self.count) if _characters(parts) <= COUNT_IN_THREAD_CHARS else (0, 0)

    async def carried_through(self, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of `work`, which goes on even if whoever waits for it is cancelled."""
        return await asyncio.shield(self.engine.start(work))

    async def _append_again(self, append: Append) -> None:
        stored = await self.store.append(self.session_id, append)
        self.runtime.state = stored.session
        self._tell(stored)

    async def _revise(self, hide: Sequence[tuple[int, int]], append: Append, last_seq: int) -> Appended:
        stored = await self.store.revise(self.session_id, hide, append, last_seq=last_seq)
        self.runtime.state = stored.session
        self._tell(stored)
        return stored

    def _tell(self, stored: Appended) -> None:
        for message in stored.messages:
            if self.bus.wants(MnesisEvent.MESSAGE_CREATED):
                payload = MessageCreatedPayload(
                    self.session_id, message.id, message.role, message.seq, message.token_count
                )
                self.bus.publish(MnesisEvent.MESSAGE_CREATED, payload)
            if self.bus.wants(MnesisEvent.PART_CREATED):
                for index, part in enumerate(message.parts):
                    created = PartCreatedPayload(self.session_id, message.id, index, part.type)
                    self.bus.publish(MnesisEvent.PART_CREATED, created)
        self.tell_updated()

    def tell_updated(self) -> None:
        """Say that the session's state moved."""
        if self.bus.wants(MnesisEvent.SESSION_UPDATED):
            state = self.state
            payload = SessionUpdatedPayload(self.session_id, state.context_tokens, state.turn_count)
            self.bus.publish(MnesisEvent.SESSION_UPDATED, payload)

    async def window(
        self,
        *,
        system_prompt: str | None = None,
        reserved_tokens: int = 0,
        budget_tokens: int | None = None,
        message: str | None = None,
    ) -> Window:
        """The window for the next request. The budget is corrected by how much more the provider counts than we do.

        `message` is what the user is going to say next, where it is not stored yet; automatic recall looks for it."""
        context = await self.store.active_context(self.session_id)
        self.runtime.state = context.session
        room = int((budget_tokens or self.budget.usable_tokens) / context.session.calibration)
        window = assemble(
            context,
            budget_tokens=room,
            count=self.count,
            system_prompt=system_prompt,
            reserved_tokens=reserved_tokens,
        )
        window = replace(window, budget=self.budget)
        self.runtime.recallable = bool(context.covers or context.prunes or window.omitted)
        self.inherits_files = self.inherits_files or await inherits_files(self.store, context.session.parent_id)
        self.names_files = self.inherits_files or _names_files(context)
        return await self._with_recall(context, window, message) if self.config.recall.enabled else window

    async def _with_recall(self, context: ActiveContext, window: Window, question: str | None) -> Window:
        """The window with the originals that the newest message asks for right before it."""
        newest = asked_now(window) if question is None else None
        if question is None:
            if newest is None:
                return window
            question = newest.text_content()
        reason = (question, newest.id if newest else None, context.covers)
        if self.runtime.recalled[0] != reason:
            block = await recalled(self.store, context, window, question, self.config.recall, self.count)
            self.runtime.recalled = (reason, block)
        block = self.runtime.recalled[1]
        if block is None or window.tokens + block.token_count > window.budget_tokens:
            return window
        return placed(window, block, newest)

    def note_calls(self, calls: Sequence[ToolPart]) -> bool:
        """Count identical tool calls in a row; True, and an event, when the threshold is reached."""
        threshold, reached = self.config.session.doom_loop_threshold, False
        runtime = self.runtime
        for call in calls:
            signature = canonical_call(call)
            runtime.repeated_calls = runtime.repeated_calls + 1 if signature == runtime.last_call else 1
            runtime.last_call = signature
            if runtime.repeated_calls == threshold:
                payload = DoomLoopDetectedPayload(self.session_id, call.tool_name, runtime.repeated_calls)
                self.bus.publish(MnesisEvent.DOOM_LOOP_DETECTED, payload)
            reached = reached or runtime.repeated_calls >= threshold
        return reached

    def tell_retry(self, attempt: int, error: LLMError, delay_seconds: float) -> None:
        """Say that a model call is going to be repeated."""
        payload = LlmRetryPayload(
            self.session_id,
            attempt,
            self.config.session.retry.max_retries,
            type(error).__name__,
            str(error),
            delay_seconds,
        )
        self.bus.publish(MnesisEvent.LLM_RETRY, payload)


def _names_files(context: ActiveContext) -> bool:
    return any(item.file_ids if isinstance(item, Summary) else item.file_refs for item in context.items)


def _provider(model: str | None) -> str:
    return ModelInfo.from_model_string(model).provider_id if model else ""


def _characters(parts: Sequence[MessagePart]) -> int:
    total = 0
    for part in parts:
        if isinstance(part, TextPart):
            total += len(part.text)
        elif isinstance(part, ToolPart | ToolResultPart):
            total += len(part.output or "")
        else:
            total += len(str(part))
    return total
