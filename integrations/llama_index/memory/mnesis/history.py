"""`History`: the messages of one session, as LlamaIndex reads and writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from anyio import to_thread
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.memory.mnesis.events import publish_replaced
from llama_index.memory.mnesis.messages import EXTRA_KEY, digest, digests, from_record, to_record, with_token_counts
from llama_index.memory.mnesis.revision import Case, ContextItem, RevisionPlan, SeenView, Span, plan_revision
from llama_index.memory.mnesis.view import VIEW_OPTIONS, SummaryPlacement, View, render_view

from mnesis import concurrency
from mnesis.errors import ContextIrreducibleError, StaleContextError, SummaryNotFoundError
from mnesis.models.context import ActiveContext, Window, find_cover
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.recall.automatic import pending_user_message
from mnesis.session.conversion_cache import ConversionCache
from mnesis.session.session import MnesisSession
from mnesis.tokens.encodings import preload_encoding
from mnesis.tokens.estimator import TokenCounter, TokenEstimator, split_text

Tokenizer = Callable[[str], Sequence[object]]
T = TypeVar("T")

MAX_REVISION_ATTEMPTS = 20
"""Attempts to replace the history while other writers store messages. Each one plans from the current context."""
MAX_CHARS_ON_LOOP = 100_000
"""Converting and counting more characters than this, or media, would block the event loop noticeably."""


async def token_counter(tokenizer: Tokenizer | None) -> TokenCounter:
    """Return the function that counts tokens: with `tokenizer`, or with LlamaIndex's default encoding."""
    if tokenizer is None:
        await preload_encoding("cl100k_base")
        estimator = TokenEstimator(encoding="cl100k_base")
        return estimator.estimate
    return lambda text: sum(len(tokenizer(piece)) for piece in split_text(text)) if text else 0


class _Shown(NamedTuple):
    """A window, and the context that it was made from."""

    context: ActiveContext
    window: Window


