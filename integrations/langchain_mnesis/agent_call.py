"""One model call of an agent: log new messages, send the window, log the reply, trim the state."""

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

from langchain_mnesis.messages.convert import (
    ORIGIN_KEY,
    checkpoint_stable_form,
    from_record,
    is_unchanged,
    langchain_id,
    original,
)
from langchain_mnesis.messages.serialize import dump_message
from langchain_mnesis.sessions import MIN_COMPACTION_TOKENS, Sessions
from langchain_mnesis.triggers import ContextMeasure, ContextSize, is_due, keep_tokens
from mnesis.models.context import Window
from mnesis.models.message import Message
from mnesis.tokens.estimator import TokenEstimator

SESSION_FIELD = "mnesis_session"
"""The private field of an agent's state that holds the session id if the run has no thread."""
MAX_SWEEPS_PER_CALL = 2
"""If two compactions do not satisfy the trigger, a further one rarely does, and each may cost model calls."""
OVERFLOW_BUDGET_FRACTION = 0.5
"""The size of a repeated request relative to the one that the provider rejected as too long."""


@dataclass(frozen=True, slots=True)
class SessionRef:
    """The session of an agent's run.

    `parent_id` is the session of the enclosing run. `is_new` means that the session id must be written to the state,
    because it cannot be derived from the run. `state_id` identifies a persistent state whose messages are logged: the
    view follows that state for its own messages, regardless of what others write to the session.
    """

    session_id: str
    state_id: str | None = None
    parent_id: str | None = None
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class CompactionRules:
    """When to compact, how much to keep, and whether to trim the state."""

    triggers: Sequence[dict[str, float]]
    keep: ContextSize
    trims_state: bool


