"""One model call of an agent: log what is new, show what fits, log the answer, trim the state."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage, RemoveMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.types import Command

from langchain_mnesis.budgets import SMALLEST_TOKENS
from langchain_mnesis.messages.convert import ORIGIN_KEY, from_record, lasting, original, own_id, shows_whole
from langchain_mnesis.messages.serialize import dump_message
from langchain_mnesis.sessions import Sessions
from langchain_mnesis.triggers import ContextSize, Size, is_due, keep_tokens
from mnesis.models.context import Window
from mnesis.models.message import Message
from mnesis.tokens.estimator import TokenEstimator

SESSION_FIELD = "mnesis_session"
"""The private field of an agent's state that names the session where there is no thread."""
SWEEPS_PER_CALL = 2
OVERFLOW_SHARE = 0.5
"""What a request may take of the one before, after the provider found that one too long."""


@dataclass(frozen=True, slots=True)
class Place:
    """The session of an agent's run. `parent_id` is that of the run it is part of; `is_new` says that its name must be kept
    in the state, because nothing else tells it. `state_id` names the state whose messages are logged, where it lasts: of
    these messages the view follows the state, whatever else writes into the session."""

    session_id: str
    state_id: str | None = None
    parent_id: str | None = None
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """When to compact, how much to keep, whether the state is trimmed."""

    due: Sequence[dict[str, float]]
    keep: ContextSize
    trims: bool