class History:
    """Reads and writes the messages of one session.

    It only caches data of the store, so any number of histories may exist for one session.
    """

    def __init__(self, session: MnesisSession, count: TokenCounter) -> None:
        self.session = session
        self._count = count
        self._last_shown: _Shown | None = None
        self._compacted_at: SessionRecord | None = None
        self._compactions_on_caller_loops = 0
        self._summary_digests: dict[str, tuple[bytes, ...]] = {}
        self._message_digests: dict[int, tuple[bytes, ...]] = {}
        self._system_messages: dict[int, Message] = {}
        self._converted: ConversionCache[ChatMessage] = ConversionCache()

    async def add(self, messages: Sequence[ChatMessage], model: str | None = None) -> list[Message]:
        """Store messages in one transaction and return their records in the log. `model` answered, if known."""
        records = await self._prepare(messages)
        if not records:
            return []
        last = records[-1]
        return await _run_on_background_loop(
            self._append(records, last.role == "assistant" and not last.tool_calls, model)
        )

    async def _append(self, records: list[Message], ends_turn: bool, model: str | None) -> list[Message]:
        stored = await self.session.append(records, ends_turn=ends_turn, model=model)
        await self._update_pins((), stored)
        return stored

    async def all_messages(self) -> list[ChatMessage]:
        """Return every message since the last reset, except those that were rolled back. Nothing is summarised."""
        return [message for record in await self.records() for message in from_record(record)]

    async def records(self) -> list[Message]:
        """Return the messages of the log that `all_messages` converts."""
        context = await self.session.engine.store.active_context(self.session.id)
        store, records = self.session.engine.store, []
        for item in context.items:
            records += [item] if isinstance(item, Message) else await store.covered_messages(self.session.id, item.id)
        return records

    async def read_view(
        self, *, token_limit: int, reserved_tokens: int, placement: SummaryPlacement, question: str | None = None
    ) -> View:
        """Return the view for a request that contains `reserved_tokens` of other content.

        The session is compacted first if the context exceeds its budget, or the provider's cache has expired. With
        automatic recall, part of the limit is reserved for the originals that match the newest user message, or
        `question` if that message is not stored yet. They are placed directly before the user message.
        """
        context = await self._read_context()
        is_over = context.session.context_tokens + reserved_tokens >= self.session.budget.usable_tokens
        if is_over or self.session.is_compaction_due(reserved_tokens=reserved_tokens):
            context = await self._compact(context, reserved_tokens)
        # The next request repeats an unanswered question of the log.
        message = None if _has_open_question(context) else question
        self._last_shown = await self._show(context, token_limit, reserved_tokens, message)
        return self._render(self._last_shown, placement)

    async def _show(
        self, context: ActiveContext, token_limit: int, reserved_tokens: int = 0, message: str | None = ""
    ) -> _Shown:
        """Return the window of a context. `message` is the question to recall originals for; "" recalls nothing."""
        pinned = tuple(await self._read_folded_system_messages(context))
        options = replace(VIEW_OPTIONS, pinned_system_messages=pinned, count_tokens=self._count)
        window = await self.session.window(
            context=context,
            system_prompt="",
            reserved_tokens=reserved_tokens,
            budget_tokens=token_limit,
            message=message,
            options=options,
        )
        return _Shown(context, window)

    def _render(self, shown: _Shown, placement: SummaryPlacement) -> View:
        stored = {item.id: item for item in shown.context.items if isinstance(item, Message)}
        return render_view(shown.window, stored, placement, self._converted)

    def _view_digests(self, shown: _Shown, placement: SummaryPlacement) -> Iterable[tuple[bytes, int | None]]:
        view = self._render(shown, placement)
        return list(zip(map(digest, view.messages), view.seqs, strict=True))

    async def replace(self, messages: Sequence[ChatMessage], *, token_limit: int, placement: SummaryPlacement) -> Case:
        """Replace the history in one transaction; see `plan_revision`. The log keeps the replaced messages."""
        records = await self._prepare(messages)
        target = [value for record in records for value in digests(record)]
        for _ in range(MAX_REVISION_ATTEMPTS):
            context = await self._read_context()
            plan = await self._plan_replacement(context, target, await self._show(context, token_limit), placement)
            if plan.case == "unchanged" or (not plan.hide and plan.new_from == len(records)):
                return "unchanged"
            try:
                if plan.unfold is not None:
                    await _run_on_background_loop(self.session.unfold(plan.unfold))
                    continue
                await _run_on_background_loop(self._revise(plan, records, context.session.last_seq))
            except (StaleContextError, SummaryNotFoundError):  # another writer changed the context
                continue
            publish_replaced(self.session.id, plan.case)
            return plan.case
        raise StaleContextError(
            f"session {self.session.id!r} changed during each of {MAX_REVISION_ATTEMPTS} attempts to replace its history;"
            " try again when fewer writers use it"
        )

    async def _revise(self, plan: RevisionPlan, records: list[Message], last_seq: int) -> None:
        stored = await self.session.revise(hide=plan.hide, messages=records[plan.new_from :], last_seq=last_seq)
        await self._update_pins(plan.hide, stored)

    async def _prepare(self, messages: Sequence[ChatMessage]) -> list[Message]:
        def prepare() -> list[Message]:
            records = self.session.redact([to_record(message) for message in messages])
            return [with_token_counts(record, self._count) for record in records]

        if _is_quick_to_prepare(messages):
            return prepare()
        return await to_thread.run_sync(prepare)

    async def _read_context(self) -> ActiveContext:
        """Return the active context, whose messages are shared with other readers."""
        return await self.session.engine.store.active_context(self.session.id, shared=True)

    async def _compact(self, context: ActiveContext, reserved_tokens: int) -> ActiveContext:
        # A synchronous caller must not wait for a compaction in an event loop that the caller itself blocks.
        is_background = _is_background_loop()
        if self._compacted_at == context.session or (is_background and self._compactions_on_caller_loops):
            return context
        self._compactions_on_caller_loops += not is_background
        # The view fits even if the session cannot be compacted.
        try:
            with suppress(ContextIrreducibleError, StaleContextError):
                await self.session.compact_if_due(reserved_tokens=reserved_tokens)
        finally:
            self._compactions_on_caller_loops -= not is_background
        context = await self._read_context()
        self._compacted_at = context.session
        return context

    async def _plan_replacement(
        self, context: ActiveContext, target: Sequence[bytes], current: _Shown, placement: SummaryPlacement
    ) -> RevisionPlan:
        items = [await self._context_item(item) for item in context.items]
        last = self._last_shown
        # A view is invalid if messages were hidden after it was returned.
        is_valid = last is not None and _hidden_spans(last.context) == _hidden_spans(context)
        views = [
            SeenView((*self._view_digests(shown, placement), *_digests_since(shown.context, context, items)))
            for shown in ([last, current] if last is not None and is_valid else [current])
        ]
        return plan_revision(items, views, target, context.session.last_seq)

    async def _context_item(self, item: Summary | Message) -> ContextItem:
        if isinstance(item, Message):
            if item.seq not in self._message_digests:
                self._message_digests[item.seq] = digests(item)
            return ContextItem(item.seq, item.seq, self._message_digests[item.seq])
        if item.id not in self._summary_digests:
            covered_messages = await self.session.engine.store.covered_messages(self.session.id, item.id)
            self._summary_digests[item.id] = tuple(value for message in covered_messages for value in digests(message))
        return ContextItem(item.first_seq, item.last_seq, self._summary_digests[item.id], item.id)

    async def _read_folded_system_messages(self, context: ActiveContext) -> list[Message]:
        """Return the system messages that were stored through this adapter and are now folded."""
        visible_seqs = {item.seq for item in context.items if isinstance(item, Message)}
        hidden_covers = [cover for cover in context.covers if cover.summary_id is None]
        folded_seqs = [
            seq for seq in _pins(context.session) if seq not in visible_seqs and find_cover(hidden_covers, seq) is None
        ]
        for seq in folded_seqs:
            if seq not in self._system_messages:
                store = self.session.engine.store
                (self._system_messages[seq],) = await store.messages(self.session.id, after_seq=seq - 1, until_seq=seq)
        return [self._system_messages[seq] for seq in folded_seqs]

    async def _update_pins(self, hidden: Iterable[Span], stored: Iterable[Message]) -> None:
        """Record the seqs of system messages, so that views still contain them after they are folded."""
        spans = list(hidden)
        new_seqs = [message.seq for message in stored if message.role == "system"]
        if not new_seqs and not spans:
            return
        store = self.session.engine.store
        record = await store.session(self.session.id)
        current_pins = _pins(record)
        kept_seqs = [seq for seq in current_pins if not any(first <= seq <= last for first, last in spans)]
        new_pins = sorted({*kept_seqs, *new_seqs})
        if new_pins != current_pins:
            await store.update_session(self.session.id, metadata={**record.metadata, EXTRA_KEY: {"system": new_pins}})


