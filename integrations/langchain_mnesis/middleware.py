"""`MnesisMiddleware`: agents whose history is kept whole and always fits."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Literal, NotRequired

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ExtendedModelResponse,
        ModelRequest,
        ModelResponse,
        PrivateStateAttr,
    )
    from langchain.tools import ToolRuntime
except ImportError as error:
    raise ImportError(
        'MnesisMiddleware needs langchain 1.3 or newer: pip install "mnesis[langchain-agents]"'
    ) from error

from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool

from langchain_mnesis.agent_call import SESSION_FIELD, AgentCall, Place, Rules, ToolCounter
from langchain_mnesis.agent_tools import agent_tools
from langchain_mnesis.chat_model import is_overflow, model_name
from langchain_mnesis.sessions import Sessions, checked_id
from langchain_mnesis.triggers import ContextSize, Trigger, checked_keep, clauses
from mnesis import concurrency
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.ids import new_id

KNOWN_SESSIONS = 200
"""Sessions whose logged messages are remembered; for others the store is asked again."""

Response = ModelResponse[Any] | ExtendedModelResponse[Any]


class MnesisState(AgentState[Any]):
    """The agent's state with the name of its session, for runs without a thread."""

    mnesis_session: NotRequired[Annotated[str, PrivateStateAttr]]


class MnesisMiddleware(AgentMiddleware[MnesisState, Any, Any]):
    """Keeps every message of an agent in a session and gives the model what fits.

    Takes the words of `SummarizationMiddleware`: `model` writes the summaries (a chat model, a litellm model string, or None for
    extracts without a model), `trigger` says when to compact (`("tokens", 4000)`, `("messages", 50)`, `("fraction", 0.8)`, a
    dict of which all must hold, a list of which one must; None leaves it to the model's window), `keep` how much of the
    newest conversation stays beside the newest user message. Summaries are made of every message, never of a part.

    The session is that of the run's `thread_id`; a sub-agent's is `thread_id|` and its place, with the outer one as parent;
    without a thread each run has its own. `session_id` names it otherwise: a string, or a function of the model request.

    `state="trim"` removes from the agent's state what a summary stands for, so that checkpoints stay small; the log has it.
    What somebody else removes from the state leaves the view too. `recall_tools` adds `lcm_grep`, `lcm_describe` and
    `lcm_expand`, by which the model finds and reads originals again. A request the provider finds too long is made once more after a harder compaction. What the store
    refuses is raised. `engine`, `db_path`, `config` and `types` are those of `MnesisChatMessageHistory`.
    """

    state_schema = MnesisState

    def __init__(
        self,
        model: object | None = None,
        *,
        trigger: Trigger | None = None,
        keep: ContextSize = ("messages", 20),
        session_id: str | Callable[[ModelRequest[Any]], str] | None = None,
        state: Literal["keep", "trim"] = "keep",
        recall_tools: bool = True,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        config: MnesisConfig | None = None,
        types: Iterable[type] = (),
    ) -> None:
        super().__init__()
        if state not in ("keep", "trim"):
            raise ConfigurationError(f"state is 'keep' or 'trim', not {state!r}")
        self._rules = Rules(clauses(trigger), checked_keep(keep), state == "trim")
        self._session_id = session_id if session_id is None or callable(session_id) else checked_id(session_id)
        self._sessions = Sessions(engine=engine, db_path=db_path, config=config, llm=model, types=types)
        self._known: OrderedDict[str, dict[str, BaseMessage]] = OrderedDict()
        self._count_tools = ToolCounter()
        self.tools: list[BaseTool] = agent_tools(self._sessions, _session_of) if recall_tools else []

    @property
    def engine(self) -> Engine:
        """The engine of the sessions: their store, their event bus."""
        return self._sessions.engine

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> Response:
        """Log what is new, call the model with what fits, log its answer."""
        call = self._call(request)
        prepared = concurrency.run(call.prepare())
        try:
            response = handler(prepared)
        except Exception as error:
            if not is_overflow(error):
                raise
            response = handler(concurrency.run(call.prepare_smaller()))
        return concurrency.run(call.finish(response))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> Response:
        """`wrap_model_call`, without blocking the event loop."""
        call = self._call(request)
        prepared = await call.prepare()
        try:
            response = await handler(prepared)
        except Exception as error:
            if not is_overflow(error):
                raise
            response = await handler(await call.prepare_smaller())
        return await call.finish(response)

    def _call(self, request: ModelRequest[Any]) -> AgentCall:
        place = self._place(request)
        if self._sessions.model is None:
            self._sessions.model = model_name(request.model)
        return AgentCall(
            self._sessions,
            place,
            self._rules,
            request,
            self._known_of(place.session_id),
            self._count_tools(request.tools),
        )

    def _place(self, request: ModelRequest[Any]) -> Place:
        if self._session_id is not None:
            named = checked_id(self._session_id(request) if callable(self._session_id) else self._session_id)
            outer = _threads(request.runtime)
            return Place(named, outer[-1] if outer else None, is_new=request.state.get(SESSION_FIELD) != named)
        return _place(request.runtime, request.state) or _place_of_its_own()

    def _known_of(self, session_id: str) -> dict[str, BaseMessage]:
        known = self._known.setdefault(session_id, {})
        self._known.move_to_end(session_id)
        if len(self._known) > KNOWN_SESSIONS:
            self._known.popitem(last=False)
        return known


def _session_of(runtime: ToolRuntime) -> str | None:
    place = _place(runtime, runtime.state)
    return place.session_id if place is not None else None


def _place_of_its_own() -> Place:
    name = new_id("run")
    return Place(name, name, is_new=True)


def _place(runtime: Any, state: Any) -> Place | None:
    """The session of a run: as its state says, else by its thread and its place among the agents of that thread."""
    named = (state or {}).get(SESSION_FIELD)
    if isinstance(named, str):
        return Place(named, named)
    names = _threads(runtime)
    return Place(names[-1], names[-1], names[-2] if len(names) > 1 else None) if names else None


def _threads(runtime: Any) -> list[str]:
    """The name of the thread, and below it those of the agents down to this one; empty where there is no thread."""
    info = getattr(runtime, "execution_info", None)
    thread = getattr(info, "thread_id", None)
    if not isinstance(thread, str) or not thread:
        return []
    # The last part of the namespace is the node itself; those before it are the agents around this one.
    outer = str(getattr(info, "checkpoint_ns", "") or "").split("|")[:-1]
    return ["|".join([thread, *outer[:depth]]) for depth in range(len(outer) + 1)]
