"""`MnesisMiddleware`: agents with a complete history and a window that always fits."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal, NotRequired

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        PrivateStateAttr,
        ToolCallRequest,
    )
except ImportError as error:
    raise ImportError(
        'MnesisMiddleware needs langchain 1.3 or newer: pip install "mnesis-context[langchain-agents]"'
    ) from error

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from langchain_mnesis.agent_call import AgentCall, CompactionRules, SessionRef, ToolTokenCounter
from langchain_mnesis.agent_sessions import (
    enclose_agents,
    find_session_id,
    find_session_ref,
    named_session_ref,
    new_session_ref,
)
from langchain_mnesis.agent_tools import agent_tools
from langchain_mnesis.chat_model import is_overflow, model_name
from langchain_mnesis.sessions import Sessions
from langchain_mnesis.thread_log import ThreadLog
from langchain_mnesis.triggers import ContextSize, Trigger, parse_trigger, validate_keep, warn_if_impossible
from mnesis import concurrency
from mnesis.config import ConfigOrDict
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.session.pool import SessionId, validate_session_id
from mnesis.tokens.encodings import preload_encoding

MAX_KNOWN_THREADS = 200
"""The number of threads whose log contents stay in memory; those of other threads are read from the store again."""

Response = ModelResponse[Any] | ExtendedModelResponse[Any]


class MnesisState(AgentState[Any]):
    """The agent's state with its session id, for runs without a thread, and the summaries that replaced its messages."""

    mnesis_session: NotRequired[Annotated[str, PrivateStateAttr]]
    mnesis_trimmed: NotRequired[Annotated[list[str], PrivateStateAttr]]


class MnesisMiddleware(AgentMiddleware[MnesisState, Any, Any]):
    """Agent middleware that stores every message in a session and sends the model a window that fits.

    The parameters follow `SummarizationMiddleware`. `model` writes the summaries: a chat model, a litellm model string,
    or None for extracts without a model. `trigger` is the size at which to compact: `("tokens", 4000)`, `("messages",
    50)`, `("fraction", 0.8)`, a dict whose sizes must all be reached, or a list of which one must be reached; None
    leaves it to the model's window. `keep` is the size of the newest part that stays verbatim, in addition to the
    newest user message. A summary is made from all the messages that it replaces, never from a part of them.

    The session id is the run's `thread_id`. A sub-agent uses `thread_id|` and its node path, with the enclosing agent's
    session as the parent. Without a thread, each run has its own session. `session_id` overrides this with a string or
    a function of the model request.

    `state="trim"` removes messages that a summary replaces from the agent's state, so that checkpoints stay small; the
    log keeps them. Messages that other code removes from the state are hidden from the view too. `recall_tools` adds
    `lcm_grep`, `lcm_describe` and `lcm_expand`, with which the model finds and reads originals. If the provider rejects
    a request as too long, the middleware compacts further and sends it once more. The store's errors are raised.
    `engine`, `db_path`, `config` and `types` are those of `MnesisChatMessageHistory`.

        agent = create_agent("openai:gpt-4o", tools, middleware=[MnesisMiddleware(trigger=("fraction", 0.8))])
    """

    state_schema = MnesisState

    def __init__(
        self,
        model: object | None = None,
        *,
        trigger: Trigger | None = None,
        keep: ContextSize = ("messages", 20),
        session_id: SessionId | Callable[[ModelRequest[Any]], SessionId] | None = None,
        state: Literal["keep", "trim"] = "keep",
        recall_tools: bool = True,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        config: ConfigOrDict | None = None,
        types: Iterable[type] = (),
    ) -> None:
        super().__init__()
        if state not in ("keep", "trim"):
            raise ConfigurationError(f"state must be 'keep' or 'trim', not {state!r}")
        self._rules = CompactionRules(parse_trigger(trigger), validate_keep(keep), state == "trim")
        warn_if_impossible(self._rules.triggers, self._rules.keep)
        self._session_id = session_id if session_id is None or callable(session_id) else validate_session_id(session_id)
        self._sessions = Sessions(engine=engine, db_path=db_path, config=config, llm=model, types=types)
        self._threads: OrderedDict[tuple[str, str | None], ThreadLog] = OrderedDict()
        self._lock = threading.Lock()
        self._count_tool_tokens = ToolTokenCounter()
        self.tools: list[BaseTool] = agent_tools(self._sessions, find_session_id) if recall_tools else []

    @property
    def engine(self) -> Engine:
        """The engine of the sessions, with their store and event bus."""
        return self._sessions.engine

    def __deepcopy__(self, memo: Any = None) -> MnesisMiddleware:
        # All copies of an agent continue the same sessions.
        return self

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> Response:
        """Log new messages, call the model with the window, and log its reply."""
        concurrency.run(preload_encoding("unknown"))
        call = self._new_call(request)
        prepared = concurrency.run(call.prepare())
        try:
            with call.requests.record():
                response = handler(prepared)
        except BaseException as error:
            if not is_overflow(error):
                concurrency.run(call.record_interruption(error))
                raise
            smaller = concurrency.run(call.prepare_smaller())
            with call.requests.record():
                response = handler(smaller)
        return concurrency.run(call.finish(response))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> Response:
        """Wrap a model call like `wrap_model_call`, without blocking the event loop."""
        await preload_encoding("unknown")
        call = self._new_call(request)
        prepared = await call.prepare()
        try:
            with call.requests.record():
                response = await handler(prepared)
        except BaseException as error:
            if not is_overflow(error):
                await asyncio.shield(call.record_interruption(error))
                raise
            smaller = await call.prepare_smaller()
            with call.requests.record():
                response = await handler(smaller)
        return await call.finish(response)

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Call the tool. Agents that it runs get sessions below the session of this run."""
        with enclose_agents(request.runtime, request.state):
            return handler(request)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """Call the tool like `wrap_tool_call`."""
        with enclose_agents(request.runtime, request.state):
            return await handler(request)

    def _new_call(self, request: ModelRequest[Any]) -> AgentCall:
        session_ref = self._session_ref(request)
        if self._sessions.pool.settings.model is None:
            settings = replace(self._sessions.pool.settings, model=model_name(request.model))
            self._sessions.pool.configure(settings)
        return AgentCall(
            self._sessions,
            session_ref,
            self._rules,
            request,
            self._thread_log(session_ref),
            self._count_tool_tokens(request.tools),
        )

    def _session_ref(self, request: ModelRequest[Any]) -> SessionRef:
        if self._session_id is not None:
            session_id = validate_session_id(
                self._session_id(request) if callable(self._session_id) else self._session_id
            )
            return named_session_ref(session_id, request.runtime, request.state)
        return find_session_ref(request.runtime, request.state) or new_session_ref()

    def _thread_log(self, session_ref: SessionRef) -> ThreadLog:
        key = (session_ref.session_id, session_ref.state_id)
        with self._lock:
            thread = self._threads.setdefault(key, ThreadLog(session_ref.state_id))
            self._threads.move_to_end(key)
            if len(self._threads) > MAX_KNOWN_THREADS:
                self._threads.popitem(last=False)
        return thread