@dataclass
class AgentCall:
    """The progress of one model call. `known` holds the logged messages of the session by id."""

    sessions: Sessions
    session_ref: SessionRef
    rules: CompactionRules
    request: ModelRequest[Any]
    known: dict[str, BaseMessage]
    tool_tokens: int = 0
    window: Window | None = None
    transient_before: list[BaseMessage] = field(default_factory=list)
    transient_after: list[BaseMessage] = field(default_factory=list)

    async def prepare(self) -> ModelRequest[Any]:
        """Log the state's new messages and return the request with the session's window.

        The window replaces the state's messages, so it also contains messages that were trimmed from the state.
        """
        state_messages = self._state_messages()
        self._split_transient(state_messages)
        session = await self.sessions.find_or_create(self.session_ref.session_id, parent_id=self.session_ref.parent_id)
        await self._supersede_edited(state_messages)
        await self._log_new(state_messages)
        self.window = await self._sync_with_state(state_messages)
        for _ in range(MAX_SWEEPS_PER_CALL):
            if not is_due(self.rules.triggers, self._measure(session.context_tokens)):
                break
            previous_window = self.window
            await self.sessions.compact(self.session_ref.session_id, keep_tokens=self._keep_tokens())
            self.window = await self._read_window()
            if previous_window is not None and self.window is not None and self.window.tokens >= previous_window.tokens:
                break
        return self._request_with_window()

    async def prepare_smaller(self) -> ModelRequest[Any]:
        """Compact further and return a smaller request."""
        window = self.window
        if window is not None:
            tokens = int(window.tokens * OVERFLOW_BUDGET_FRACTION)
            min_tokens = window.system_tokens + self.tool_tokens + MIN_COMPACTION_TOKENS
            await self.sessions.compact(self.session_ref.session_id, keep_tokens=tokens // 2)
            self.window = await self._read_window(budget_tokens=max(tokens, min_tokens))
        return self._request_with_window()

    async def finish(self, response: ModelResponse[Any]) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Log the reply and return the response with the updates of the state."""
        for message in response.result:
            _ensure_id(message)
        await self._log_new(response.result)
        update: dict[str, Any] = {}
        if self.session_ref.is_new:
            update[SESSION_FIELD] = self.session_ref.session_id
        if self.rules.trims_state and (trimmed_ids := self._ids_to_trim()):
            update["messages"] = [RemoveMessage(id=message_id) for message_id in trimmed_ids]
        return ExtendedModelResponse(response, Command(update=update)) if update else response

    def _state_messages(self) -> list[BaseMessage]:
        messages: list[BaseMessage] = list(self.request.state.get("messages") or self.request.messages)
        for message in messages:
            _ensure_id(message)
        return messages

    def _split_transient(self, state_messages: Sequence[BaseMessage]) -> None:
        """Separate the messages that are in the request but not in the state. They are sent but never logged."""
        ids = {message.id for message in state_messages}
        positions = [index for index, message in enumerate(self.request.messages) if message.id in ids]
        first = positions[0] if positions else 0
        self.transient_before = [m for m in self.request.messages[:first] if m.id not in ids]
        self.transient_after = [m for m in self.request.messages[first:] if m.id not in ids]

    async def _supersede_edited(self, state_messages: Sequence[BaseMessage]) -> None:
        """Hide the first edited message and all that follow it. They are logged again, in the order of the state."""
        if not self.known:
            await self._load_known()
        first_edited = next((i for i, m in enumerate(state_messages) if self._is_edited(m)), len(state_messages))
        superseded_ids = {message.id for message in state_messages[first_edited:]}
        window = await self._read_window() if superseded_ids else None
        if window is None:
            return
        seqs = [r.seq for r in window.messages if langchain_id(r) in superseded_ids and r.extra.get(ORIGIN_KEY)]
        await self.sessions.hide(self.session_ref.session_id, seqs)
        for message_id in superseded_ids:
            self.known.pop(message_id or "", None)

    async def _load_known(self) -> None:
        """Load the messages that an earlier process logged, so that later edits are detected."""
        window = await self._read_window()
        for record in window.messages if window is not None else ():
            message, message_id = original(record, self.sessions.types), langchain_id(record)
            if message is not None and message_id is not None and record.extra.get(ORIGIN_KEY):
                self.known[message_id] = message

    def _is_edited(self, message: BaseMessage) -> bool:
        known_message = self.known.get(message.id or "")
        return known_message is not None and known_message is not message and not _is_equal(known_message, message)

    async def _log_new(self, messages: Sequence[BaseMessage]) -> None:
        new_messages = [message for message in messages if message.id not in self.known or self._is_edited(message)]
        if new_messages:
            await self.sessions.add(self.session_ref.session_id, new_messages, origin=self.session_ref.state_id)
        self.known.update({m.id: m for m in messages if m.id is not None})

    async def _sync_with_state(self, state_messages: Sequence[BaseMessage]) -> Window | None:
        """Hide messages that the state no longer has (deleted, or rewound to an earlier point). Return the window."""
        window, origin = await self._read_window(), self.session_ref.state_id
        if window is None or origin is None:
            return window
        ids = {message.id for message in state_messages}
        own_records = [record for record in window.messages if record.extra.get(ORIGIN_KEY) == origin]
        removed_records = [record for record in own_records if langchain_id(record) not in ids]
        if not removed_records:
            return window
        await self.sessions.hide(self.session_ref.session_id, [record.seq for record in removed_records])
        for record in removed_records:
            self.known.pop(langchain_id(record) or "", None)
        return await self._read_window()

    async def _read_window(self, budget_tokens: int | None = None) -> Window | None:
        return await self.sessions.window(
            self.session_ref.session_id,
            system_prompt=str(self.request.system_message.text) if self.request.system_message else "",
            reserved_tokens=self.tool_tokens,
            budget_tokens=budget_tokens,
        )

    def _measure(self, reported_tokens: int) -> ContextMeasure:
        window = self.window
        if window is None:
            return ContextMeasure(0, 0, 1)
        return ContextMeasure(max(window.tokens, reported_tokens), len(window.messages), self._limit_tokens(window))

    def _keep_tokens(self) -> int:
        window = self.window
        token_counts = [record.token_count for record in window.messages] if window is not None else []
        return keep_tokens(self.rules.keep, token_counts, self._limit_tokens(window) if window is not None else 1)

    def _limit_tokens(self, window: Window) -> int:
        profile = getattr(self.request.model, "profile", None)
        limit = profile.get("max_input_tokens") if isinstance(profile, dict) else None
        return limit if isinstance(limit, int) and limit > 0 else window.budget_tokens

    def _request_with_window(self) -> ModelRequest[Any]:
        records = self.window.messages if self.window is not None else ()
        window_messages = [message for record in records for message in self._to_langchain(record)]
        messages: list[Any] = [*self.transient_before, *window_messages, *self.transient_after]
        return self.request.override(messages=messages)

    def _to_langchain(self, record: Message) -> list[BaseMessage]:
        message = self.known.get(record.id)
        if message is not None and is_unchanged(record, message):
            return [message]
        return from_record(record, self.sessions.types, keep_chunks=False)

    def _ids_to_trim(self) -> list[str]:
        """Return the ids of state messages that a summary replaces in the window.

        Returns nothing if the window omits messages to save space, because a later window may show them again.
        """
        window = self.window
        if window is None or window.omitted:
            return []
        window_ids = {langchain_id(record) for record in window.messages}
        return [m.id for m in self.request.state.get("messages") or [] if m.id is not None and m.id not in window_ids]


def _is_equal(known_message: BaseMessage, message: BaseMessage) -> bool:
    """Return whether two messages are equal, ignoring what a checkpoint changes."""
    try:
        if known_message == message:
            return True
    except ValueError:  # an artifact, such as an array, that has no single truth value when compared
        pass
    return type(known_message) is type(message) and checkpoint_stable_form(
        dump_message(known_message)
    ) == checkpoint_stable_form(dump_message(message))


def _ensure_id(message: BaseMessage) -> None:
    """Set a missing message id now, so that LangGraph does not set another one later."""
    if message.id is None:
        message.id = str(uuid.uuid4())


@dataclass
class ToolTokenCounter:
    """Counts the tokens of tool definitions. The count is cached until the tools change."""

    tools: Sequence[Any] = ()
    tokens: int = 0

    def __call__(self, tools: Sequence[Any]) -> int:
        """Return the number of tokens of the definitions of `tools`."""
        if len(tools) != len(self.tools) or any(a is not b for a, b in zip(tools, self.tools, strict=True)):
            text = json.dumps([convert_to_openai_tool(tool) for tool in tools], default=str)
            self.tools, self.tokens = list(tools), TokenEstimator().estimate(text)
        return self.tokens
