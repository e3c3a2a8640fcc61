"""The core of an open session: append, revise and window.

Each write commits first, then updates the shared record, then publishes events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from anyio import to_thread

from mnesis.concurrency import import_in_thread
from mnesis.config import MnesisConfig
from mnesis.context.assemble import assemble_next
from mnesis.context.forms import with_forms
from mnesis.engine.engine import Engine
from mnesis.engine.kept_windows import KeptWindow
from mnesis.engine.session_state import SessionState
from mnesis.errors import LLMError
from mnesis.events.bus import EventBus, MnesisEvent
from mnesis.events.payloads import (
    CacheMissPayload,
    LlmRetryPayload,
    MessageCreatedPayload,
    PartCreatedPayload,
    SessionUpdatedPayload,
)
from mnesis.files.handler import LargeFileHandler
from mnesis.files.offload import may_need_offload, offload_large_parts
from mnesis.formats.request import Target
from mnesis.formats.request_digests import RequestDigests
from mnesis.llm.base import LLM
from mnesis.llm.connection import connection_options
from mnesis.llm.no_model import NoModel
from mnesis.llm.resolve import SwitchedLLM
from mnesis.llm.retry import Backoff
from mnesis.models.context import ActiveContext, Budget, Cover, Window, WindowOptions
from mnesis.models.dialects import PLAIN, PromptCache, find_dialect, for_own_client, match_dialect
from mnesis.models.message import Message, MessagePart, TextPart, ToolPart, ToolResultPart
from mnesis.models.results import CacheReport
from mnesis.models.sent_request import SentRequest
from mnesis.models.session import SessionRecord, UsageReport
from mnesis.redaction import Redaction, get_logger
from mnesis.session.cache_report import CacheAge, describe_request
from mnesis.store.base import Append, AppendResult, Store
from mnesis.store.embedding_store import embedding_store
from mnesis.store.file_storage import file_objects
from mnesis.store.redacting import redact_message, redacting_store
from mnesis.tokens.estimator import TokenCounter, parts_tokens
from mnesis.tokens.model_info import ModelInfo

logger = get_logger(__name__)

T = TypeVar("T")
MAX_OVERHEAD_FRACTION = 0.5
"""A fraction of the usable tokens. If the system prompt and tools take a larger fraction, a warning is logged."""
FOCUS_KEY = "mnesis_focus"
"""The key of the focus in the metadata of a session."""
MAX_RECALL_BLOCKS = 16
"""Results of automatic recall to remember. A turn needs one; readers with other queries must not displace it."""
MAX_CHARS_COUNTED_ON_LOOP = 100_000
"""Longer text is counted in a thread, because counting it would block the event loop noticeably."""


@dataclass
class SessionCore:
    """An open session: its id, configuration, model, prompt, budget and client, and the operations of a turn."""

    engine: Engine
    session_id: str
    config: MnesisConfig
    model: ModelInfo
    system_prompt: str
    budget: Budget
    count_tokens: TokenCounter
    llm: LLM
    shared: SessionState
    bus: EventBus
    backoff: Backoff = field(default_factory=Backoff)
    """The waits of this object's model calls before retries. `close()` ends them."""
    _targets: dict[tuple[str, bool], Target] = field(default_factory=dict, init=False, repr=False)
    _client_targets: dict[str, Target] = field(default_factory=dict, init=False, repr=False)
    _has_inherited_files: bool = field(default=False, init=False)

    @cached_property
    def files(self) -> LargeFileHandler:
        """The handler that imports the files of this session. Creating it does no I/O."""
        config = self.config.file
        is_same_provider = _provider_id(config.exploration_summary_model) == self.model.provider_id
        return LargeFileHandler(
            self.store,
            self.count_tokens,
            config,
            llm=None if isinstance(getattr(self.llm, "inner", None), NoModel) else self.llm,
            llm_options=connection_options(self.config.session.llm_options) if is_same_provider else None,
            redaction=self.redaction,
            read_key=self.config.store.read_encryption_key,
            objects=file_objects(config, self.engine.config.store, self.engine.path),
        )

    def may_need_offload(self, parts: Sequence[MessagePart]) -> bool:
        """Return whether `offload_large_parts()` could change any of these parts."""
        return may_need_offload(parts, self.config.file.inline_threshold)

    async def offload_large_parts(self, parts: Sequence[MessagePart]) -> list[MessagePart]:
        """Read the files among the parts, and store parts that are too large for a message. Raises a `FileError`."""
        return await offload_large_parts(parts, self.files)

    def request_target(self) -> Target:
        """Return the receiver of this session's requests: model, dialect and cache lifetime."""
        # A switched client may call another model at any time.
        model, is_provider = self.called_model(), bool(getattr(self.llm, "accepts_cache_marks", False))
        if (model, is_provider) not in self._targets:
            dialect = find_dialect(model, self.model.dialect)
            self._targets[model, is_provider] = Target(
                model,
                dialect if is_provider else for_own_client(dialect),
                context_limit=self.model.context_limit,
                cache_lifetime=self.config.session.prompt_cache if is_provider else "off",
                is_own_client=not is_provider,
            )
        return self._targets[model, is_provider]

    def called_model(self) -> str:
        """Return the model string that the session's client calls."""
        return (self.llm.model if isinstance(self.llm, SwitchedLLM) else None) or self.model.model_id

    def client_target(self, provider: str) -> Target:
        """Return the receiver of messages for the user's own client. "litellm" means the session's model."""
        if provider not in self._client_targets:
            target = Target.find(
                self.model.model_id,
                dialect=self.model.dialect if provider == "litellm" else provider,
                cache_lifetime=self.config.session.prompt_cache,
                awaits_user_message=True,
            )
            self._client_targets[provider] = target if provider == "anthropic" else target.for_users_client()
        return self._client_targets[provider]

    def now_ms(self) -> int:
        """Return the time of the engine's clock, in milliseconds since 1970."""
        return int(self.engine.clock() * 1_000)

    def describe_request(self, digests: RequestDigests, report: UsageReport) -> SentRequest:
        """Return the facts to store about a request that was just answered."""
        target = self.request_target()
        return describe_request(
            digests,
            report.usage,
            model=target.model,
            answered_at=self.now_ms(),
            fold_count=self.record.fold_count if report.fold_count is None else report.fold_count,
            lifetime_seconds=target.cache_lifetime_seconds,
        )

    def newest_cache(self) -> PromptCache | None:
        """Return the cache of the provider that answered the newest request. None if it has none."""
        target, newest = self.request_target(), self.record.last_request
        if newest is None or newest.model in (target.model, self.record.model):
            return target.dialect.cache
        return (match_dialect(newest.model) or PLAIN).cache

    def cache_age(self) -> CacheAge | None:
        """Return the age of the provider's cache of the newest request; None without a request or a known cache."""
        request = self.record.last_request
        if request is None or request.lifetime_seconds is None:
            return None
        used_at = max(request.answered_at, self.shared.used_cache_at)
        return CacheAge(request.answered_at, (self.now_ms() - used_at) / 1_000, request.lifetime_seconds)

    @cached_property
    def redaction(self) -> Redaction | None:
        """The function that replaces secrets before anything is stored, or None."""
        return self.config.redaction or self.engine.config.redaction

    @cached_property
    def store(self) -> Store:
        """The store, which redacts writes and searches with vectors if the session or the engine is configured so."""
        store = redacting_store(self.engine.store, self.config.redaction)
        if self.config.recall.vectors is None or self.config.recall == self.engine.config.recall:
            return store
        return embedding_store(store, self.config.recall.vectors, self.config.recall.vectors_name)

    @property
    def kept_window(self) -> KeptWindow:
        """The newest window of this object, which the next one continues."""
        return self.engine.kept_windows.find(id(self))

    @property
    def record(self) -> SessionRecord:
        """The newest known record of the session."""
        record = self.shared.record
        assert record is not None, "set when the session is opened"  # noqa: S101  # an invariant, not input
        return record

    async def append(
        self,
        messages: Sequence[Message],
        *,
        report: UsageReport | None = None,
        ends_turn: bool = False,
        fence: int | None = None,
        include_context: bool = False,
    ) -> AppendResult:
        """Count tokens, store the messages in one transaction, and publish the events.

        `fence` is the lease to write under; None means the one that this process holds now, if any. See `Append` for `include_context`.
        Cancelling the caller does not cancel a write that has started; its events are still published.
        """
        counted_messages = await self.count_messages(self.redact_messages(messages))
        append = Append(counted_messages, report, ends_turn, fence or self.shared.turn_fence, include_context)
        try:
            stored = await self.store.append(self.session_id, append)
        except asyncio.CancelledError:
            # The write may have started. Appending again is idempotent, and publishes what was committed.
            self.engine.spawn(self._append_again(append))
            raise
        self.shared.advance(stored.session)
        if stored.is_new:
            self._publish_stored(stored)
        return stored

    async def revise(
        self,
        hide: Sequence[tuple[int, int]],
        messages: Sequence[Message],
        last_seq: int,
        report: UsageReport | None = None,
    ) -> AppendResult:
        """Hide spans and append messages in one transaction, and publish the events. Completes even if cancelled."""
        counted_messages = await self.count_messages(self.redact_messages(messages))
        append = Append(counted_messages, report, fence=self.shared.turn_fence)
        write = self.store.revise(self.session_id, hide, append, last_seq=last_seq)
        return await self.run_to_completion(self._publish_revision(write))

    async def replace_covers(
        self,
        covers: Sequence[Cover],
        messages: Sequence[Message],
        read_covers: Sequence[Cover],
        last_seq: int,
        report: UsageReport | None = None,
    ) -> AppendResult:
        """Show the log under other covers, append messages, and publish the events. Completes even if cancelled."""
        counted_messages = await self.count_messages(self.redact_messages(messages))
        append = Append(counted_messages, report, fence=self.shared.turn_fence)
        write = self.store.replace_covers(self.session_id, covers, append, read_covers=read_covers, last_seq=last_seq)
        return await self.run_to_completion(self._publish_revision(write))

    def redact_messages(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages as they will be stored. The tokens of changed messages are counted again."""
        if self.redaction is None:
            return messages
        redacted = [redact_message(message, self.redaction) for message in messages]
        return [
            new if new is old else new.model_copy(update={"token_count": 0, "tool_tokens": 0})
            for old, new in zip(messages, redacted, strict=True)
        ]

    async def count_messages(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages with their token counts. Counts only those that have none."""
        for message in messages:
            if not message.token_count:
                return [await self.with_token_counts(message) for message in messages]
        return messages

    async def with_token_counts(self, message: Message) -> Message:
        """Return the message with its token counts. Counts them only if they are missing."""
        if message.token_count:
            return message
        tokens, tool_tokens = self.count_parts(message.parts)
        if not tokens:
            tokens, tool_tokens = await to_thread.run_sync(parts_tokens, message.parts, self.count_tokens)
        return message.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})

    def count_parts(self, parts: Sequence[MessagePart]) -> tuple[int, int]:
        """Count the tokens of a message with these parts, and of the tool outputs among them; (0, 0) if it is too long."""
        return parts_tokens(parts, self.count_tokens) if _char_count(parts) <= MAX_CHARS_COUNTED_ON_LOOP else (0, 0)

    async def run_to_completion(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result. It continues in the background if the caller is cancelled."""
        return await asyncio.shield(self.engine.spawn(coroutine))

    async def _append_again(self, append: Append) -> None:
        stored = await self.store.append(self.session_id, append)
        self.shared.advance(stored.session)
        self._publish_stored(stored)

    async def _publish_revision(self, write: Coroutine[Any, Any, AppendResult]) -> AppendResult:
        stored = await write
        self.shared.advance(stored.session)
        self._publish_stored(stored)
        return stored

    def _publish_stored(self, stored: AppendResult) -> None:
        if not self.bus.is_observed:
            return
        for message in stored.messages:
            if self.bus.has_handlers(MnesisEvent.MESSAGE_CREATED):
                payload = MessageCreatedPayload(
                    self.session_id, message.id, message.role, message.seq, message.token_count
                )
                self.bus.publish(MnesisEvent.MESSAGE_CREATED, payload)
            if self.bus.has_handlers(MnesisEvent.PART_CREATED):
                for index, part in enumerate(message.parts):
                    created = PartCreatedPayload(self.session_id, message.id, index, part.type)
                    self.bus.publish(MnesisEvent.PART_CREATED, created)
        self.publish_updated()

    def publish_updated(self) -> None:
        """Publish that the session changed."""
        if self.bus.has_handlers(MnesisEvent.SESSION_UPDATED):
            record = self.record
            payload = SessionUpdatedPayload(self.session_id, record.context_tokens, record.turn_count)
            self.bus.publish(MnesisEvent.SESSION_UPDATED, payload)

    async def window(
        self,
        *,
        system_prompt: str | None = None,
        reserved_tokens: int = 0,
        budget_tokens: int | None = None,
        message: str | None = None,
        now: datetime | None = None,
        forms: Mapping[int, Message] | None = None,
        options: WindowOptions | None = None,
        context: ActiveContext | None = None,
        shared: bool = False,
    ) -> Window:
        """Assemble the window for the next request.

        The budget is divided by the calibration: how much more the provider counts than the estimator. `message` is the
        next user message, if it is not stored yet; automatic recall searches for it. `forms` are shown instead of
        messages of the log, by `seq`. `now` is the time of the next message; None is the clock's. If `context` is None,
        it is read; see `Store.active_context` for `shared`.
        """
        if context is None:
            context = await self.store.active_context(self.session_id, shared=shared)
        self.shared.advance(context.session)
        context = with_forms(context, forms or {})
        available_tokens = int((budget_tokens or self.budget.usable_tokens) / context.session.calibration)
        is_recalling = self.config.recall.enabled and message != ""
        # A layout keeps whole turns, so it reserves tokens for recalled originals.
        recall_tokens = 0
        if is_recalling and options is not None:
            recall_tokens = max(min(self.config.recall.max_tokens, (available_tokens - reserved_tokens) // 3), 0)
        kept = self.kept_window
        kept.assembly = assemble_next(
            kept.assembly,
            context,
            budget_tokens=available_tokens - recall_tokens,
            count=(options and options.count_tokens) or self.count_tokens,
            system_prompt=self.system_prompt if system_prompt is None else system_prompt,
            reserved_tokens=reserved_tokens,
            options=options,
            budget=self.budget,
        )
        window = kept.assembly.window
        if recall_tokens:
            window = replace(window, budget_tokens=available_tokens)
        if budget_tokens is None:
            self._warn_of_overhead(window)
        return await self._with_recall(context, window, message, now) if is_recalling else window

    def _warn_of_overhead(self, window: Window) -> None:
        """Warn once if system prompt and tools leave so little that the context is compacted again and again."""
        overhead_tokens = window.system_tokens + window.reserved_tokens
        if self.shared.has_warned_of_overhead or overhead_tokens <= MAX_OVERHEAD_FRACTION * window.budget_tokens:
            return
        self.shared.has_warned_of_overhead = True
        logger.warning(
            "session %s: the system prompt (%s tokens) and the tool definitions (%s tokens) take %.0f %% of each request's"
            " usable tokens, so the conversation is compacted often; offer fewer tools, or use a model with a larger window",
            self.session_id,
            f"{window.system_tokens:,}",
            f"{window.reserved_tokens:,}",
            100 * overhead_tokens / window.budget_tokens,
        )

    @property
    def focus(self) -> str:
        """The subject that summaries keep above all and recall prefers, or ""."""
        return str(self.record.metadata.get(FOCUS_KEY, ""))

    async def set_focus(self, text: str) -> None:
        """Store the focus of the session; "" removes it."""
        record = await self.store.session(self.session_id)
        metadata = {key: value for key, value in record.metadata.items() if key != FOCUS_KEY}
        if text:
            metadata[FOCUS_KEY] = text
        self.shared.advance(await self.store.update_session(self.session_id, metadata=metadata))
        self.publish_updated()

    async def _with_recall(
        self, context: ActiveContext, window: Window, query: str | None, now: datetime | None
    ) -> Window:
        """Insert the originals that match the newest message before it."""
        await import_in_thread("mnesis.recall.automatic", "mnesis.search.word_lists")
        from mnesis.recall.automatic import asked_at, build_recall_block, insert_before, pending_user_message

        newest = pending_user_message(window.messages) if query is None else None
        if query is None:
            if newest is None:
                return window
            query = newest.text_content()
        key = (query, newest.id if newest else None, context.covers, now, self.focus)
        blocks = self.shared.recall_blocks
        if key not in blocks:
            block = await build_recall_block(
                self.store,
                context,
                window,
                query,
                self.config.recall,
                self.count_tokens,
                now or asked_at(newest),
                self.focus,
            )
            blocks[key] = block
            if len(blocks) > MAX_RECALL_BLOCKS:
                del blocks[next(iter(blocks))]
        block = blocks[key]
        if block is None or window.tokens + block.token_count > window.budget_tokens:
            return window
        return insert_before(window, block, newest)

    async def inherits_files(self) -> bool:
        """Return whether a parent of the session refers to stored files, which the session may read too."""
        # The log only grows, so a reference that was found remains valid. Sub-agents ask at every request.
        if not self._has_inherited_files:
            await import_in_thread("mnesis.recall.stored_files")
            from mnesis.recall.stored_files import inherits_files

            self._has_inherited_files = await inherits_files(self.store, self.record.parent_id)
        return self._has_inherited_files

    def publish_cache_miss(self, report: CacheReport) -> None:
        """Publish that the provider's cache missed, if it did."""
        if report.miss_cause is not None:
            payload = CacheMissPayload(
                self.session_id,
                report.miss_cause,
                report.expected_tokens,
                report.read_tokens,
                report.missed_tokens,
                self.model.model_id,
            )
            self.bus.publish(MnesisEvent.CACHE_MISS, payload)

    def publish_retry(self, attempt: int, error: LLMError, delay_seconds: float) -> None:
        """Publish that a model call is about to be retried."""
        payload = LlmRetryPayload(
            self.session_id,
            attempt,
            self.config.session.retry.max_retries,
            type(error).__name__,
            str(error),
            delay_seconds,
        )
        self.bus.publish(MnesisEvent.LLM_RETRY, payload)


def _provider_id(model: str | None) -> str:
    return ModelInfo.from_model_string(model).provider_id if model else ""


def _char_count(parts: Sequence[MessagePart]) -> int:
    total = 0
    for part in parts:
        if isinstance(part, TextPart):
            total += len(part.text)
        elif isinstance(part, ToolPart | ToolResultPart):
            total += len(part.output or "") + _char_count(part.output_parts)
        else:
            total += len(str(part))
    return total
