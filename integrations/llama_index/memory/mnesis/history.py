"""One session's messages as LlamaIndex reads and writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from anyio import to_thread
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.memory.mnesis.events import tell_replaced
from llama_index.memory.mnesis.messages import KEY, counted, digest, digests, from_record, to_record
from llama_index.memory.mnesis.revision import Case, Item, Plan, Shown, Span, plan_revision
from llama_index.memory.mnesis.view import Element, Insert, View, make_view

from mnesis import concurrency
from mnesis.errors import ContextIrreducibleError, StaleContextError
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.recall.automatic import asked_now, recalled
from mnesis.session.session import MnesisSession
from mnesis.tokens.estimator import TokenEstimator, pieces

Tokenizer = Callable[[str], Sequence[object]]
Count = Callable[[str], int]
T = TypeVar("T")

REVISION_TRIES = 20
# Preparing messages of more characters than this, or with media, would hold up the event loop noticeably.
PREPARE_IN_THREAD_CHARS = 100_000


def counter(tokenizer: Tokenizer | None) -> Count:
    """How tokens are counted when a message is stored: with the user's tokenizer, else as LlamaIndex does by default."""
    if tokenizer is None:
        estimator = TokenEstimator(encoding="cl100k_base")
        return estimator.estimate
    return lambda text: sum(len(tokenizer(piece)) for piece in pieces(text)) if text else 0


