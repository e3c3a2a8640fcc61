"""`MnesisHistory`: a Pydantic AI capability that stores an agent's messages and fits its requests."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.run import AgentRunResult

from mnesis.config import ConfigOrDict, parse_config
from mnesis.engine.engine import Engine
from mnesis.models.context import Budget
from mnesis.models.message import Message
from mnesis.models.session import SessionRecord
from mnesis.session.conversion_cache import ConversionCache
from mnesis.session.pool import SessionId, SessionPool, SessionSettings, validate_session_id
from mnesis.session.session import MnesisSession
from mnesis.tokens.encodings import preload_encoding
from mnesis.tokens.estimator import TokenEstimator
from pydantic_ai_mnesis.convert import (
    StoredMessage,
    all_messages,
    group_records,
    message_key,
    stored_message,
    to_records,
    window_messages,
    without_made_parts,
)

PAGE_MESSAGES = 500
"""The number of messages that are read from a log at once."""


@dataclass
class _Run:
    """The session of an agent's run, the session of the agent that started it, and the run's messages so far."""

    session_id: str
    parent_id: str | None
    messages: Sequence[ModelMessage] = ()


_current_run: ContextVar[_Run | None] = ContextVar("mnesis_pydantic_ai_run", default=None)
"""The run of the agent that calls the current code, so that the agents it runs get sessions below its session."""


@dataclass
class _KnownLog:
    """The known part of a session's log: the messages of Pydantic AI in it, by key and by their first record."""

    created_at: int = 0
    last_seq: int = 0
    keys: set[str] = field(default_factory=set)
    messages: dict[str, StoredMessage] = field(default_factory=dict)

    def add(self, records: Iterable[Message]) -> None:
        for record in records:
            # Only consecutive messages: those of another writer in between are read with the next call.
            self.last_seq += record.seq == self.last_seq + 1
            if (stored := stored_message(record)) is not None:
                self.keys.add(stored.key)
                self.messages[record.id] = stored


