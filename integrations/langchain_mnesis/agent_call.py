"""One model call of an agent: log new messages, send the window, log the reply, trim the state."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage, RemoveMessage, convert_to_messages
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.types import Command

from langchain_mnesis.append import MAX_ATTEMPTS
from langchain_mnesis.interruptions import record_interruption
from langchain_mnesis.known_messages import ShownMessage
from langchain_mnesis.messages.convert import to_record
from langchain_mnesis.request_changes import RequestChanges, compare_request, is_equal
from langchain_mnesis.request_recorder import RequestRecorder
from langchain_mnesis.sessions import MIN_COMPACTION_TOKENS, Sessions
from langchain_mnesis.thread_log import REWRITTEN_KEY, ThreadLog
from langchain_mnesis.triggers import ContextMeasure, ContextSize, is_due, keep_tokens
from mnesis.errors import StaleContextError
from mnesis.models.context import Window, find_cover
from mnesis.models.message import Message
from mnesis.session.session import MnesisSession
from mnesis.tokens.estimator import TokenEstimator

SESSION_FIELD = "mnesis_session"
"""The private field of an agent's state that holds the session id if the run has no thread."""
TRIMMED_FIELD = "mnesis_trimmed"
"""The private field of an agent's state that holds the ids of the summaries that replaced messages in it."""
MIN_GAIN_FRACTION = 0.1
"""A compaction that frees less than this fraction of the messages' tokens is not worth invalidating the provider's
cache."""
MAX_SWEEPS_PER_CALL = 2
"""If two compactions do not satisfy the trigger, a further one rarely does, and each may cost model calls."""
OVERFLOW_BUDGET_FRACTION = 0.5
"""The size of a repeated request relative to the one that the provider rejected as too long."""


