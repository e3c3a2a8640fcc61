"""`MnesisAgentSession`: the `Session` of the OpenAI Agents SDK on a mnesis session."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from agents import FunctionTool
from agents.items import TResponseInputItem
from agents.memory import SessionABC, SessionSettings
from agents.tool_context import ToolContext

from agents_mnesis.items import Item, item_role, stored_items, to_items, to_record, to_records
from mnesis.config import ConfigOrDict, parse_config
from mnesis.engine.engine import Engine
from mnesis.errors import MnesisError, StaleContextError, SummaryNotFoundError, ToolDefinitionError
from mnesis.models.context import ActiveContext, Budget, Window
from mnesis.models.message import Message
from mnesis.models.summary import Summary
from mnesis.models.tool import ToolSpec
from mnesis.recall.grants import Grant
from mnesis.session.conversion_cache import ConversionCache
from mnesis.session.pool import SessionId, SessionPool, validate_session_id
from mnesis.session.pool import SessionSettings as PoolSettings
from mnesis.session.session import MnesisSession

MAX_ATTEMPTS = 20
"""Attempts to remove the newest item while other writers store messages. Each one reads the context again."""


class MnesisAgentSession(SessionABC):
    """A session for `Runner.run(agent, …, session=session)`. The log keeps every item; `get_items()` returns what fits.

    `engine` or `db_path` selects the database (default: the database of the configuration). `model` is the name of the
    model whose window determines the size of the history; `token_limit` sets the size directly. `reserved_tokens` is the
    size of the agent's instructions and tool definitions, which the history must leave free. `llm` writes the summaries
    of older items: a model string, a client, or None for extracts without a model.

    Calls and their outputs stay together, and reasoning stays with the items that followed it. An item that is shown
    unchanged is equal to the item that was added. The same session can be used through every other API at the same time.

    The constructor does no I/O. Raises `ConfigurationError` if the session id is not a non-empty string, an integer or a
    UUID.

        session = MnesisAgentSession("ada", db_path="chat.db", model="openai/gpt-4o")
        result = await Runner.run(agent, "My name is Ada.", session=session)
    """

    def __init__(
        self,
        session_id: SessionId,
        *,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        model: str | None = None,
        token_limit: int | None = None,
        reserved_tokens: int = 0,
        config: ConfigOrDict | None = None,
        llm: object | None = None,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = validate_session_id(session_id)
        self.session_settings: SessionSettings | None = _parse_settings(session_settings)
        self._reserved_tokens = reserved_tokens
        budget = None if token_limit is None else Budget.for_tokens(token_limit, includes_system_prompt=False)
        settings = PoolSettings(model=model, config=parse_config(config), llm=llm, budget=budget)
        self._pool = SessionPool(engine=engine, db_path=db_path, settings=settings)
        self._converted: ConversionCache[Item] = ConversionCache()

    @property
    def engine(self) -> Engine:
        """The engine of the session, with its store and event bus."""
        return self._pool.engine

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the history for the next request, oldest first, compacting the session first if necessary.

        With `limit`, return the newest `limit` items of it. The limit of `session_settings` applies if it is None.
        """
        window = await self._pool.run(self.session_id, self._read_window)
        items = self._window_items(window) if window is not None else []
        max_items = limit if limit is not None else self.session_settings.limit if self.session_settings else None
        if max_items is not None and max_items >= 0:  # a negative limit means no limit, as in SQLite
            items = items[len(items) - max_items :] if max_items < len(items) else items
        return cast(list[TResponseInputItem], items)

    async def get_all_items(self) -> list[TResponseInputItem]:
        """Return every item of the log, also those that were summarised, popped or cleared."""
        session = await self._pool.get(self.session_id)
        if session is None:
            return []
        items = [item async for record in session.iter_messages() for item in to_items(record)]
        return cast(list[TResponseInputItem], items)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Store items in one transaction.

        Raises `InvalidMessageError` if an item is not a dict of JSON values, and the store's errors.
        """
        records = to_records(items)
        if not records:
            await self._pool.get(self.session_id)  # raises if the session was closed
        else:
            last = records[-1]
            ends_turn = last.role == "assistant" and not last.tool_calls
            await self._pool.run_or_create(
                self.session_id, lambda session: session.append(records, ends_turn=ends_turn)
            )

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item from the history and return it; None if there is none. The log keeps it."""
        item = await self._pool.run(self.session_id, _pop_newest)
        return cast(TResponseInputItem | None, item)

    async def clear_session(self) -> None:
        """Empty the history. The log keeps everything; `purge()` erases it."""
        await self._pool.run(self.session_id, MnesisSession.clear_context)

    async def purge(self) -> None:
        """Erase the session and everything that belongs to it, permanently."""
        await self._pool.purge(self.session_id)

    async def session(self) -> MnesisSession:
        """Return the mnesis session, for operations that the protocol does not have: search, expand, compact."""
        return await self._pool.get_or_create(self.session_id)

    async def recall_tools(self, grant: Grant | None = None) -> list[FunctionTool]:
        """Return `lcm_grep`, `lcm_describe` and `lcm_expand` for `Agent(tools=…)`, which find and read omitted items.

        By default only the size of each result is limited. A `grant` limits all results together.
        """
        specs = (await self.session()).recall_tools(grant or Grant(tokens=None))
        return [_function_tool(spec) for spec in specs]

    async def close(self) -> None:
        """Wait for background work, and close the database if this object opened it. Does nothing if already closed."""
        await self._pool.close()

    async def _read_window(self, session: MnesisSession) -> Window:
        return await session.window(system_prompt="", reserved_tokens=self._reserved_tokens, shared=True)

    def _window_items(self, window: Window) -> list[Item]:
        groups = ((message,) for message in window.messages)
        converted = self._converted.read(self.session_id, groups, lambda records: to_items(records[0]))
        return _order_items(window.messages, converted)


