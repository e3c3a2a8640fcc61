"""`MnesisMemory`: a LlamaIndex memory that stores every message and returns a view that fits."""

from __future__ import annotations

import json
import os
import uuid
import warnings
import weakref
from collections.abc import Callable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory.types import DEFAULT_CHAT_STORE_KEY, BaseMemory
from llama_index.core.storage.chat_store import BaseChatStore
from llama_index.core.tools import FunctionTool
from llama_index.core.utils import get_tokenizer
from llama_index.memory.mnesis.events import forward_events
from llama_index.memory.mnesis.history import History, token_counter
from llama_index.memory.mnesis.import_simple_store import read_buffer_dump
from llama_index.memory.mnesis.keywords import refuse_unknown
from llama_index.memory.mnesis.llm import client_for, context_window, model_name
from llama_index.memory.mnesis.messages import from_record
from llama_index.memory.mnesis.tools import function_tools
from llama_index.memory.mnesis.view import SummaryPlacement
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from mnesis import concurrency
from mnesis.config import ConfigOrDict
from mnesis.engine.engine import Engine
from mnesis.engine.known_engines import database_key, find_engine
from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.events.bus import EventBus
from mnesis.ids import new_id
from mnesis.models.context import Budget
from mnesis.models.results import CompactionResult
from mnesis.recall.grants import Grant
from mnesis.session.pool import SessionId, SessionPool, SessionSettings, validate_session_id
from mnesis.session.session import MnesisSession

DEFAULT_TOKEN_LIMIT = 30_000
"""The limit without a model that reports its window, as in LlamaIndex's `Memory`."""
TOKEN_LIMIT_FRACTION = 0.75
"""The part of a model's window that the history may take by default, as in `ChatMemoryBuffer`."""


def _tokenize(text: str) -> list[Any]:
    """Tokenize with LlamaIndex's default tokenizer, whose table is not read before the first use."""
    return list(get_tokenizer()(text))


_live_memories: weakref.WeakValueDictionary[tuple[str, str], MnesisMemory] = weakref.WeakValueDictionary()


