"""`MnesisSession`: a conversation stored verbatim and sent to the model as a window that always fits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from mnesis.concurrency import RunOnce, import_in_thread
from mnesis.display.displayable import Displayable
from mnesis.errors import (
    ConfigurationError,
    InvalidMessageError,
    LLMAuthenticationError,
    NoModelError,
)
from mnesis.late_types import declare_late_types
from mnesis.session.forked_turn import ForkedTurn, find_question
from mnesis.session.opening import OpeningSession
from mnesis.session.reentrancy import refuse_reentrant_call
from mnesis.session.turn_lock import ExclusiveBlock, begin_exclusive, hold_turn, wait_for_turn, within
from mnesis.session.view import SessionView
from mnesis.telemetry.hooks import observe
from mnesis.validation import check_seconds

if TYPE_CHECKING:
    from mnesis.config import ConfigOrDict
    from mnesis.display.panel import Panel
    from mnesis.engine.engine import Engine
    from mnesis.events.bus import Handler, MnesisEvent, Unsubscribe
    from mnesis.events.payloads import SessionCreatedPayload
    from mnesis.formats.parse import Content
    from mnesis.models.context import Budget
    from mnesis.models.message import Message
    from mnesis.models.results import RecordResult, StreamEvent, TurnResult
    from mnesis.models.usage import TokenUsage
    from mnesis.session.open import OpenedSession
    from mnesis.session.turn import OnDoomLoop, OnPart, TurnOptions

    _Place = tuple[
        ConfigOrDict | None, str | os.PathLike[str] | None, Engine | None, object | None, Budget | int | None
    ]
else:
    declare_late_types(
        globals(),
        {
            "mnesis.config": "ConfigOrDict",
            "mnesis.display.panel": "Panel",
            "mnesis.engine.engine": "Engine",
            "mnesis.events.bus": "Handler MnesisEvent Unsubscribe",
            "mnesis.events.payloads": "SessionCreatedPayload",
            "mnesis.formats.parse": "Content",
            "mnesis.models.context": "Budget",
            "mnesis.models.message": "Message",
            "mnesis.models.results": "RecordResult StreamEvent TurnResult",
            "mnesis.models.usage": "TokenUsage",
            "mnesis.session.open": "OpenedSession",
            "mnesis.session.turn": "OnDoomLoop OnPart TurnOptions",
        },
    )

_FIRST_SESSION_MODULES = (
    "mnesis.session.open",
    "mnesis.session.record_turn",
)
"""The modules for opening a session and recording a turn. Importing this module does not load them, so a program that
never opens a session does not wait for them, and an event loop is not blocked. Other methods import their modules
themselves."""
HANDLER_GRACE_SECONDS = 10.0
"""How long `close()` waits for event handlers before it cancels them."""
TOOL_GRACE_SECONDS = 10.0
"""How long `close()` waits for tools that are still running in threads after their turn was cancelled, so that their
results are stored."""


class MnesisSession(SessionView, Displayable):
    """A conversation with a model, stored verbatim in a database and sent as a window that fits the model.

    Use `open()` (a context manager), `create()` or `load()`. Tasks may share a session: its turns run one after the other.
    After `close()` every method raises `SessionClosedError`.

    ```python
    async with MnesisSession.open(model="openai/gpt-4o", session_id="ada") as session:
        result = await session.send("Hello")
        print(result.text)
    ```
    """

    def __init__(self, opened: OpenedSession) -> None:
        from mnesis.session.compactor import Compactor

        self._core = opened.core
        self._compactor = Compactor(opened.core)
        self._owns_engine = opened.owns_engine
        self._is_new = opened.is_new
        self._closed = False
        self._shutdown = RunOnce(self._close)
        self._stream_tasks: set[asyncio.Task[TurnResult]] = set()

    @classmethod
    def open(
        cls,
        *,
        model: str | None,
        system_prompt: str | None = None,
        session_id: str | None = None,
        agent: str = "default",
        parent_id: str | None = None,
        config: ConfigOrDict | None = None,
        db_path: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
        budget: Budget | int | None = None,
    ) -> OpeningSession[Self]:
        """Create a session, or open the one with `session_id`. The same as `create()`, under the name for `async with`."""
        return cls._opening(
            "open",
            cls._create(
                (config, db_path, engine, llm, budget),
                model=model,
                system_prompt=system_prompt,
                session_id=session_id,
                agent=agent,
                parent_id=parent_id,
            ),
        )

    @classmethod
    def create(
        cls,
        *,
        model: str | None,
        system_prompt: str | None = None,
        session_id: str | None = None,
        agent: str = "default",
        parent_id: str | None = None,
        config: ConfigOrDict | None = None,
        db_path: str | os.PathLike[str] | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
        budget: Budget | int | None = None,
    ) -> OpeningSession[Self]:
        """Create a session, or open the one with `session_id`, which may be any non-empty string.

        `await` it and close the session yourself, or use it in `async with`, which closes the session.

        `model` is a litellm model string. `model` and `system_prompt` replace the stored values of an existing session;
        None keeps them. Session objects that are already open keep their values. `agent` and `parent_id` are those of a
        new session. A new session with `model=None` only records turns, and is compacted without a model. The default
        system prompt of a new session is "You are a helpful assistant.".

        The database is `db_path`, or that of `engine`, or `config.store.db_path`, or `MNESIS_DB` in the environment, or
        `~/.mnesis/sessions.db`. `config` may be a dict of groups of settings. `llm` is a client to use instead of litellm: an
        object as in `mnesis.llm.base.LLM` or a function `messages -> str`. `budget` limits the window of this object: a
        number of tokens or a `Budget.for_tokens()`. None means the budget of the model. It is not stored.

        Raises `ConfigurationError` if the settings do not fit the model, `SessionNotFoundError` if `parent_id` does not
        exist, and the errors of the store. If it raises, nothing remains open.
        """
        return cls._opening(
            "create",
            cls._create(
                (config, db_path, engine, llm, budget),
                model=model,
                system_prompt=system_prompt,
                session_id=session_id,
                agent=agent,
                parent_id=parent_id,
            ),
        )

    @classmethod
    def load(
        cls,
        session_id: str,
        config: ConfigOrDict | None = None,
        db_path: str | os.PathLike[str] | None = None,
        *,
        engine: Engine | None = None,
        llm: object | None = None,
        model: str | None = None,
        budget: Budget | int | None = None,
    ) -> OpeningSession[Self]:
        """Open an existing session with its history, context, system prompt and model. Use it like `create()`.

        `model` replaces the stored model; None keeps it. `budget` is as in `create()`. No model is called: if a crash
        interrupted a compaction, the next turn runs it again; if it interrupted a turn, `retry()` continues it. Raises
        `SessionNotFoundError`, which names the id and the database; creates no database.
        """
        return cls._opening("load", cls._load((config, db_path, engine, llm, budget), session_id, model))

    @classmethod
    def _opening(cls, method: str, coroutine: Coroutine[Any, Any, Self]) -> OpeningSession[Self]:
        return OpeningSession(coroutine, f"{cls.__name__}.{method}")

    @classmethod
    async def _create(cls, place: _Place, **settings: Any) -> Self:
        await import_in_thread(*_FIRST_SESSION_MODULES)
        from mnesis.session.open import OpenRequest, open_or_create

        opened = await open_or_create(OpenRequest.parse(*place), **settings)
        session = cls(opened)
        if opened.is_new:
            session._publish_created()
        return session

    @classmethod
    async def _load(cls, place: _Place, session_id: str, model: str | None) -> Self:
        await import_in_thread(*_FIRST_SESSION_MODULES)
        from mnesis.session.open import OpenRequest, load_existing

        return cls(await load_existing(OpenRequest.parse(*place), session_id, model))

    async def send(
        self,
        message: Content,
        *,
        tools: Iterable[Any] | None = None,
        on_part: OnPart | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
        on_doom_loop: OnDoomLoop | None = None,
    ) -> TurnResult:
        """Send a message, store it and the model's reply, and return the reply.

        `message` is a string or a list of parts: text, images, files, results of earlier tool calls. A `pathlib.Path` or a
        `FilePart(path=…)` is read from disk. Files and tool outputs larger than `FileConfig.inline_threshold` are stored
        outside the log, and the message refers to them.

        `tools` may contain functions and `ToolSpec`s, which the session runs concurrently, for at most
        `max_tool_rounds` rounds. It may also contain provider dicts: their calls are returned as `result.tool_calls`,
        and the next `send()` answers them. The result of each tool is stored as soon as the tool finishes. `on_part` is
        called with each part of a reply as it arrives. `system_prompt` and `llm_options` (temperature, …) apply to this
        turn only. `on_doom_loop` says what happens if the model repeats an identical call; None means
        `SessionConfig.on_doom_loop`.

        Raises `InvalidMessageError`, `ToolDefinitionError` or `FileError` before anything is stored. Raises an `LLMError` if
        the model does not reply. The message and all results of tools are kept: `retry()` continues the turn.

        ```python
        result = await session.send("What is the weather in Oslo?", tools=[get_weather])
        ```
        """
        options = await self._turn_options(tools, system_prompt, llm_options, on_doom_loop, on_part=on_part)
        messages = await self._offload_files(_parse_message(message))
        return await self._run_turn(options, messages)

    async def stream(
        self,
        message: Content,
        *,
        tools: Iterable[Any] | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
        on_doom_loop: OnDoomLoop | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """Send a message like `send()`, and yield what happens, then one `TurnComplete`.

        Yields a `TextDelta` or a `ReasoningDelta` for each piece of a reply as it arrives, and a `ToolCallStart` and a
        `ToolCallEnd` for each tool that the session runs; the result in a `ToolCallEnd` is stored. Each event has a `type`;
        ignore the types that you do not use.

        Abandoning the stream (break, exception, cancellation) does not abort the turn. The turn completes in the background
        and is stored; `close()` waits for it. Raises the same errors as `send()`. Retries happen only before the first delta.
        """
        events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        options = await self._turn_options(tools, system_prompt, llm_options, on_doom_loop, on_event=events.put_nowait)
        messages = await self._offload_files(_parse_message(message))
        async for event in self._stream_turn(self._run_turn(options, messages), events):
            yield event

    async def retry(
        self,
        *,
        tools: Iterable[Any] | None = None,
        on_part: OnPart | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
        on_doom_loop: OnDoomLoop | None = None,
    ) -> TurnResult:
        """Continue a turn that failed, was cancelled or was cut off by a crash, and return the reply.

        Nothing is sent or paid for twice: the user's message and the results of tools that finished are in the log.
        Calls without a result are run with `tools`, then the model is called. A call whose tool had started before a
        crash may run a second time, because the log does not show whether it finished. Works in another process, after
        `load()`. If a tool still runs in a thread after a cancellation, the retry waits for it. `tokens` and `cost` of
        the result cover this call only. The arguments are those of `send()`.

        Raises `NothingToRetryError` if the newest turn is complete, or if it waits for results of calls that `tools` cannot
        run. Raises the same errors as `send()`; then the turn can be retried again.

        ```python
        try:
            result = await session.send("Book the 21:10 to Lisbon.", tools=[book])
        except LLMError:
            result = await session.retry(tools=[book])
        ```
        """
        options = await self._turn_options(tools, system_prompt, llm_options, on_doom_loop, on_part=on_part)
        return await self._run_turn(options)

    async def stream_retry(
        self,
        *,
        tools: Iterable[Any] | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
        on_doom_loop: OnDoomLoop | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """Continue a turn like `retry()`, and yield what happens like `stream()`. Raises the errors of `retry()`."""
        events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        options = await self._turn_options(tools, system_prompt, llm_options, on_doom_loop, on_event=events.put_nowait)
        async for event in self._stream_turn(self._run_turn(options), events):
            yield event

    async def prepare(self) -> None:
        """Import the libraries of model calls in a thread, so that the first `send()` does not take seconds longer than
        others. Call it before you start your own time limit. Calls no model.
        """
        from mnesis.llm.base import prepare_client

        self._check_open()
        await prepare_client(self._core.llm)

    @asynccontextmanager
    async def exclusive(self, *, wait_seconds: float | None = None) -> AsyncIterator[Self]:
        """Hold the session's turn for the calls in the block, so that no other caller runs a turn, in this process or
        another.

        Other processes wait for their turn if they use `exclusive()` or `SessionConfig.exclusive_turns`. With the latter, each
        turn holds it anyway; use a block for several calls, such as `context_for_next_turn()` and `record()`. Blocks may be
        nested. A process that dies in a block does not keep others waiting.

        `wait_seconds` is how long to wait; None means `SessionConfig.exclusive_wait_seconds`. Raises `SessionBusyError`
        after that time. Calls in the block raise `TurnLostError` if this process did not renew the lease in time and
        another one has claimed it; from then on nothing is written.

        ```python
        async with session.exclusive():
            history = await session.context_for_next_turn()
            answer = await ask_your_model(history, question)
            await session.record(question, answer)
        ```
        """
        block = await self._begin_exclusive(wait_seconds)
        if block is None:
            yield self
            return
        try:
            with within(block):
                yield self
        finally:
            await block.end()

    async def _begin_exclusive(self, wait_seconds: float | None) -> ExclusiveBlock | None:
        """Begin a block of `exclusive()`. Returns None if the caller is within one already."""
        self._check_open()
        refuse_reentrant_call(self.id)
        if wait_seconds is not None:
            check_seconds("wait_seconds", wait_seconds, minimum=0)
        return await begin_exclusive(self._core, wait_seconds)

    def fork(
        self, at: str | None = None, *, before: str | None = None, session_id: str | None = None
    ) -> OpeningSession[MnesisSession]:
        """Continue this session from a message in a new session, over a shared log. Use it like `create()`.

        `at` is the id of the last message that the fork has, `before` that of the first message that it does not have; without
        both it has all messages. `session_id` is the id of the fork; None chooses one. Forking again with the same id and the
        same message opens the existing fork.

        No message is copied, and this session does not change: both continue independently. The fork has the settings,
        pins, pruned outputs and summaries that lie before the message. Its turns, usage and cost begin at zero. If the
        message calls tools whose results come later, the fork is like a session whose turn was interrupted: `retry()` runs
        the calls, and `send()` continues without them. The fork uses the engine of this session, so close it first.

        Raises `MessageNotFoundError`, `DuplicateIDError` if the id belongs to another session, and `ConfigurationError` for
        both `at` and `before`.

        ```python
        async with session.fork(at=message_id) as fork:
            await fork.send("Let us try something else.")
        ```
        """
        return self._opening("fork", self._fork(at, before, session_id))

    async def _fork(self, at: str | None, before: str | None, session_id: str | None) -> MnesisSession:
        from mnesis.session.open import open_fork

        self._check_open()
        record = await self.engine.fork(self.id, at=at, before=before, new_id=session_id)
        return type(self)(open_fork(self._core, record))

    async def edit(
        self,
        message_id: str,
        message: Content,
        *,
        session_id: str | None = None,
        tools: Iterable[Any] | None = None,
        on_part: OnPart | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
        on_doom_loop: OnDoomLoop | None = None,
    ) -> ForkedTurn[MnesisSession]:
        """Replace a user message in a fork and send it: the fork has everything before it, the new message and its reply.

        This session does not change. Returns the fork, which you close, and the result of the turn. `session_id` is the
        id of the fork, and the other arguments are those of `send()`. To stream the reply, use
        `fork(before=message_id)` and `stream()`.

        Raises `InvalidMessageError` if `message_id` is not a user message, and the errors of `fork()` and `send()`. If
        the model does not reply, the fork remains, and `fork.retry()` continues the turn.

        ```python
        fork, result = await session.edit(message_id, "What is the weather in Bergen?")
        ```
        """
        await self._turn_options(tools, system_prompt, llm_options, on_doom_loop, on_part=on_part)
        _parse_message(message)

        original = await self._core.store.message(self.id, message_id)
        if original.role != "user":
            raise InvalidMessageError(
                f"message {message_id!r} is a {original.role} message, and edit() replaces user messages; to get another"
                " reply, use regenerate()"
            )
        async with self._closing_on_error(self.fork(before=message_id, session_id=session_id)) as fork:
            result = await fork.send(
                message,
                tools=tools,
                on_part=on_part,
                system_prompt=system_prompt,
                llm_options=llm_options,
                on_doom_loop=on_doom_loop,
            )
        return ForkedTurn(fork, result)

    async def regenerate(
        self,
        message_id: str | None = None,
        *,
        session_id: str | None = None,
        tools: Iterable[Any] | None = None,
        on_part: OnPart | None = None,
        system_prompt: str | None = None,
        llm_options: Mapping[str, Any] | None = None,
        on_doom_loop: OnDoomLoop | None = None,
    ) -> ForkedTurn[MnesisSession]:
        """Answer a user message again in a fork, which has everything up to that message and the new reply.

        `message_id` is the user message, or any message of the reply to it; None is the newest message. This session
        does not change. Returns the fork, which you close, and the result of the turn. The other arguments are those of
        `edit()`.

        Raises `NothingToRetryError` if there is no user message at or before it, and the errors of `fork()` and `retry()`.

        ```python
        fork, result = await session.regenerate(llm_options={"temperature": 1.0})
        ```
        """
        await self._turn_options(tools, system_prompt, llm_options, on_doom_loop, on_part=on_part)

        question = await find_question(self._core.store, self.id, message_id)
        async with self._closing_on_error(self.fork(question, session_id=session_id)) as fork:
            result = await fork.retry(
                tools=tools,
                on_part=on_part,
                system_prompt=system_prompt,
                llm_options=llm_options,
                on_doom_loop=on_doom_loop,
            )
        return ForkedTurn(fork, result)

    @asynccontextmanager
    async def _closing_on_error(self, opening: OpeningSession[MnesisSession]) -> AsyncIterator[MnesisSession]:
        fork = await opening
        try:
            yield fork
        except BaseException:
            await fork.close()
            raise

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
        """Store a turn that your own client made, both messages in one transaction, and compact if due.

        `tokens` is the usage that the provider reported; None means that the text is counted. The response may contain tool
        calls with their outputs. Files and large outputs are stored as by `send()`. With `user_message_id` and
        `assistant_message_id` the call is idempotent. `created_at` is in milliseconds since 1970; None means now.

        Raises `InvalidMessageError` or `FileError` before anything is stored.

        ```python
        history = await session.context_for_next_turn()
        answer = await ask_your_model(history, question)
        await session.record(question, answer)
        ```
        """
        from mnesis.session.record_turn import ClientTurn, record_turn

        turn = ClientTurn(
            user_message,
            assistant_response,
            tokens,
            finish_reason,
            cost,
            user_message_id,
            assistant_message_id,
            created_at,
        )
        return await record_turn(self._core, self._compactor, turn, self._check_open)

    def subscribe(self, event: MnesisEvent, handler: Handler) -> Unsubscribe:
        """Call `handler(event, payload)` for each such event of this session. Returns a function that unsubscribes it.

        SESSION_CREATED is delivered immediately if this object created the session, because no handler of the session could
        have been subscribed before.
        """
        from mnesis.events.bus import MnesisEvent

        self._check_open()
        unsubscribe = self._core.bus.subscribe(event, handler)
        if event == MnesisEvent.SESSION_CREATED and self._is_new:
            self._core.bus.deliver(handler, event, self._created_payload())
        return unsubscribe

    def subscribe_all(self, handler: Handler) -> Unsubscribe:
        """Call `handler` for every event of this session. Returns a function that unsubscribes it."""
        self._check_open()
        return self._core.bus.subscribe_all(handler)

    def unsubscribe(self, event: MnesisEvent, handler: Handler) -> None:
        """End the subscription of `handler` to `event`. Does nothing if there is none."""
        self._core.bus.unsubscribe(event, handler)

    def inspect(self, *, open_browser: bool = True, allow_changes: bool = False, port: int = 0) -> Any:
        """Show this session in the web inspector, live, and return the running `mnesis.inspect.Inspector`.

        It serves on this machine only, in a thread, until its `close()` or the end of the process; its `url` contains a
        token. `open_browser=False` only starts it: a notebook then shows the link. `allow_changes` adds pin, compact and
        purge. Raises an ImportError with the install command without the extra `mnesis-context[inspect]`.
        """
        self._check_open()
        # Imported by name, because the inspector is a layer above the session and an optional extra.
        start = import_module("mnesis.inspect").inspect_session
        return start(self.engine, self.id, open_browser=open_browser, allow_changes=allow_changes, port=port)

    async def close(self) -> None:
        """Wait for running turns and compactions, then release the database. Does nothing if already closed.

        A model call that waits for its next attempt ends at once: its turn raises the error of the last attempt, and
        can be retried later.

        Cancelling `close()` does not stop it. Calling it again waits for the same shutdown. In an event handler it returns at
        once, and the session closes after the handler.
        """
        refuse_reentrant_call(self.id)
        if self._core.bus.is_in_handler():
            # close() waits for handlers, so a handler must not wait for close().
            self._shutdown.start()
            return
        await self._shutdown.wait()

    async def _close(self) -> None:
        from mnesis.events.bus import MnesisEvent
        from mnesis.events.payloads import SessionClosedPayload
        from mnesis.session.tool_runner import wait_for_late_results

        self._core.backoff.end()
        self._compactor.stop_watching()
        # Running handlers may still read the session, so it is marked as closed after them.
        await self._core.bus.drain(HANDLER_GRACE_SECONDS)
        self._closed = True
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._stream_tasks if task.get_loop() is loop]
        await asyncio.gather(*tasks, return_exceptions=True)
        await wait_for_turn(self._core)
        await wait_for_late_results(self._core.shared, TOOL_GRACE_SECONDS)
        await self._wait_for_background_compaction()
        self._core.bus.publish(MnesisEvent.SESSION_CLOSED, SessionClosedPayload(self.id))
        await self._core.bus.drain(HANDLER_GRACE_SECONDS)
        self._core.bus.clear()
        self._core.engine.kept_windows.drop(id(self._core))
        if self._owns_engine:
            await self._core.engine.close()

    async def __aenter__(self) -> MnesisSession:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        record = self._core.record
        figures = f"messages={record.last_seq} context_tokens={record.context_tokens}"
        return f"<MnesisSession {self.id!r} model={self.model!r} {figures}>"

    def _panel(self) -> Panel:
        from mnesis.display.panel import Panel, context_bar

        record, budget = self._core.record, self.budget
        segments = {
            "system prompt": record.system_tokens,
            "summaries": record.summary_tokens,
            "messages": record.message_tokens - record.tool_tokens,
            "tool outputs": record.tool_tokens,
            "other": record.context_tokens - record.stored_tokens,
        }
        facts = (
            ("turns", f"{record.turn_count:,}"),
            ("messages", f"{record.last_seq:,}"),
            ("context tokens", f"{record.context_tokens:,}"),
            ("cost", f"${record.cost:.4f}"),
        )
        status = "closed" if self._closed else "compacting" if self.compaction_in_progress else "open"
        bar = context_bar(
            segments,
            usable_tokens=budget.usable_tokens,
            soft_tokens=budget.soft_tokens,
            reserved_tokens=budget.context_limit - budget.usable_tokens,
        )
        return Panel(f"MnesisSession {self.id}", (self.model, status), facts, (bar,))

    async def _turn_options(
        self,
        tools: Iterable[Any] | None,
        system_prompt: str | None,
        llm_options: Mapping[str, Any] | None,
        on_doom_loop: OnDoomLoop | None,
        *,
        on_part: OnPart | None = None,
        on_event: Callable[[StreamEvent], None] | None = None,
    ) -> TurnOptions:
        """Validate the arguments of a turn. Raises if the session is closed or calls itself."""
        await import_in_thread("mnesis.session.turn", "mnesis.tools.toolset")
        from mnesis.session.turn import OnDoomLoop, TurnOptions
        from mnesis.tools.toolset import Toolset

        self._check_open()
        refuse_reentrant_call(self.id)
        if system_prompt is not None and not isinstance(system_prompt, str):
            raise InvalidMessageError(f"system_prompt must be a string or None, not {system_prompt!r}")
        if on_part is not None and not callable(on_part):
            raise InvalidMessageError(f"on_part must be callable as on_part(part), not {on_part!r}")
        on_doom_loop = self.config.session.on_doom_loop if on_doom_loop is None else on_doom_loop
        if on_doom_loop not in get_args(OnDoomLoop):
            raise ConfigurationError(f"on_doom_loop must be 'warn', 'stop' or None, not {on_doom_loop!r}")
        return TurnOptions(Toolset(tools), system_prompt, dict(llm_options or {}), on_part, on_event, on_doom_loop)

    async def _offload_files(self, messages: list[Message]) -> list[Message]:
        """Read the files of the messages, and store parts that are too large for a message."""
        if not any(self._core.may_need_offload(message.parts) for message in messages):
            return messages
        offloaded = [
            message.model_copy(update={"parts": tuple(await self._core.offload_large_parts(message.parts))})
            for message in messages
        ]
        self._check_open()
        return offloaded

    async def _run_turn(self, options: TurnOptions, messages: Sequence[Message] | None = None) -> TurnResult:
        """Run a turn after the one that is running, if any. Without messages, resume the newest turn."""
        from mnesis.session.turn import Turn

        async with hold_turn(self._core):
            turn = Turn(self._core, self._compactor, options)
            try:
                with observe("turn", session_id=self.id, agent=self.agent, model=self.model) as observation:
                    result = await (turn.resume() if messages is None else turn.run(messages))
                    observation.set(
                        usage=result.tokens,
                        cost=result.cost,
                        finish_reasons=(str(result.finish_reason),),
                        context_tokens=self.context_tokens,
                    )
                    return result
            except (LLMAuthenticationError, NoModelError) as error:
                if error.status_code is not None:
                    raise
                # Nothing was sent. Without the frames, because a hundred lines of them would hide the message, which
                # names the remedy.
                raise error.with_traceback(None) from None

    async def _stream_turn(
        self, turn: Coroutine[Any, Any, TurnResult], events: asyncio.Queue[StreamEvent | None]
    ) -> AsyncIterator[StreamEvent]:
        """Run a turn in the background, and yield its events as they occur, then its result. Raises its error."""
        from mnesis.models.results import TurnComplete

        task = self._core.engine.spawn(turn)
        self._stream_tasks.add(task)
        task.add_done_callback(self._stream_tasks.discard)
        task.add_done_callback(lambda _: events.put_nowait(None))
        task.add_done_callback(_consume_exception)
        while True:
            event = await events.get() if events.empty() else events.get_nowait()
            if event is None:
                break
            yield event
        yield TurnComplete(result=await asyncio.shield(task))

    async def _wait_for_background_compaction(self) -> None:
        task = self._core.shared.background_compaction
        if task is None or task.done():
            return
        if task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task])
        else:
            async with self._core.shared.compaction_lock:
                pass

    def _created_payload(self) -> SessionCreatedPayload:
        from mnesis.events.payloads import SessionCreatedPayload

        return SessionCreatedPayload(self.id, self.model, self.parent_id)

    def _publish_created(self) -> None:
        from mnesis.events.bus import MnesisEvent

        self._core.bus.publish(MnesisEvent.SESSION_CREATED, self._created_payload())


def _parse_message(content: Content) -> list[Message]:
    from mnesis.formats.parse import user_messages

    if isinstance(content, str) and not content:
        raise InvalidMessageError("nothing to send: the message is an empty string")
    return user_messages(content)


def _consume_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of an abandoned stream, so that asyncio does not log it as never retrieved."""
    if not task.cancelled():
        task.exception()