def _parse_settings(settings: SessionSettings | dict[str, Any] | None) -> SessionSettings:
    if not isinstance(settings, dict):
        return settings or SessionSettings()
    known = {field.name for field in dataclasses.fields(SessionSettings)}
    if unknown := sorted(settings.keys() - known):
        raise TypeError(f"Unknown session settings: {', '.join(unknown)}")  # the error of the SDK's own sessions
    return SessionSettings(**settings)


def _order_items(messages: Sequence[Message], converted: Sequence[list[Item]]) -> list[Item]:
    """Return the items of a window's messages. Outputs come in the order in which they were stored."""
    items: list[Item] = []
    outputs: list[tuple[int, list[Item]]] = []
    missing: list[tuple[int, list[Item]]] = []
    call_seq = 0
    for message, message_items in zip(messages, converted, strict=True):
        if message.role == "tool":
            # The window adds a note for each missing output, with the position of its call.
            (missing if message.seq == call_seq else outputs).append((message.seq, message_items))
            continue
        items += _in_order(outputs) + _in_order(missing) + message_items
        outputs, missing, call_seq = [], [], message.seq
    # The newest calls may be waiting for approval. Then their outputs come with the next items.
    return items + _in_order(outputs)


def _in_order(outputs: Sequence[tuple[int, list[Item]]]) -> list[Item]:
    return [item for _, items in sorted(outputs, key=lambda output: output[0]) for item in items]


async def _pop_newest(session: MnesisSession) -> Item | None:
    store = session.engine.store
    for _ in range(MAX_ATTEMPTS):
        context = await store.active_context(session.id)
        if not context.items:
            return None
        newest = context.items[-1]
        try:
            if isinstance(newest, Summary):  # its messages are shown again first
                await session.unfold(newest.id)
                continue
            return await _remove_last_item(session, context, newest)
        except (StaleContextError, SummaryNotFoundError):  # another writer changed the context
            continue
    raise StaleContextError(
        f"session {session.id!r} changed during each of {MAX_ATTEMPTS} attempts to remove its newest item; try again when"
        " fewer writers use it"
    )


async def _remove_last_item(session: MnesisSession, context: ActiveContext, newest: Message) -> Item:
    items = stored_items(newest) or to_items(newest) or [{"role": newest.role, "content": ""}]
    remaining = [to_record(item_role(items[0]), items[:-1])] if len(items) > 1 else []
    await session.revise(hide=[(newest.seq, newest.seq)], messages=remaining, last_seq=context.session.last_seq)
    return items[-1]


def _function_tool(spec: ToolSpec) -> FunctionTool:
    handler: Callable[..., Any] | None = spec.handler
    if handler is None:
        raise ToolDefinitionError(f"tool {spec.name!r} has no handler and cannot be called")

    async def invoke(context: ToolContext[Any], arguments: str) -> str:
        try:
            return str(await handler(**json.loads(arguments or "{}")))
        except (MnesisError, TypeError, ValueError) as error:  # the model reads the error and can correct its call
            return f"Error: {error}"

    return FunctionTool(
        name=spec.name,
        description=spec.description,
        params_json_schema=spec.parameters,
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )
