"""`MnesisSession`: one conversation that is kept whole and always fits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Literal

from mnesis.concurrency import RunOnce
from mnesis.config import MnesisConfig
from mnesis.display.panel import Panel, context_bar
from mnesis.display.shown import Shown
from mnesis.engine.engine import Engine
from mnesis.errors import (
    ConfigurationError,
    InvalidMessageError,
)
from mnesis.events.bus import EventBus, Handler, MnesisEvent, Unsubscribe
from mnesis.events.payloads import SessionClosedPayload, SessionCreatedPayload
from mnesis.formats.anthropic import anthropic_messages
from mnesis.formats.openai import chat_messages
from mnesis.formats.parse import Content, draft, messages_of, parts_of, user_messages
from mnesis.models.context import Window
from mnesis.models.message import FilePart, Message, MessagePart, TextPart
from mnesis.models.results import (
    CompactionResult,
    RecordResult,
    TextDelta,
    TurnComplete,
    TurnResult,
)
from mnesis.models.session import UsageReport
from mnesis.models.usage import TokenUsage
from mnesis.session.compactor import Upkeep
from mnesis.session.open import Opened, Opening, load_existing, open_or_create
from mnesis.session.reader import Lookback
from mnesis.session.turn import OnPart, Turn, refuse_from_inside
from mnesis.tools.toolset import Toolset

DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant."
HANDLER_GRACE_SECONDS = 10.0
PINNED_SHARE = 0.25
"""Of the soft threshold, so that what cannot be folded never keeps the context above it."""


class MnesisSession(Lookback, Shown):
    """A conversation with a model, kept verbatim in a database, sent as a view that fits the model's window.

    Made by `open()` (a context manager), `create()` or `load()`. Safe to share between tasks: turns are taken one after
    the other. Every method raises `SessionClosedError` once the session is closed.
    """

    def __init__(self, opened: Opened) -> None:
        self._scope = opened.scope
        self._upkeep = Upkeep(opened.scope)
        self._owns_engine = opened.owns_engine
        self._created = opened.created
        self._closed = False
        self._end = RunOnce(self._close)
        self._turns: set[asyncio.Task[TurnResult]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        model: str | None,
        system_prompt: str | None = None,
        session_id: str | None = None,
        agent: str = "default",
        parent_id: str | None = None,
        config: MnesisConfig | None = None,
        db_path: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> AsyncIterator[MnesisSession]:
        """Create a session, or open the one named `session_id`, and close it at the end of the block. See `create()`."""
        session = await cls.create(
            model=model,
            system_prompt=system_prompt,
            session_id=session_id,
            agent=agent,
            parent_id=parent_id,
            config=config,
            db_path=db_path,
            engine=engine,
            llm=llm,
        )
        try:
            yield session
        finally:
            await session.close()

    @classmethod
    async def create(
        cls,
        *,
        model: str | None,
        system_prompt: str | None = None,
        session_id: str | None = None,
        agent: str = "default",
        parent_id: str | None = None,
        config: MnesisConfig | None = None,
        db_path: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> MnesisSession:
        """Create a session, or open the one named `session_id`: any non-empty string is a name.

        `model` is a litellm model string, used from now on also for a session that was begun with another one; so is
        `system_prompt` where it is given ("You are a helpful assistant." for new sessions by default). `model=None` keeps the
        model of a session that exists; a new one is then only recorded, and compacted without a model. `db_path` or
        `config.store.db_path` say where the database is; `engine` brings its own. `llm` is a client to use instead of litellm:
        an object as in `mnesis.llm.base.LLM` or a function `messages -> str`.

        Raises `ConfigurationError` for settings that cannot work with the model, `SessionNotFoundError` for an unknown
        `parent_id`, and the store's errors. Nothing stays open when it raises.
        """
        opened = await open_or_create(
            Opening(config, db_path, engine, llm),
            model=model,
            system_prompt=system_prompt,
            session_id=session_id,
            agent=agent,
            parent_id=parent_id,
        )
        session = cls(opened)
        if opened.created:
            session._tell_created()
        return await session._resumed()

    @classmethod
    async def load(
        cls,
        session_id: str,
        config: MnesisConfig | None = None,
        db_path: str | os.PathLike[str] | None = None,
        *,
        engine: Engine | None = None,
        llm: object | None = None,
        model: str | None = None,
    ) -> MnesisSession:
        """Open a session that exists, with its system prompt, model (unless `model` is given), context and history.

        A compaction that a crash left undone is taken up again. Raises `SessionNotFoundError`, which names id and
        database; no database is created for it.
        """
        opened = await load_existing(Opening(config, db_path, engine, llm), session_id, model)
        return await cls(opened)._resumed()

    async def send(
        self,
        message: Content,
        *,
        tools: Iterable[Any] | None = None,
        on_part: OnPart | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
    ) -> TurnResult:
        """Send a message and get the answer, stored both.

        `message` is a string or a list of parts (text, images, files, results of earlier tool calls). A `pathlib.Path` or a
        `FilePart(path=…)` is read from the disk. Files and tool outputs larger than `FileConfig.inline_threshold` are stored
        beside the log, and the message refers to them. `tools` are provider
        dicts, whose calls come back as `result.tool_calls` to be answered with the next `send()`, and functions or
        `ToolSpec`s, which the session runs itself, side by side, for at most `max_tool_rounds` rounds. `on_part` is called
        with parts as they arrive. `system_prompt` and `llm_options` (temperature, …) hold for this turn.

        Raises `InvalidMessageError`, `ToolDefinitionError` and `FileError` before anything is stored; an `LLMError` when the model gives
        no answer: then the message is kept, and the next `send()` goes on from it.
        """
        drafts, toolset = self._prepared(message, tools, system_prompt, on_part)
        drafts = await self._with_files(drafts)
        turn = Turn(self._scope, self._upkeep, drafts, toolset, system_prompt, dict(llm_options or {}), on_part)
        return await self._taken(turn)

    async def stream(
        self,
        message: Content,
        *,
        tools: Iterable[Any] | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[TextDelta | TurnComplete]:
        """`send()`, with `TextDelta` events as the provider sends them, then one `TurnComplete`.

        Whoever stops listening (break, an exception, cancellation) does not stop the turn: it is completed and stored,
        and `close()` waits for it. Raises as `send()`; retries happen only before the first delta.
        """
        drafts, toolset = self._prepared(message, tools, system_prompt)
        drafts = await self._with_files(drafts)
        pieces: asyncio.Queue[TextDelta | None] = asyncio.Queue()

        def hand_on(part: MessagePart) -> None:
            if isinstance(part, TextPart) and part.text:
                pieces.put_nowait(TextDelta(text=part.text))

        turn = Turn(self._scope, self._upkeep, drafts, toolset, system_prompt, dict(llm_options or {}), hand_on)
        task = self._scope.engine.start(self._taken(turn))
        self._turns.add(task)
        task.add_done_callback(self._turns.discard)
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        task.add_done_callback(_retrieve)
        while (piece := await pieces.get()) is not None:
            yield piece
        yield TurnComplete(result=await asyncio.shield(task))

    async def record(
        self,
        user_message: Content,
        assistant_response: Content,
        *,
        tokens: TokenUsage | None = None,
        finish_reason: str = "stop",
        cost: float = 0.0,
        user_message_id: str | None = None,
        assistant_message_id: str | None = None,
        created_at: int | None = None,
    ) -> RecordResult:
        """Store a turn that was made elsewhere, both messages in one transaction, and see to the context.

        `tokens` is the usage the provider reported; without it the text is counted. Tool calls may be among the parts of
        the response, with their outputs; files and large outputs are taken in as by `send()`. With ids of your own the call may be repeated safely: what is stored already is
        not stored again. `created_at` is when it was said, in milliseconds since 1970, where that was not now.
        """
        asked, answered = parts_of(user_message), parts_of(assistant_response)
        self._check_open()
        refuse_from_inside(self.id)
        if not asked or not answered:
            raise InvalidMessageError("a turn needs a user message and a response; one of them has no parts")
        if tokens is not None and not isinstance(tokens, TokenUsage):
            raise InvalidMessageError(f"tokens is a TokenUsage, not {tokens!r}")
        if self._scope.needs_intake(asked) or self._scope.needs_intake(answered):
            asked, answered = await self._scope.taken_in(asked), await self._scope.taken_in(answered)
        count = self._scope.count_parts
        said = messages_of(asked, id=user_message_id, count=count)
        reply = draft(
            "assistant",
            answered,
            id=assistant_message_id,
            count=count,
            model_id=self.model,
            tokens=tokens,
            cost=cost,
            finish_reason=finish_reason,
        )
        if created_at is not None:
            moment = {"created_at": created_at}
            said, reply = [m.model_copy(update=moment) for m in said], reply.model_copy(update=moment)
        async with self._scope.runtime.turn:
            self._check_open()
            counted = [m if m.token_count else await self._scope.counted(m) for m in (*said, reply)]
            report = _report(counted, reply.tokens, reply.cost)
            stored = await self._scope.append(counted, report=report, ends_turn=True)
            looping = self._scope.note_calls(reply.tool_calls) if stored.fresh else False
            triggered = await self._upkeep.nudge()
        return RecordResult(
            user_message_id=said[-1].id,
            assistant_message_id=reply.id,
            tokens=report.usage,
            compaction_triggered=triggered,
            doom_loop_detected=looping,
        )

    async def append(
        self, messages: Sequence[Message], *, tokens: TokenUsage | None = None, ends_turn: bool = False
    ) -> list[Message]:
        """Store messages as they are, in one transaction; for adapters and importers. Returns them with their `seq`.

        Repeating it is safe: messages are known by their ids. `tokens` is a provider's report that came with them.
        """
        self._check_open()
        refuse_from_inside(self.id)
        if not messages:
            return []
        if any(message.is_summary for message in messages):
            raise InvalidMessageError("a summary is no message of the log; summaries are made by compaction")
        for message in messages:
            _refuse_unread_files(message)
        async with self._scope.runtime.turn:
            self._check_open()
            report = UsageReport(tokens, "inferred") if tokens is not None else None
            stored = await self._scope.append(messages, report=report, ends_turn=ends_turn)
            if stored.fresh:
                for message in messages:
                    self._scope.note_calls(message.tool_calls)
            await self._upkeep.nudge()
        return list(stored.messages)

    async def window(
        self,
        *,
        system_prompt: str | None = None,
        reserved_tokens: int = 0,
        budget_tokens: int | None = None,
        message: str | None = None,
    ) -> Window:
        """What the model would be sent now, as values. Over the hard threshold the context is compacted first.

        `reserved_tokens` are what the request carries beside prompt and messages (tool definitions). `budget_tokens` is
        what it may take altogether, where that is less than the session's own budget. `message` is what the user is going
        to say next, for automatic recall; by default it looks for the newest message, if that has no answer yet.
        """
        self._check_open()
        if message is not None and not isinstance(message, str):
            raise InvalidMessageError(f"message is what the user is going to say, a string, not {message!r}")
        await self._upkeep.make_room(reserved_tokens)
        return await self._scope.window(
            system_prompt=system_prompt, reserved_tokens=reserved_tokens, budget_tokens=budget_tokens, message=message
        )

    async def context_for_next_turn(
        self,
        system_prompt: str | None = None,
        *,
        provider: Literal["openai", "anthropic"] = "openai",
        message: str | None = None,
    ) -> list[dict[str, Any]]:
        """The window as messages for your own client, without the system prompt; add the next user message and send it.

        `provider` "openai" gives chat-completions dicts, "anthropic" content blocks with alternating roles. A
        `system_prompt` other than the session's is taken into account for the room it needs. With automatic recall on,
        `message` is what the user is going to say: the originals it asks for come last, so that it follows them.
        """
        if provider not in ("openai", "anthropic"):
            raise ConfigurationError(f"provider is 'openai' or 'anthropic', not {provider!r}")
        window = await self.window(system_prompt=system_prompt, message=message)
        return anthropic_messages(window.messages) if provider == "anthropic" else chat_messages(window.messages)

    async def compact(self) -> CompactionResult:
        """Fold everything but the two newest user turns now. `level_used` 0 if there is nothing to fold."""
        self._check_open()
        result = await self._upkeep.sweep("manual")
        assert result is not None, "a manual sweep is never needless"  # noqa: S101  # an invariant, not input
        return result

    async def hide(self, first_seq: int, last_seq: int) -> None:
        """Take messages `first_seq` to `last_seq` out of the active context; the log keeps them.

        Summaries that lie inside the span give way; one that reaches over its edge raises `StaleContextError`."""
        self._check_open()
        refuse_from_inside(self.id)
        async with self._scope.runtime.turn:
            self._scope.runtime.state = await self._scope.store.hide(self.id, first_seq, last_seq)
            self._scope.tell_updated()

    async def revise(
        self, *, hide: Sequence[tuple[int, int]], messages: Sequence[Message], last_seq: int
    ) -> list[Message]:
        """Take spans (first and last seq) out of the active context and append messages, in one transaction.

        For adapters whose framework replaces a history: what is replaced stays in the log. `last_seq` is where the log
        ended when the caller decided; raises `StaleContextError`, with nothing written, if it ends elsewhere by now,
        and as `hide()` does. Returns the messages with their `seq`."""
        self._check_open()
        refuse_from_inside(self.id)
        async with self._scope.runtime.turn:
            self._check_open()
            stored = await self._scope.revise(hide, messages, last_seq)
            await self._upkeep.nudge()
        return list(stored.messages)

    async def start_epoch(self) -> None:
        """Begin with an empty context: everything so far leaves it; the log keeps it."""
        self._check_open()
        last = (await self._scope.store.session(self.id)).last_seq
        if last:
            await self.hide(1, last)

    async def pin(self, message_id: str) -> None:
        """Keep a message in the context verbatim, whatever is folded; of a call and its results all stay.

        Raises `MessageNotFoundError`; `StaleContextError` if it is folded already (`pin_fact` says it again);
        `ConfigurationError` if pinned messages would take more than a quarter of the soft threshold.
        """
        self._check_open()
        message = await self._scope.store.message(self.id, message_id)
        await self._refuse_heavy_pin(message)
        await self._scope.store.pin(self.id, message.seq)

    async def pin_fact(self, fact: str) -> Message:
        """Add a fact to the conversation, as a message of the user, and pin it. Returns the message.

        Raises `ConfigurationError` as `pin()` does; then nothing was added."""
        if not fact.strip():
            raise InvalidMessageError("nothing to pin: the fact is empty")
        drafts = [await self._scope.counted(draft) for draft in user_messages(f"[Pinned] {fact}")]
        await self._refuse_heavy_pin(drafts[0])
        (message,) = await self.append(drafts)
        await self._scope.store.pin(self.id, message.seq)
        return message

    async def _refuse_heavy_pin(self, message: Message) -> None:
        pinned = [each for each in await self.pins() if each.id != message.id]
        tokens = message.token_count + sum(each.token_count for each in pinned)
        if tokens > self.budget.soft_tokens * PINNED_SHARE:
            raise ConfigurationError(
                f"pinned messages would take {tokens:,} tokens, more than a quarter of the soft threshold of"
                f" {self.budget.soft_tokens:,}; unpin some, or pin the fact alone with pin_fact()"
            )

    async def unpin(self, message_id: str) -> None:
        """Let a message be folded again; quiet if it is not pinned. Raises `MessageNotFoundError`."""
        self._check_open()
        message = await self._scope.store.message(self.id, message_id)
        await self._scope.store.pin(self.id, message.seq, False)

    async def pins(self) -> list[Message]:
        """The pinned messages, in order."""
        self._check_open()
        context = await self._scope.store.active_context(self.id)
        return [m for m in context.items if isinstance(m, Message) and m.seq in context.pins]

    def subscribe(self, event: MnesisEvent, handler: Handler) -> Unsubscribe:
        """Call `handler(event, payload)` for this session's events of this kind. Returns a function that ends it.

        SESSION_CREATED is told at once if this object created the session: nobody could have subscribed before.
        """
        self._check_open()
        unsubscribe = self._scope.bus.subscribe(event, handler)
        if event == MnesisEvent.SESSION_CREATED and self._created:
            late = EventBus()
            late.subscribe(event, handler)
            late.publish(event, self._created_payload())
        return unsubscribe

    def subscribe_all(self, handler: Handler) -> Unsubscribe:
        """Call `handler` for every event of this session."""
        self._check_open()
        return self._scope.bus.subscribe_all(handler)

    def unsubscribe(self, event: MnesisEvent, handler: Handler) -> None:
        """End a subscription; quiet if there is none."""
        self._scope.bus.unsubscribe(event, handler)

    async def close(self) -> None:
        """Wait for turns and compactions that are under way, then release the database. Quiet when closed already.

        It is carried through even if whoever waits for it is cancelled; a further call waits for the same end.
        """
        refuse_from_inside(self.id)
        if self._scope.bus.is_handling():
            # Closing waits for handlers, so a handler must not wait for closing.
            self._end.start()
            return
        await self._end.wait()

    async def _close(self) -> None:
        # Handlers that are under way may still look into the session they hear of.
        await self._scope.bus.drain(HANDLER_GRACE_SECONDS)
        self._closed = True
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(t for t in self._turns if t.get_loop() is loop), return_exceptions=True)
        async with self._scope.runtime.turn:
            pass
        await self._background_done()
        self._scope.bus.publish(MnesisEvent.SESSION_CLOSED, SessionClosedPayload(self.id))
        await self._scope.bus.drain(HANDLER_GRACE_SECONDS)
        self._scope.bus.clear()
        if self._owns_engine:
            await self._scope.engine.close()

    async def __aenter__(self) -> MnesisSession:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = self._scope.state
        figures = f"messages={state.last_seq} context_tokens={state.context_tokens}"
        return f"<MnesisSession {self.id!r} model={self.model!r} {figures}>"

    def _panel(self) -> Panel:
        state, budget = self._scope.state, self.budget
        shares = {
            "system prompt": state.system_tokens,
            "summaries": state.summary_tokens,
            "messages": state.message_tokens - state.tool_tokens,
            "tool outputs": state.tool_tokens,
            "other": state.context_tokens - state.stored_tokens,
        }
        facts = (
            ("turns", f"{state.turn_count:,}"),
            ("messages", f"{state.last_seq:,}"),
            ("context tokens", f"{state.context_tokens:,}"),
            ("cost", f"${state.cost:.4f}"),
        )
        condition = "closed" if self._closed else "compacting" if self.compaction_in_progress else "open"
        bar = context_bar(
            shares,
            usable_tokens=budget.usable_tokens,
            soft_tokens=budget.soft_tokens,
            reserved_tokens=budget.context_limit - budget.usable_tokens,
        )
        return Panel(f"MnesisSession {self.id}", (self.model, condition), facts, (bar,))

    def _prepared(
        self, message: Content, tools: Iterable[Any] | None, system_prompt: str | None, on_part: OnPart | None = None
    ) -> tuple[list[Message], Toolset]:
        self._check_open()
        refuse_from_inside(self.id)
        if isinstance(message, str) and not message:
            raise InvalidMessageError("nothing to send: the message is an empty string")
        if system_prompt is not None and not isinstance(system_prompt, str):
            raise InvalidMessageError(f"system_prompt is a string, not {system_prompt!r}")
        if on_part is not None and not callable(on_part):
            raise InvalidMessageError(f"on_part is called with each part; {on_part!r} cannot be called")
        return user_messages(message), Toolset(tools)

    async def _with_files(self, drafts: list[Message]) -> list[Message]:
        """The messages with their files taken in."""
        if not any(self._scope.needs_intake(draft.parts) for draft in drafts):
            return drafts
        taken = [d.model_copy(update={"parts": tuple(await self._scope.taken_in(d.parts))}) for d in drafts]
        self._check_open()
        return taken

    async def _taken(self, turn: Turn) -> TurnResult:
        async with self._scope.runtime.turn:
            return await turn.run()

    async def _background_done(self) -> None:
        task = self._scope.runtime.background
        if task is None or task.done():
            return
        if task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task])
        else:
            async with self._scope.runtime.compaction:
                pass

    async def _resumed(self) -> MnesisSession:
        """Take up what a crash left undone. Whatever fails here must not leave the database open."""
        try:
            await self._upkeep.nudge("resume")
        except BaseException:
            await self.close()
            raise
        return self

    def _created_payload(self) -> SessionCreatedPayload:
        return SessionCreatedPayload(self.id, self.model, self.parent_id)

    def _tell_created(self) -> None:
        self._scope.bus.publish(MnesisEvent.SESSION_CREATED, self._created_payload())


def _refuse_unread_files(message: Message) -> None:
    for part in message.parts:
        if isinstance(part, FilePart) and part.path is not None:
            raise InvalidMessageError(
                f"message {message.id!r} names the file {part.path!r} without its content; give it to send() or record(), which"
                " read files, or read it first with session.files.handle_file()"
            )


def _report(messages: Sequence[Message], tokens: TokenUsage | None, cost: float) -> UsageReport:
    if tokens is not None and tokens.effective_total() > 0:
        return UsageReport(tokens, "inferred", cost)
    asked = sum(m.token_count for m in messages[:-1])
    return UsageReport(TokenUsage(input=asked, output=messages[-1].token_count), "estimate", cost)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Look at the outcome, so that an abandoned stream's failure is not reported as never seen."""
    if not task.cancelled():
        task.exception()