class MnesisMemory(BaseMemory):
    """A chat memory on a session. The log keeps every message; `get()` returns at most `token_limit` tokens.

    Create one with `from_defaults()`. A memory may be shared between tasks, threads and event loops. `llm` writes the
    summaries of messages that no longer fit; without it, summaries are extracts made by rules. `summary_insert` places
    them in a system message at the beginning ("system") or before the text of the first user message ("user").
    Serialisation writes only a reference to the session, which is opened again when the memory is restored.

        memory = MnesisMemory.from_defaults(session_id="ada", llm=llm, db_path="chat.db")
        agent = FunctionAgent(tools=tools, llm=llm)
        await agent.run("My name is Ada.", memory=memory)
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    session_id: str = Field(default_factory=lambda: new_id("sess"), min_length=1)
    database: str = ""
    token_limit: int = DEFAULT_TOKEN_LIMIT
    summary_insert: SummaryPlacement = "system"
    tokenizer_fn: Callable[[str], list[Any]] = Field(default=_tokenize, exclude=True)
    llm: Any = Field(default=None, exclude=True)

    _attached_pool: SessionPool | None = PrivateAttr(default=None)
    _has_begun: bool = PrivateAttr(default=False)
    _client: tuple[Any, object | None] = PrivateAttr(default=(None, None))
    _history: History | None = PrivateAttr(default=None)

    @field_validator("session_id", mode="before")
    @classmethod
    def _validate_session_id(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | uuid.UUID) and not isinstance(value, bool) else value

    @field_validator("token_limit", mode="before")
    @classmethod
    def _validate_token_limit(cls, value: Any) -> Any:
        if not isinstance(value, int) or value < 1:
            raise ValueError("Token limit must be set and greater than 0.")
        return value

    @classmethod
    def class_name(cls) -> str:
        """Return the class name that LlamaIndex stores."""
        return "MnesisMemory"

    @classmethod
    def from_defaults(
        cls,
        session_id: SessionId | None = None,
        chat_history: list[ChatMessage] | None = None,
        llm: Any = None,
        token_limit: int | None = None,
        tokenizer_fn: Callable[[str], list[Any]] | None = None,
        chat_store: BaseChatStore | None = None,
        chat_store_key: str | None = None,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        summary_insert: SummaryPlacement = "system",
        config: ConfigOrDict | None = None,
        **kwargs: Any,
    ) -> MnesisMemory:
        """Create a memory for a session. The session itself is created on first use.

        The session id is `session_id`, `chat_store_key` or a new id, in this order. `token_limit` is in tokens of
        `tokenizer_fn` (default: three quarters of the window of `llm`, or 30,000). Pass an `engine`, which has its
        database and settings, or the `db_path` of the database (default: `config.store.db_path`). A `chat_history` that
        is not empty becomes the history, as with `set()`. The messages of `chat_store` under `chat_store_key` are
        copied if the session has no messages yet.

        Raises ValueError for unknown keywords or a limit below 1, and the store's errors.
        """
        refuse_unknown(kwargs)
        if chat_store is not None and session_id is None and chat_store_key is None:
            warnings.warn(
                "chat_store= without chat_store_key= or session_id= starts a new session in each process; pass"
                " session_id= to continue the conversation",
                stacklevel=2,
            )
        if engine is not None and (db_path is not None or config is not None):
            raise ConfigurationError(
                "pass engine=, or db_path= and config=, not both: an engine already has a database and settings"
            )
        window_tokens = context_window(llm)
        if token_limit is None:
            token_limit = (
                int(window_tokens * TOKEN_LIMIT_FRACTION) if window_tokens is not None else DEFAULT_TOKEN_LIMIT
            )
        memory_engine = engine or Engine(db_path, config=config)
        given_ids = (value for value in (session_id, chat_store_key) if value not in (None, ""))
        memory_id = validate_session_id(next(given_ids, new_id("sess")))
        tokenizer_fields = {} if tokenizer_fn is None else {"tokenizer_fn": tokenizer_fn}
        memory = cls(
            session_id=memory_id,
            database=database_key(memory_engine),
            token_limit=token_limit,
            summary_insert=summary_insert,
            llm=llm,
            **tokenizer_fields,
        )
        memory._attach(memory_engine, owns_engine=engine is None)
        if chat_store is not None:
            concurrency.run(memory._import_messages(chat_store.get_messages(chat_store_key or DEFAULT_CHAT_STORE_KEY)))
        if chat_history:
            memory.set(chat_history)
        return memory

    @property
    def chat_store_key(self) -> str:
        """The session id, under the name that other memories use."""
        return self.session_id

    @property
    def engine(self) -> Engine:
        """The engine of the session."""
        return self._pool.engine

    @property
    def events(self) -> EventBus:
        """The events of this session, whichever API causes them."""
        return self.engine.events.for_session(self.session_id)

    async def asession(self) -> MnesisSession:
        """Return the session, for operations that a memory does not have (search, expand, history of turns)."""
        return (await self._open_history()).session

    def get(self, input: Any = None, initial_token_count: int = 0, **kwargs: Any) -> list[ChatMessage]:
        """Return the view for the next request: at most `token_limit` tokens, including `initial_token_count`.

        `input` is the query of automatic recall if the user's message is not stored yet. Other keywords are accepted
        for compatibility and ignored. Raises ValueError if `initial_token_count` alone exceeds the limit.
        """
        return concurrency.run(self.aget(input, initial_token_count, **kwargs))

    async def aget(self, input: Any = None, initial_token_count: int = 0, **kwargs: Any) -> list[ChatMessage]:
        """Return the view for the next request; see `get`."""
        if initial_token_count > self.token_limit:
            raise ValueError("Initial token count exceeds token limit")
        history = await self._open_history()
        view = await history.read_view(
            token_limit=self.token_limit,
            reserved_tokens=max(initial_token_count, 0),
            placement=self.summary_insert,
            question=input if isinstance(input, str) else None,
        )
        return view.messages

    def get_all(self, **kwargs: Any) -> list[ChatMessage]:
        """Return every message since the last `reset()`, unchanged. Keywords are accepted and ignored."""
        return concurrency.run(self.aget_all(**kwargs))

    async def aget_all(self, **kwargs: Any) -> list[ChatMessage]:
        """Return every message since the last reset; see `get_all`."""
        return await (await self._open_history()).all_messages()

    def put(self, message: ChatMessage) -> None:
        """Store a message."""
        concurrency.run(self.aput_messages([message]))

    async def aput(self, message: ChatMessage) -> None:
        """Store a message."""
        await self.aput_messages([message])

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Store messages in one transaction."""
        concurrency.run(self.aput_messages(messages))

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """Store messages in one transaction."""
        await (await self._open_history()).add(messages, model_name(self.llm))

    def set(self, messages: list[ChatMessage]) -> None:
        """Replace the history. Messages that are already stored are not stored again; the log keeps all others."""
        concurrency.run(self.aset(messages))

    async def aset(self, messages: list[ChatMessage]) -> None:
        """Replace the history; see `set`."""
        history = await self._open_history()
        await history.replace(messages, token_limit=self.token_limit, placement=self.summary_insert)

    def reset(self, **kwargs: Any) -> None:
        """Empty the history. The log keeps everything. Keywords are accepted for compatibility and ignored."""
        concurrency.run(self.areset(**kwargs))

    async def areset(self, **kwargs: Any) -> None:
        """Empty the history; see `reset`."""
        await self.aset([])

    def history(self, *, include_superseded: bool = True) -> list[ChatMessage]:
        """Return the log, including messages that `reset()` and `set()` removed from the history.

        With `include_superseded=False`, return the same as `get_all()`.
        """
        return concurrency.run(self.ahistory(include_superseded=include_superseded))

    async def ahistory(self, *, include_superseded: bool = True) -> list[ChatMessage]:
        """Return the log; see `history`."""
        history = await self._open_history()
        if not include_superseded:
            return await history.all_messages()
        return [message async for record in history.session.iter_messages() for message in from_record(record)]

    def compact(self) -> CompactionResult:
        """Fold everything except the two newest turns."""
        return concurrency.run(self.acompact())

    async def acompact(self) -> CompactionResult:
        """Fold everything except the two newest turns; see `compact`."""
        return await (await self._open_history()).session.compact()

    def recall_tools(self, grant: Grant | None = None) -> list[FunctionTool]:
        """Return `lcm_grep`, `lcm_describe` and `lcm_expand` for an agent, which find and read omitted messages.

        By default only the size of each result is limited. A `grant` sets that limit and one for all results together.
        """
        return concurrency.run(self.arecall_tools(grant))

    async def arecall_tools(self, grant: Grant | None = None) -> list[FunctionTool]:
        """Return the recall tools for an agent; see `recall_tools`."""
        # An agent runs for many turns and would soon use up the limited grant of a single turn.
        return function_tools((await self.asession()).recall_tools(grant or Grant(tokens=None)))

    def close(self) -> None:
        """Wait for background work and release the database. Does nothing if already closed."""
        concurrency.run(self.aclose())

    async def aclose(self) -> None:
        """Wait for background work and release the database; see `close`."""
        await self._pool.close()

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return a reference to the session as JSON: its location and settings, without messages."""
        return {
            "session_id": self.session_id,
            "database": self._database_key(),
            "token_limit": self.token_limit,
            "summary_insert": self.summary_insert,
            "begun": self._has_begun,
            "class_name": self.class_name(),
        }

    @classmethod
    def from_dict(
        cls, data: dict[str, Any], *, engine: Engine | None = None, llm: Any = None, **kwargs: Any
    ) -> MnesisMemory:
        """Return the memory for a reference from `to_dict()`.

        Returns the same object if it is still in use in this process, otherwise a new one. `engine` is the engine that
        now contains the session; `llm` writes the summaries from now on.

        A dump of `ChatMemoryBuffer` contains messages instead of a reference. They become the history of a new session, or
        of `session_id`, in the database of `engine` or `db_path`. Raises `ConfigurationError` if the referenced
        database does not exist; it is not created.
        """
        if "chat_store" in data:  # a dump of ChatMemoryBuffer and its relatives contains the messages
            return cls._import_dump(data, engine=engine, llm=llm, **kwargs)
        fields = {name: value for name, value in data.items() if name not in ("class_name", "begun")}
        live_memory = _live_memories.get((fields.get("database", ""), fields.get("session_id", "")))
        if live_memory is not None and engine is None and llm is None and not live_memory._pool.closed:
            if all(getattr(live_memory, name) == value for name, value in fields.items()):
                return live_memory
            fields |= {"llm": live_memory.llm}
        memory = cls(**{**fields, **({"llm": llm} if llm is not None else {})})
        memory_engine, owns_engine = (
            (engine, False) if engine is not None else find_engine(memory.database, must_exist=True)
        )
        memory.database = database_key(memory_engine)
        memory._attach(memory_engine, owns_engine=owns_engine, must_exist=data.get("begun") is True)
        return memory

    @classmethod
    def _import_dump(cls, data: dict[str, Any], **options: Any) -> MnesisMemory:
        messages, token_limit = read_buffer_dump(data)
        memory = cls.from_defaults(**{"token_limit": token_limit, **options})
        concurrency.run(memory._import_messages(messages))
        return memory

    def to_string(self) -> str:
        """Return the reference of `to_dict()` as a JSON string."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_string(cls, json_str: str, **kwargs: Any) -> MnesisMemory:
        """Return the memory for a reference from `to_string()`; see `from_dict`."""
        return cls.from_dict(json.loads(json_str), **kwargs)

    def __bool__(self) -> bool:
        # Chat engines and agents replace a falsy memory with their default.
        return True

    def __copy__(self) -> MnesisMemory:
        return self

    def __deepcopy__(self, memo: Any = None) -> MnesisMemory:
        # Agents copy their state before they change it, but all copies must share one history.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_dict, (self.to_dict(),))

    @property
    def _pool(self) -> SessionPool:
        if self._attached_pool is None:
            engine, is_new = find_engine(self.database, must_exist=False) if self.database else (Engine(), True)
            self.database = database_key(engine)
            self._attach(engine, owns_engine=is_new)
        assert self._attached_pool is not None, "attached just now"  # noqa: S101  # an invariant, not input
        return self._attached_pool

    def _database_key(self) -> str:
        return self.database if self._attached_pool is not None else database_key(self._pool.engine)

    def _attach(self, engine: Engine, *, owns_engine: bool, must_exist: bool = False) -> None:
        self._attached_pool = SessionPool(engine=engine, owns_engine=owns_engine, on_open=forward_events)
        self._has_begun = must_exist
        _live_memories[self.database, self.session_id] = self

    def _settings(self, engine: Engine) -> SessionSettings:
        if self._client[0] is not self.llm:
            self._client = (self.llm, client_for(self.llm))
        # A memory does not return the system prompt of a session that another API created.
        budget = Budget.for_tokens(self.token_limit, includes_system_prompt=False, config=engine.config.compaction)
        return SessionSettings(llm=self._client[1], budget=budget)

    async def _open_session(self) -> MnesisSession:
        """Return the session, opened with the current limit and model.

        Raises `SessionNotFoundError` if it was stored before and no longer exists.
        """
        pool = self._pool
        pool.configure(self._settings(pool.engine))
        session = await pool.get(self.session_id) if self._has_begun else await pool.get_or_create(self.session_id)
        if session is None:
            raise SessionNotFoundError(self.session_id, location=pool.engine.path)
        self._has_begun = True
        return session

    async def _open_history(self) -> History:
        session = await self._open_session()
        if self._history is None or self._history.session is not session:
            tokenizer = self.tokenizer_fn if "tokenizer_fn" in self.model_fields_set else None
            self._history = History(session, await token_counter(tokenizer))
        return self._history

    async def _import_messages(self, messages: list[ChatMessage]) -> None:
        history = await self._open_history()
        if not (await history.session.engine.store.session(self.session_id)).last_seq:
            await history.add(messages)