T = TypeVar("T")
FormT = TypeVar("FormT", BaseMessage, BaseMessage | None)


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
    """The progress of one model call. `thread` is the known part of the session's log. `seqs` are the seqs of the
    messages that the request shows; `forms` has the form of each one that the request shows differently, by seq.
    `candidates` are the messages to send by seq, unless the window changes them. `sent` are the messages of the window
    by id, with their seqs. `requests` records what the model received after all other middleware.
    """

    sessions: Sessions
    session_ref: SessionRef
    rules: CompactionRules
    request: ModelRequest[Any]
    thread: ThreadLog
    tool_tokens: int = 0
    window: Window | None = None
    changes: RequestChanges = field(init=False)
    seqs: Sequence[int] = ()
    forms: dict[int, BaseMessage] = field(default_factory=dict)
    candidates: dict[int, ShownMessage] = field(default_factory=dict)
    sent: dict[str, tuple[int, BaseMessage]] = field(default_factory=dict)
    requests: RequestRecorder = field(default_factory=RequestRecorder)

    def __post_init__(self) -> None:
        state_values: list[Any] = list(self.request.state.get("messages") or self.request.messages)
        # A state without LangGraph's reducer may contain tuples and strings; the same value is converted only once.
        converted = {id(value): message for value in state_values for message in [_as_message(value)]}
        request_messages = [converted.get(id(value)) or _as_message(value) for value in self.request.messages]
        self.changes = compare_request([converted[id(value)] for value in state_values], request_messages)

    async def prepare(self) -> ModelRequest[Any]:
        """Log the state's new messages and return the request with the session's window.

        The window shows the messages of the request that are in the state, in the order of the request, some of them
        through summaries, and the messages that summaries replaced in the state. Messages that other middleware added keep
        their places and are not logged.
        """
        await self._call_session(self._prepare_window)
        return self._request_with_window()

    async def _prepare_window(self, session: MnesisSession) -> None:
        """Make the view follow the state, and read the window. Branches of a thread take turns; other processes are noticed."""
        async with self.sessions.pool.lock_view(session.id):
            for _ in range(MAX_ATTEMPTS):
                await self._show(session)
                await self._compact_and_read_window(session)
                if self.window is None or self.thread.is_shown_in(self.window):
                    return
                self.thread.forget_view()
        raise StaleContextError(
            f"session {session.id!r}: another process changed the view during {MAX_ATTEMPTS} attempts to read it;"
            " run fewer branches of this thread at the same time"
        )

    async def _show(self, session: MnesisSession) -> None:
        shown = await self._show_request(session)
        self.seqs = [message.seq for message in shown]
        self.forms = {self.seqs[i]: form for i, form in self.changes.forms.items() if i < len(self.seqs)}
        self.candidates = {message.seq: message for message in shown}
        for seq, form in self.forms.items():
            self.candidates[seq] = ShownMessage(seq, form, self.thread.known.key(form)[1])
        if self.thread.is_rewritten:
            await session.set_shown_forms({}, known_seqs=self.thread.received_seqs)

    async def _compact_and_read_window(self, session: MnesisSession) -> None:
        self.window = await self._read_window()
        for _ in range(MAX_SWEEPS_PER_CALL):
            if not self._is_compaction_due(session.context_tokens):
                break
            previous_window = self.window
            await self.sessions.compact(self.session_ref.session_id, keep_tokens=self._keep_tokens())
            self.window = await self._read_window()
            if previous_window is not None and self.window is not None and self.window.tokens >= previous_window.tokens:
                break

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
        # First, since a reply may start a compaction.
        await self._call_session(self._record_shown_forms)
        await self._call_session(lambda session: self._add_reply(session, response.result))
        update: dict[str, Any] = {}
        if self.session_ref.is_new:
            update[SESSION_FIELD] = self.session_ref.session_id
        if self.rules.trims_state:
            update |= await self._call_session(self._trim_update)
        return ExtendedModelResponse(response, Command(update=update)) if update else response

    async def _add_reply(self, session: MnesisSession, messages: Sequence[BaseMessage]) -> None:
        async with self.sessions.pool.lock_view(session.id):
            await self.thread.add_reply(session, self.seqs, messages)

    async def _record_shown_forms(self, session: MnesisSession) -> None:
        """Record the forms of the messages that the model received, after all other middleware has changed them."""
        received = {m.id: m for messages in self.requests.requests for m in messages if m.id is not None}
        self.thread.received_seqs.update(seq for key, (seq, _) in self.sent.items() if key in received)
        forms = {
            seq: None if is_equal(message, received[key]) else received[key]
            for key, (seq, message) in self.sent.items()
            if key in received
        }
        changed = {seq: form for seq, form in forms.items() if form is not None or seq in self.thread.changed_seqs}
        self.thread.changed_seqs.difference_update(changed)
        self.thread.changed_seqs.update(seq for seq, form in changed.items() if form is not None)
        # Other middleware may have changed this message before, even if it is unchanged now.
        records = {seq: form if form is not None else self.forms.get(seq) for seq, form in changed.items()}
        received_count = len(self.sent.keys() & received.keys())
        # A request without any ids contains copies, so their identity does not show whether their content changed.
        is_rewritten = bool(records) or 0 < received_count < len(self.sent)
        if is_rewritten and not self.thread.is_rewritten:
            await self._record_rewriting(session)
        known_seqs = self.thread.received_seqs if self.thread.is_rewritten else None
        if records or known_seqs is not None:
            await session.set_shown_forms(_form_records(records), known_seqs=known_seqs)

    async def _record_rewriting(self, session: MnesisSession) -> None:
        """Record that other middleware changes requests after they were prepared. Messages that no model has received
        yet, which a redactor has not seen either, are then left out of summaries, also in other processes.
        """
        self.thread.is_rewritten = True
        store = session.engine.store
        record = await store.session(session.id)
        await store.update_session(session.id, metadata={**record.metadata, REWRITTEN_KEY: True})

    async def record_interruption(self, error: BaseException) -> None:
        """Record that the model call gave no reply. Does not raise if the store fails; the failure becomes a note."""
        await record_interruption(
            self.sessions.engine.store,
            self.session_ref.session_id,
            error,
            after_seq=max(self.seqs, default=0),
            partial_text=self.requests.partial_text,
        )

    async def _call_session(self, operation: Callable[[MnesisSession], Awaitable[T]]) -> T:
        return await self.sessions.pool.run_or_create(
            self.session_ref.session_id, operation, parent_id=self.session_ref.parent_id
        )

    async def _show_request(self, session: MnesisSession) -> list[ShownMessage]:
        if not self.thread.follows_state:
            for message in self.changes.shown:
                _ensure_id(message)
            return await self.thread.add_new(session, self.changes.shown)
        return await self.thread.show(
            session,
            self.changes.shown,
            withheld=self.changes.withheld,
            trimmed_ids=self._trimmed_ids(),
            forms=_form_records(self.changes.forms),
        )

    def _trimmed_ids(self) -> list[str]:
        state: Any = self.request.state
        return list(state.get(TRIMMED_FIELD) or ())

    async def _trim_update(self, session: MnesisSession) -> dict[str, Any]:
        """Return the update that removes messages from the state that a summary replaces in the view.

        The update names the summaries, so that every checkpoint of the state identifies its view.
        """
        covers = (await session.engine.store.active_context(session.id)).covers
        covers = tuple(cover for cover in covers if cover.summary_id is not None)
        removed_ids, summary_ids = [], set[str]()
        for message, seq in zip(self.changes.shown, self.seqs, strict=False):
            cover = find_cover(covers, seq)
            if cover is not None and cover.summary_id is not None and message.id is not None:
                removed_ids.append(message.id)
                summary_ids.add(cover.summary_id)
        if not removed_ids:
            return {}
        kept_ids = [key for key in self._trimmed_ids() if key not in summary_ids]
        return {
            "messages": [RemoveMessage(id=message_id) for message_id in removed_ids],
            TRIMMED_FIELD: [*kept_ids, *sorted(summary_ids)],
        }

    async def _read_window(self, budget_tokens: int | None = None) -> Window | None:
        return await self.sessions.window(
            self.session_ref.session_id,
            system_prompt=str(self.request.system_message.text) if self.request.system_message else "",
            reserved_tokens=self.tool_tokens,
            budget_tokens=budget_tokens,
            forms=_form_records(self.forms),
        )

    def _is_compaction_due(self, reported_tokens: int) -> bool:
        """Return whether the trigger is reached, and a compaction would free a worthwhile part of the messages.

        As with `SummarizationMiddleware`, only messages count: neither the system prompt nor tool definitions.
        """
        window = self.window
        if window is None:
            return False
        overhead_tokens = window.system_tokens + self.tool_tokens
        tokens = max(sum(record.token_count for record in window.messages), reported_tokens - overhead_tokens)
        if not is_due(self.rules.triggers, ContextMeasure(tokens, len(window.messages), self._limit_tokens(window))):
            return False
        foldable_tokens = sum(record.token_count for record in window.messages if not record.is_summary)
        return foldable_tokens - self._keep_tokens() >= tokens * MIN_GAIN_FRACTION

    def _keep_tokens(self) -> int:
        window = self.window
        token_counts = [record.token_count for record in window.messages] if window is not None else []
        return keep_tokens(self.rules.keep, token_counts, self._limit_tokens(window) if window is not None else 1)

    def _limit_tokens(self, window: Window) -> int:
        profile = getattr(self.request.model, "profile", None)
        limit = profile.get("max_input_tokens") if isinstance(profile, dict) else None
        return limit if isinstance(limit, int) and limit > 0 else window.budget_tokens

    def _request_with_window(self) -> ModelRequest[Any]:
        """Return the request with the window's messages, and with additions after the message that they followed."""
        additions = [
            (self.seqs[count - 1] if 0 < count <= len(self.seqs) else 0, message)
            for count, message in self.changes.additions
        ]
        messages: list[Any] = []
        records = self.window.messages if self.window is not None else ()
        for record, rendered in zip(records, self._to_langchain(records), strict=True):
            while additions and additions[0][0] < record.seq and record.role != "tool":
                messages.append(additions.pop(0)[1])
            if len(rendered) == 1 and rendered[0].id is not None and not record.is_summary:
                self.sent[rendered[0].id] = (record.seq, rendered[0])
            messages += rendered
        messages += [message for _, message in additions]
        return self.request.override(messages=messages)

    def _to_langchain(self, records: Sequence[Message]) -> list[list[BaseMessage]]:
        """Return what each record of the window becomes: the state's own message, unless the window changes it."""
        unchanged = self.thread.known.find_unchanged(records, self.candidates)
        others = [record for record in records if record.is_summary or record.seq not in unchanged]
        converted = iter(self.sessions.convert_window(self.session_ref.session_id, others))
        return [
            next(converted) if record.is_summary or record.seq not in unchanged else [unchanged[record.seq]]
            for record in records
        ]


def _form_records(forms: Mapping[int, FormT]) -> dict[int, Any]:
    """Convert the forms of messages to records. None stays None."""
    return {seq: to_record(form) if form is not None else None for seq, form in forms.items()}


def _as_message(value: Any) -> BaseMessage:
    return value if isinstance(value, BaseMessage) else convert_to_messages([value])[0]


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