class MnesisHistory(AbstractCapability[Any]):
    """A capability for `Agent(…, capabilities=[MnesisHistory()])`: every message is stored, and each request fits.

    A run continues the session named by `conversation_id`, or by `session_id`: an id, or a function of the run's context.
    The log is the history, so pass no `message_history`. Messages that are passed and not in the log yet are stored first.
    Each step is stored before the model is called, and the rest when the run ends, even if it fails or is cancelled.
    Messages that the window shows unchanged are equal to those that were stored. What other capabilities change in a
    request is respected; the log keeps the original.

    `model` is the name of the model whose window determines the budget (default: the model of the first request);
    `token_limit` sets the size of a request directly. `llm` writes the summaries: a model string, a client, or None for
    extracts without a model. An agent that a tool runs gets a session below that of the outer agent.
    The constructor does no I/O.

        agent = Agent("openai:gpt-4o", capabilities=[MnesisHistory(db_path="chat.db")])
        result = await agent.run("My name is Ada.", conversation_id="ada")
    """

    def __init__(
        self,
        session_id: SessionId | Callable[[RunContext[Any]], SessionId] | None = None,
        *,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        model: str | None = None,
        token_limit: int | None = None,
        config: ConfigOrDict | None = None,
        llm: object | None = None,
    ) -> None:
        self._session_id = session_id if session_id is None or callable(session_id) else validate_session_id(session_id)
        budget = None if token_limit is None else Budget.for_tokens(token_limit)
        settings = SessionSettings(model=model, config=parse_config(config), llm=llm, budget=budget)
        self._pool = SessionPool(engine=engine, db_path=db_path, settings=settings)
        self._logs: dict[str, _KnownLog] = {}
        self._converted: ConversionCache[ModelMessage] = ConversionCache()

    @property
    def engine(self) -> Engine:
        """The engine of the sessions, with their store and event bus."""
        return self._pool.engine

    async def messages(self, session_id: SessionId) -> list[ModelMessage]:
        """Return the history that fits, as `message_history` for an agent without this capability."""
        session = await self._pool.get(validate_session_id(session_id))
        if session is None:
            return []
        window = await session.window(system_prompt="", shared=True)
        known = await self._read_on(session, window.session)

        def convert(records: Sequence[Message]) -> list[ModelMessage]:
            return window_messages(records, known.messages, {})

        converted = self._converted.read(session.id, group_records(window.messages), convert)
        return [message for messages in converted for message in messages]

    async def all_messages(self, session_id: SessionId) -> list[ModelMessage]:
        """Return every message of the log, unchanged."""
        session = await self._pool.get(validate_session_id(session_id))
        return all_messages(await session.messages()) if session is not None else []

    async def add(self, session_id: SessionId, messages: Sequence[ModelMessage]) -> None:
        """Store messages in one transaction. Messages that are stored already are not stored again."""
        session = await self._pool.get_or_create(validate_session_id(session_id))
        await self._store_new(session, messages)

    async def clear(self, session_id: SessionId) -> None:
        """Empty the history. The log keeps everything; `purge()` erases it."""
        await self._pool.run(validate_session_id(session_id), MnesisSession.clear_context)

    async def purge(self, session_id: SessionId) -> None:
        """Erase a session and everything that belongs to it, permanently."""
        self._logs.pop(validate_session_id(session_id), None)
        await self._pool.purge(validate_session_id(session_id))

    async def session(self, session_id: SessionId) -> MnesisSession:
        """Return the mnesis session, for search, expand, compact and recall tools."""
        return await self._pool.get_or_create(validate_session_id(session_id))

    async def close(self) -> None:
        """Wait for background work, and close the database if this object opened it. Does nothing if already closed."""
        await self._pool.close()

    async def wrap_run(
        self,
        ctx: RunContext[Any],
        *,
        # Pydantic AI's alias `WrapRunHandler` is a string, whose names only its own module knows.
        handler: Callable[[], Awaitable[AgentRunResult[Any]]],
    ) -> AgentRunResult[Any]:
        """Run the agent, and store the messages it added, even if it fails or is cancelled."""
        outer = _current_run.get()
        run = _Run(self._session_id_of(ctx), outer.session_id if outer is not None else None, ctx.messages)
        token = _current_run.set(run)
        try:
            result = await handler()
            run.messages = result.all_messages()
            return result
        finally:
            _current_run.reset(token)
            await asyncio.shield(self._finish(run))

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Store the messages so far, and replace those of the request with a history that fits."""
        settings = self._pool.settings
        if settings.model is None and settings.default_model is None:
            name = f"{request_context.model.system}/{request_context.model.model_name}"
            self._pool.configure(replace(settings, default_model=name))
        run = _current_run.get() or _Run(self._session_id_of(ctx), None)
        run.messages = ctx.messages  # the run appends to this list
        session = await self._open(run)
        known = await self._store_new(session, ctx.messages)
        window = await session.window(system_prompt="", reserved_tokens=await _count_overhead(request_context))
        said = [(message, without_made_parts(message)) for message in ctx.messages]
        originals = {message_key(part): part for _, part in said if part is not None}
        shown = [
            message
            for records in group_records(window.messages)
            for message in window_messages(records, known.messages, originals)
        ]
        request_context.messages = _apply_changes(shown, said, request_context.messages)
        return request_context

    async def _open(self, run: _Run) -> MnesisSession:
        return await self._pool.get_or_create(run.session_id, parent_id=run.parent_id)

    def _session_id_of(self, ctx: RunContext[Any]) -> str:
        if self._session_id is None:
            return validate_session_id(ctx.conversation_id or ctx.run_id)
        return validate_session_id(self._session_id(ctx) if callable(self._session_id) else self._session_id)

    async def _finish(self, run: _Run) -> None:
        if run.messages:
            await self._store_new(await self._open(run), run.messages)

    async def _store_new(self, session: MnesisSession, messages: Sequence[ModelMessage]) -> _KnownLog:
        known = await self._read_on(session)
        said = (without_made_parts(message) for message in messages)
        new = [message for message in said if message is not None and message_key(message) not in known.keys]
        records = [record for message in new for record in to_records(message)]
        if records:
            last = new[-1]
            usage = next((record.tokens for record in reversed(records) if record.tokens is not None), None)
            ends_turn = isinstance(last, ModelResponse) and not records[-1].tool_calls
            known.add(await session.append(records, tokens=usage, ends_turn=ends_turn))
        return known

    async def _read_on(self, session: MnesisSession, record: SessionRecord | None = None) -> _KnownLog:
        """Read the messages that were stored since the last call, up to those of `record`, the newest one by default."""
        store = session.engine.store
        record = record or await store.session(session.id)
        known = self._logs.setdefault(session.id, _KnownLog(record.created_at))
        if record.created_at != known.created_at or record.last_seq < known.last_seq:  # erased and created again
            known = self._logs[session.id] = _KnownLog(record.created_at)
        while known.last_seq < record.last_seq:
            known.add(await store.messages(session.id, after_seq=known.last_seq, limit=PAGE_MESSAGES))
        return known


async def _count_overhead(request: ModelRequestContext) -> int:
    """Return the tokens of a request's instructions and tool definitions."""
    await preload_encoding("unknown")
    parameters = request.model_request_parameters
    tools = [*parameters.function_tools, *parameters.output_tools]
    # Models send these fields; the others of a definition tell Pydantic AI what to do.
    definitions = [[tool.name, tool.description, tool.parameters_json_schema] for tool in tools]
    instructions = [part.content for part in parameters.instruction_parts or ()]
    return (
        TokenEstimator().estimate(json.dumps([definitions, instructions], default=str)) if tools or instructions else 0
    )


def _apply_changes(
    shown: Sequence[ModelMessage],
    said: Sequence[tuple[ModelMessage, ModelMessage | None]],
    requested: Sequence[ModelMessage],
) -> list[ModelMessage]:
    """Return the shown messages with what other capabilities changed in the request: replaced, removed and added ones.

    `said` are the messages of the run, each with its stored form; None for messages that mnesis made.
    """
    run_ids, requested_ids = {id(message) for message, _ in said}, {id(message) for message in requested}
    replaced: dict[int, ModelMessage] = {}
    if len(requested) == len(said):
        pairs = zip(said, requested, strict=True)
        replaced = {id(stored): new for (old, stored), new in pairs if new is not old and stored is not None}
    removed_ids = {id(stored) for old, stored in said if stored is not None and id(old) not in requested_ids}
    kept = [replaced.get(id(message), message) for message in shown if id(message) not in removed_ids - replaced.keys()]
    new_ids = {id(message) for message in replaced.values()}
    index_of = {id(message): index for index, message in enumerate(kept)}
    index_of |= {id(old): index_of[id(stored)] for old, stored in said if id(stored) in index_of}
    first = next((index for index, each in enumerate(requested) if id(each) in run_ids), len(requested))
    # Each added message follows the same message as in the request, or the summary that replaces that message.
    slot = min((index_of[id(old)] for old, _ in said if id(old) in index_of), default=len(kept))
    added: dict[int, list[ModelMessage]] = {}
    for index, message in enumerate(requested):
        if id(message) in index_of:
            slot = index_of[id(message)] + 1
        elif id(message) not in run_ids and id(message) not in new_ids:
            added.setdefault(slot if index > first else 0, []).append(message)
    return [message for index in range(len(kept) + 1) for message in (*added.get(index, ()), *kept[index : index + 1])]