def _has_open_question(context: ActiveContext) -> bool:
    """Return whether the newest user message of a context has no answer yet."""
    messages = tuple(item for item in context.items if isinstance(item, Message))
    return pending_user_message(messages) is not None


def _hidden_spans(context: ActiveContext) -> list[Span]:
    return [(cover.first_seq, cover.last_seq) for cover in context.covers if cover.summary_id is None]


def _is_background_loop() -> bool:
    return asyncio.get_running_loop() is concurrency.background_loop()


async def _run_on_background_loop(write: Coroutine[Any, Any, T]) -> T:
    """Run a write on the background loop of synchronous calls. Cancelling the caller does not cancel the write.

    A write locks the session. In the caller's own loop, a synchronous call would block the loop, the write could not
    run, and the call would wait forever.
    """
    if _is_background_loop():
        return await write
    return await asyncio.shield(
        asyncio.wrap_future(asyncio.run_coroutine_threadsafe(write, concurrency.background_loop()))
    )


def _pins(record: SessionRecord) -> list[int]:
    metadata = record.metadata.get(EXTRA_KEY)
    return list(metadata.get("system", ())) if isinstance(metadata, dict) else []


def _digests_since(
    earlier: ActiveContext, current: ActiveContext, items: Sequence[ContextItem]
) -> Iterable[tuple[bytes, int | None]]:
    """Return the digests of messages that were stored after an earlier context."""
    return (
        [
            (digest, item.first_seq)
            for item in items
            if item.first_seq > earlier.session.last_seq
            for digest in item.digests
        ]
        if earlier.session != current.session
        else []
    )


def _is_quick_to_prepare(messages: Sequence[ChatMessage]) -> bool:
    total_chars = 0
    for message in messages:
        for block in getattr(message, "blocks", ()):
            if type(block) is not TextBlock and block.block_type not in ("tool_call", "thinking"):
                return False
            total_chars += len(getattr(block, "text", ""))
    return total_chars <= MAX_CHARS_ON_LOOP