@dataclass
class AgentCall:
    """The state of one call. `known` are the messages of this session that are logged, by id."""

    sessions: Sessions
    place: Place
    rules: Rules
    request: ModelRequest[Any]
    known: dict[str, BaseMessage]
    tool_tokens: int = 0
    window: Window | None = None
    before: list[BaseMessage] = field(default_factory=list)
    after: list[BaseMessage] = field(default_factory=list)

    async def prepare(self) -> ModelRequest[Any]:
        """Log the state's new messages and give the request its window. The state is never read as a whole again by the
        model: what it lost to trimming stands in the window all the same."""
        state = self._state_messages()
        self._set_aside(state)
        session = await self.sessions.session(self.place.session_id, parent_id=self.place.parent_id)
        await self._take_back_edited(state)
        await self._log(state)
        self.window = await self._in_step(state)
        for _ in range(SWEEPS_PER_CALL):
            if not is_due(self.rules.due, self._size(session.context_tokens)):
                break
            before = self.window
            await self.sessions.compact(self.place.session_id, keep_tokens=self._keep_tokens())
            self.window = await self._read()
            if before is not None and self.window is not None and self.window.tokens >= before.tokens:
                break
        return self._shown()

    async def prepare_smaller(self) -> ModelRequest[Any]:
        """The request again, after a harder compaction."""
        window = self.window
        if window is not None:
            tokens = int(window.tokens * OVERFLOW_SHARE)
            smallest = window.system_tokens + self.tool_tokens + SMALLEST_TOKENS
            await self.sessions.compact(self.place.session_id, keep_tokens=tokens // 2)
            self.window = await self._read(budget_tokens=max(tokens, smallest))
        return self._shown()

    async def finish(self, response: ModelResponse[Any]) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Log the answer; the response, with what is to leave the state."""
        for message in response.result:
            _named(message)
        await self._log(response.result)
        update: dict[str, Any] = {}
        if self.place.is_new:
            update[SESSION_FIELD] = self.place.session_id
        if self.rules.trims and (gone := self._gone()):
            update["messages"] = [RemoveMessage(id=name) for name in gone]
        return ExtendedModelResponse(response, Command(update=update)) if update else response

    def _state_messages(self) -> list[BaseMessage]:
        found: list[BaseMessage] = list(self.request.state.get("messages") or self.request.messages)
        for message in found:
            _named(message)
        return found

    def _set_aside(self, state: Sequence[BaseMessage]) -> None:
        """Messages that are in the request but not in the state belong to this call alone: sent, never logged."""
        ids = {message.id for message in state}
        places = [place for place, message in enumerate(self.request.messages) if message.id in ids]
        first = places[0] if places else 0
        self.before = [m for m in self.request.messages[:first] if m.id not in ids]
        self.after = [m for m in self.request.messages[first:] if m.id not in ids]

    async def _take_back_edited(self, state: Sequence[BaseMessage]) -> None:
        """Take an edited message, and all that follow it, out of the view: they are logged anew, in the state's order."""
        if not self.known:
            await self._learn()
        first = next((i for i, m in enumerate(state) if self._is_edited(m)), len(state))
        rest = {message.id for message in state[first:]}
        window = await self._read() if rest else None
        if window is None:
            return
        places = [r.seq for r in window.messages if own_id(r) in rest and r.extra.get(ORIGIN_KEY)]
        await self.sessions.hide(self.place.session_id, places)
        for name in rest:
            self.known.pop(name or "", None)

    async def _learn(self) -> None:
        """Know the messages that stand in the view from an earlier process, so that edits made since are seen as such."""
        window = await self._read()
        for record in window.messages if window is not None else ():
            message, name = original(record, self.sessions.types), own_id(record)
            if message is not None and name is not None and record.extra.get(ORIGIN_KEY):
                self.known[name] = message

    def _is_edited(self, message: BaseMessage) -> bool:
        seen = self.known.get(message.id or "")
        return seen is not None and seen is not message and not _equal(seen, message)

    async def _log(self, messages: Sequence[BaseMessage]) -> None:
        new = [message for message in messages if message.id not in self.known or self._is_edited(message)]
        if new:
            await self.sessions.add(self.place.session_id, new, origin=self.place.state_id)
        self.known.update({m.id: m for m in messages if m.id is not None})

    async def _in_step(self, state: Sequence[BaseMessage]) -> Window | None:
        """The window, without messages of this state that it has lost (deleted, or rewound to an earlier point)."""
        window, origin = await self._read(), self.place.state_id
        if window is None or origin is None:
            return window
        ids = {message.id for message in state}
        mine = [record for record in window.messages if record.extra.get(ORIGIN_KEY) == origin]
        lost = [record for record in mine if own_id(record) not in ids]
        if not lost:
            return window
        await self.sessions.hide(self.place.session_id, [record.seq for record in lost])
        for record in lost:
            self.known.pop(own_id(record) or "", None)
        return await self._read()

    async def _read(self, budget_tokens: int | None = None) -> Window | None:
        return await self.sessions.window(
            self.place.session_id,
            system_prompt=str(self.request.system_message.text) if self.request.system_message else "",
            reserved_tokens=self.tool_tokens,
            budget_tokens=budget_tokens,
        )

    def _size(self, reported_tokens: int) -> Size:
        window = self.window
        if window is None:
            return Size(0, 0, 1)
        return Size(max(window.tokens, reported_tokens), len(window.messages), self._limit_tokens(window))

    def _keep_tokens(self) -> int:
        window = self.window
        counts = [record.token_count for record in window.messages] if window is not None else []
        return keep_tokens(self.rules.keep, counts, self._limit_tokens(window) if window is not None else 1)

    def _limit_tokens(self, window: Window) -> int:
        profile = getattr(self.request.model, "profile", None)
        limit = profile.get("max_input_tokens") if isinstance(profile, dict) else None
        return limit if isinstance(limit, int) and limit > 0 else window.budget_tokens

    def _shown(self) -> ModelRequest[Any]:
        records = self.window.messages if self.window is not None else ()
        shown = [message for record in records for message in self._as_messages(record)]
        messages: list[Any] = [*self.before, *shown, *self.after]
        return self.request.override(messages=messages)

    def _as_messages(self, record: Message) -> list[BaseMessage]:
        message = self.known.get(record.id)
        if message is not None and shows_whole(record, message):
            return [message]
        return from_record(record, self.sessions.types, keep_chunks=False)

    def _gone(self) -> list[str]:
        """The messages of the state that a summary stands for in the window. A window that leaves messages out for want of
        room tells nothing: they may be shown again."""
        window = self.window
        if window is None or window.omitted:
            return []
        shown = {own_id(record) for record in window.messages}
        return [m.id for m in self.request.state.get("messages") or [] if m.id is not None and m.id not in shown]


def _equal(seen: BaseMessage, message: BaseMessage) -> bool:
    """Whether a message is still the same after a checkpoint was read back."""
    try:
        if seen == message:
            return True
    except ValueError:  # an artifact, such as an array, that does not say whether it is equal
        pass
    return type(seen) is type(message) and lasting(dump_message(seen)) == lasting(dump_message(message))


def _named(message: BaseMessage) -> None:
    """Give a message the id that LangGraph would give it later, so that it is known by one id from the beginning."""
    if message.id is None:
        message.id = str(uuid.uuid4())


@dataclass
class ToolCounter:
    """Counts the tokens of tool definitions, once as long as the tools stay the same."""

    tools: Sequence[Any] = ()
    tokens: int = 0

    def __call__(self, tools: Sequence[Any]) -> int:
        """Tokens of the definitions of `tools`."""
        if len(tools) != len(self.tools) or any(a is not b for a, b in zip(tools, self.tools, strict=True)):
            text = json.dumps([convert_to_openai_tool(tool) for tool in tools], default=str)
            self.tools, self.tokens = list(tools), TokenEstimator().estimate(text)
        return self.tokens