class History:
    """Reads and writes one session. Holds nothing but copies of what the store gave; any number may exist at once."""

    def __init__(self, session: MnesisSession, count: Count) -> None:
        self.session = session
        self._count = count
        self._context: ActiveContext | None = None
        self._emitted: tuple[ActiveContext, list[Message], int, Insert] | None = None
        self._recalled: tuple[int, Element] | None = None
        self._swept_at: SessionRecord | None = None
        self._compacting_elsewhere = 0
        self._covered: dict[str, tuple[bytes, ...]] = {}
        self._hashes: dict[int, tuple[bytes, ...]] = {}
        self._system: dict[int, Message] = {}

    async def add(self, messages: Sequence[ChatMessage]) -> list[Message]:
        """Store messages in one transaction. Returns them as they stand in the log."""
        records = await self._prepared(messages)
        if not records:
            return []
        last = records[-1]
        return await _on_serving_loop(self._added(records, last.role == "assistant" and not last.tool_calls))

    async def _added(self, records: list[Message], ends_turn: bool) -> list[Message]:
        stored = await self.session.append(records, ends_turn=ends_turn)
        await self._pin((), stored)
        return stored

    async def all(self) -> list[ChatMessage]:
        """Every message of the history: since the last reset, without what was rolled back; never compacted."""
        return [made for record in await self.records() for made in from_record(record)]

    async def records(self) -> list[Message]:
        """The messages of the log behind `all()`."""
        context = await self._read()
        store, found = self.session.engine.store, []
        for item in context.items:
            found += [item] if isinstance(item, Message) else await store.covered_messages(self.session.id, item.id)
        return found

    async def view(
        self, *, token_limit: int, reserved_tokens: int, insert: Insert, question: str | None = None
    ) -> View:
        """The view for one request that carries `reserved_tokens` besides. Over the limit the session is compacted first.

        With automatic recall, the originals that the newest user message asks for (or `question`, where that is not stored
        yet) stand right before it; the room for them is kept free."""
        context = await self._read()
        if context.session.context_tokens + reserved_tokens >= self.session.budget.usable_tokens:
            context = await self._compacted(context, reserved_tokens)
        pinned = await self._pinned(context)
        room, recall = token_limit - reserved_tokens, self.session.config.recall
        for_recall = min(recall.max_tokens, room // 3) if recall.enabled else 0
        self._emitted = (context, pinned, room - for_recall, insert)
        view = self._view(*self._emitted)
        self._recalled = await self._recall(context, view, for_recall, question) if for_recall > 0 else None
        return self._with_recalled(view)

    async def _recall(
        self, context: ActiveContext, view: View, room: int, question: str | None
    ) -> tuple[int, Element] | None:
        """What the newest question asks for and the view does not show, and its place in the view; None if there is nothing."""
        seqs = {element.seq for element in view.elements}
        messages = [item for item in context.items if isinstance(item, Message)]
        shown = tuple(message for message in messages if message.seq in seqs)
        window = Window(shown, "", 0, 0, room, omitted=len(messages) - len(shown))
        newest = asked_now(window)
        asked = newest.text_content() if newest is not None else question
        if not asked:
            return None
        store, config = self.session.engine.store, self.session.config.recall
        block = await recalled(store, context, window, asked, config, self._count)
        if block is None:
            return None
        places = [i for i, element in enumerate(view.elements) if newest is not None and element.seq == newest.seq]
        element = Element(ChatMessage(role=MessageRole.USER, content=block.text_content()), None)
        return (places[0] if places else len(view.elements)), element

    def _with_recalled(self, view: View) -> View:
        if self._recalled is None:
            return view
        place, element = self._recalled
        tokens = view.tokens + self._count(element.message.content or "")
        return View((*view.elements[:place], element, *view.elements[place:]), tokens)

    async def replace(self, messages: Sequence[ChatMessage], *, token_limit: int, insert: Insert) -> Case:
        """Make the history these messages; see `plan_revision`. One transaction; what is replaced stays in the log."""
        records = await self._prepared(messages)
        wanted = [one for record in records for one in digests(record)]
        for _ in range(REVISION_TRIES):
            context = await self._read()
            plan = await self._planned(context, wanted, token_limit, insert)
            if plan.case == "unchanged" or (not plan.hide and plan.new_from == len(records)):
                return "unchanged"
            try:
                await _on_serving_loop(self._revised(plan, records, context.session.last_seq))
            except StaleContextError:
                continue
            tell_replaced(self.session.id, plan.case)
            return plan.case
        raise StaleContextError(
            f"session {self.session.id!r}: {REVISION_TRIES} times in a row others wrote while its history was being replaced"
        )

    async def _revised(self, plan: Plan, records: list[Message], last_seq: int) -> None:
        stored = await self.session.revise(hide=plan.hide, messages=records[plan.new_from :], last_seq=last_seq)
        await self._pin(plan.hide, stored)

    async def _prepared(self, messages: Sequence[ChatMessage]) -> list[Message]:
        def prepare() -> list[Message]:
            return [counted(to_record(message), self._count) for message in messages]

        if _is_plain(messages):
            return prepare()
        return await to_thread.run_sync(prepare)

    async def _read(self) -> ActiveContext:
        """The active context; read again only if the session's record says that anything changed."""
        store = self.session.engine.store
        if self._context is None or self._context.session != await store.session(self.session.id):
            self._context = await store.active_context(self.session.id)
        return self._context

    async def _compacted(self, context: ActiveContext, reserved_tokens: int) -> ActiveContext:
        # A synchronous caller must not wait for a compaction that runs in the very loop it holds up.
        serving = _is_serving_loop()
        if self._swept_at == context.session or (serving and self._compacting_elsewhere):
            return context
        self._compacting_elsewhere += not serving
        # The view is made to fit whatever the session could do.
        try:
            with suppress(ContextIrreducibleError, StaleContextError):
                await self.session.window(reserved_tokens=reserved_tokens)
        finally:
            self._compacting_elsewhere -= not serving
        context = await self._read()
        self._swept_at = context.session
        return context

    def _view(self, context: ActiveContext, pinned: Sequence[Message], room: int, insert: Insert) -> View:
        return make_view(context, pinned, room_tokens=room, insert=insert, count=self._count)

    async def _planned(self, context: ActiveContext, wanted: Sequence[bytes], token_limit: int, insert: Insert) -> Plan:
        items = [await self._item(item) for item in context.items]
        current = (context, await self._pinned(context), token_limit, insert)
        seen = self._emitted
        # What was taken out of the history since a view was handed out cannot be referred to by that view any more.
        known = seen is not None and seen != current and _taken_out(seen[0]) == _taken_out(context)
        sources = [seen, current] if seen is not None and known else [current]
        views = [Shown((*self._elements(source), *_newer(source[0], context, items))) for source in sources]
        return plan_revision(items, views, wanted, context.session.last_seq)

    def _elements(self, source: tuple[ActiveContext, list[Message], int, Insert]) -> Iterable[tuple[bytes, int | None]]:
        view = self._view(*source)
        if source is self._emitted:
            view = self._with_recalled(view)
        return [(digest(element.message), element.seq) for element in view.elements]

    async def _item(self, item: Summary | Message) -> Item:
        if isinstance(item, Message):
            if item.seq not in self._hashes:
                self._hashes[item.seq] = digests(item)
            return Item(item.seq, item.seq, self._hashes[item.seq])
        if item.id not in self._covered:
            behind = await self.session.engine.store.covered_messages(self.session.id, item.id)
            self._covered[item.id] = tuple(one for message in behind for one in digests(message))
        return Item(item.first_seq, item.last_seq, self._covered[item.id])

    async def _pinned(self, context: ActiveContext) -> list[Message]:
        """System messages that were put in and are folded by now."""
        shown = {item.seq for item in context.items if isinstance(item, Message)}
        gone = [cover for cover in context.covers if cover.summary_id is None]
        folded = [
            seq
            for seq in _pins(context.session)
            if seq not in shown and not any(cover.first_seq <= seq <= cover.last_seq for cover in gone)
        ]
        for seq in folded:
            if seq not in self._system:
                store = self.session.engine.store
                (self._system[seq],) = await store.messages(self.session.id, after_seq=seq - 1, until_seq=seq)
        return [self._system[seq] for seq in folded]

    async def _pin(self, hidden: Iterable[Span], stored: Iterable[Message]) -> None:
        """Note where system messages stand, so that they stay in views when they are folded."""
        spans = list(hidden)
        new = [message.seq for message in stored if message.role == "system"]
        if not new and not spans:
            return
        store = self.session.engine.store
        record = await store.session(self.session.id)
        before = _pins(record)
        kept = [seq for seq in before if not any(first <= seq <= last for first, last in spans)]
        after = sorted({*kept, *new})
        if after != before:
            await store.update_session(self.session.id, metadata={**record.metadata, KEY: {"system": after}})


def _taken_out(context: ActiveContext) -> list[Span]:
    return [(cover.first_seq, cover.last_seq) for cover in context.covers if cover.summary_id is None]


def _is_serving_loop() -> bool:
    return asyncio.get_running_loop() is concurrency.background_loop()


async def _on_serving_loop(work: Coroutine[Any, Any, T]) -> T:
    """Do a write on the loop that serves synchronous calls, and to its end, whoever waits for it.

    A write holds the session while it lasts. In the caller's own loop it would stand still as soon as somebody makes a
    synchronous call there, and that call would wait for it for ever.
    """
    if _is_serving_loop():
        return await work
    return await asyncio.shield(
        asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, concurrency.background_loop()))
    )


def _pins(record: SessionRecord) -> list[int]:
    noted = record.metadata.get(KEY)
    return list(noted.get("system", ())) if isinstance(noted, dict) else []


def _newer(seen: ActiveContext, now: ActiveContext, items: Sequence[Item]) -> Iterable[tuple[bytes, int | None]]:
    """What came into the history after a view of it was handed out."""
    return (
        [(one, item.first_seq) for item in items if item.first_seq > seen.session.last_seq for one in item.hashes]
        if seen.session != now.session
        else []
    )


def _is_plain(messages: Sequence[ChatMessage]) -> bool:
    total = 0
    for message in messages:
        for block in getattr(message, "blocks", ()):
            if type(block) is not TextBlock and block.block_type not in ("tool_call", "thinking"):
                return False
            total += len(getattr(block, "text", ""))
    return total <= PREPARE_IN_THREAD_CHARS
