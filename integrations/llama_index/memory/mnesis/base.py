"""`MnesisMemory`: a LlamaIndex memory that keeps every message and returns a view that fits."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory.types import DEFAULT_CHAT_STORE_KEY, BaseMemory
from llama_index.core.storage.chat_store import BaseChatStore
from llama_index.core.tools import FunctionTool
from llama_index.core.utils import get_tokenizer
from llama_index.memory.mnesis.attachment import Attachment, engine_named, name_of
from llama_index.memory.mnesis.history import History, counter
from llama_index.memory.mnesis.llm import context_window
from llama_index.memory.mnesis.messages import from_record
from llama_index.memory.mnesis.tools import function_tools
from llama_index.memory.mnesis.view import Insert
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from mnesis import concurrency
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.events.bus import EventBus
from mnesis.ids import new_id
from mnesis.models.results import CompactionResult
from mnesis.recall.grants import Grant
from mnesis.session.session import MnesisSession

DEFAULT_TOKEN_LIMIT = 30_000
TOKEN_LIMIT_RATIO = 0.75
"""Share of a model's window that the history may take by default, as in `ChatMemoryBuffer`."""

_living: weakref.WeakValueDictionary[tuple[str, str], MnesisMemory] = weakref.WeakValueDictionary()


class MnesisMemory(BaseMemory):
    """Chat memory over a mnesis session: the log keeps every message, `get()` returns a view of at most `token_limit` tokens.

    Made by `from_defaults()`. Safe to share between tasks, threads and event loops. `llm` writes the summaries of what no
    longer fits; without one they are extracts made by rules. `summary_insert` says whether they stand in a system message
    at the beginning or in front of the first user message. Serialised it is a small pointer that attaches itself again.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    session_id: str = Field(default_factory=lambda: new_id("sess"), min_length=1)
    database: str = ""
    token_limit: int = DEFAULT_TOKEN_LIMIT
    summary_insert: Insert = "system"
    tokenizer_fn: Callable[[str], list[Any]] = Field(default_factory=get_tokenizer, exclude=True)
    llm: Any = Field(default=None, exclude=True)

    _attached: Attachment | None = PrivateAttr(default=None)
    _history: History | None = PrivateAttr(default=None)

    @field_validator("token_limit", mode="before")
    @classmethod
    def _limit_is_positive(cls, value: Any) -> Any:
        if not isinstance(value, int) or value < 1:
            raise ValueError("Token limit must be set and greater than 0.")
        return value

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex stores with it."""
        return "MnesisMemory"

    @classmethod
    def from_defaults(
        cls,
        session_id: str | None = None,
        chat_history: list[ChatMessage] | None = None,
        llm: Any = None,
        token_limit: int | None = None,
        tokenizer_fn: Callable[[str], list[Any]] | None = None,
        chat_store: BaseChatStore | None = None,
        chat_store_key: str | None = None,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        summary_insert: Insert = "system",
        config: MnesisConfig | None = None,
        **kwargs: Any,
    ) -> MnesisMemory:
        """A memory for the session `session_id` (or `chat_store_key`; a new one by default), created at its first use.

        `token_limit` is in tokens of `tokenizer_fn`; by default three quarters of the window of `llm`, or 30,000. An
        `engine` brings its database and settings; otherwise `db_path` (`config.store.db_path` by default) says where the
        database is. `chat_history`, if it is not empty, becomes the history as with `set()`. The messages that
        `chat_store` has under `chat_store_key` are copied once, if the session has none.

        Raises ValueError for unknown keywords and a limit below 1, and the store's errors.
        """
        if kwargs:
            raise ValueError(f"Unexpected kwargs: {kwargs}")
        if engine is not None and (db_path is not None or config is not None):
            raise ConfigurationError(
                "give engine= or db_path= and config=, not both: an engine has its database and settings"
            )
        window = context_window(llm)
        if token_limit is None:
            token_limit = int(window * TOKEN_LIMIT_RATIO) if window is not None else DEFAULT_TOKEN_LIMIT
        used = engine or Engine(db_path, config=config)
        given = {} if tokenizer_fn is None else {"tokenizer_fn": tokenizer_fn}
        made = cls(
            session_id=session_id or chat_store_key or new_id("sess"),
            database=name_of(used),
            token_limit=token_limit,
            summary_insert=summary_insert,
            llm=llm,
            **given,
        )
        made._attach(used, owns_engine=engine is None)
        if chat_store is not None:
            concurrency.run(made._import(chat_store.get_messages(chat_store_key or DEFAULT_CHAT_STORE_KEY)))
        if chat_history:
            made.set(chat_history)
        return made

    @property
    def chat_store_key(self) -> str:
        """The session's name, under the name other memories give it."""
        return self.session_id

    @property
    def engine(self) -> Engine:
        """The engine the session lives in."""
        return self._attachment.engine

    @property
    def events(self) -> EventBus:
        """What happens in this session, through whichever door."""
        return self.engine.events.for_session(self.session_id)

    async def asession(self) -> MnesisSession:
        """The session itself, for what a memory has no method for (search, expand, history of turns)."""
        return (await self._opened()).session

    def get(self, input: Any = None, initial_token_count: int = 0, **kwargs: Any) -> list[ChatMessage]:
        """The view for the next request, at most `token_limit` tokens together with `initial_token_count`.

        `input` is what automatic recall looks for where the user's message is not stored yet; further keywords are accepted
        for compatibility. Raises ValueError if the initial count alone is over
        the limit.
        """
        return concurrency.run(self.aget(input, initial_token_count, **kwargs))

    async def aget(self, input: Any = None, initial_token_count: int = 0, **kwargs: Any) -> list[ChatMessage]:
        """See `get`."""
        if initial_token_count > self.token_limit:
            raise ValueError("Initial token count exceeds token limit")
        history = await self._opened()
        view = await history.view(
            token_limit=self.token_limit,
            reserved_tokens=max(initial_token_count, 0),
            insert=self.summary_insert,
            question=input if isinstance(input, str) else None,
        )
        return view.messages

    def get_all(self, **kwargs: Any) -> list[ChatMessage]:
        """Every message since the last `reset()`, as it was put in. Further keywords are accepted for compatibility."""
        return concurrency.run(self.aget_all(**kwargs))

    async def aget_all(self, **kwargs: Any) -> list[ChatMessage]:
        """See `get_all`."""
        return await (await self._opened()).all()

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
        await (await self._opened()).add(messages)

    def set(self, messages: list[ChatMessage]) -> None:
        """Make these messages the history. What they repeat is not stored again; what they leave out stays in the log."""
        concurrency.run(self.aset(messages))

    async def aset(self, messages: list[ChatMessage]) -> None:
        """See `set`."""
        history = await self._opened()
        await history.replace(messages, token_limit=self.token_limit, insert=self.summary_insert)

    def reset(self, **kwargs: Any) -> None:
        """Begin with an empty history; the log keeps everything. Further keywords are accepted for compatibility."""
        concurrency.run(self.areset(**kwargs))

    async def areset(self, **kwargs: Any) -> None:
        """See `reset`."""
        await self.aset([])

    def history(self, *, include_superseded: bool = True) -> list[ChatMessage]:
        """The log: also what `reset()` and `set()` took out of the history, unless `include_superseded` is False."""
        return concurrency.run(self.ahistory(include_superseded=include_superseded))

    async def ahistory(self, *, include_superseded: bool = True) -> list[ChatMessage]:
        """See `history`."""
        history = await self._opened()
        if not include_superseded:
            return await history.all()
        return [made async for record in history.session.iter_messages() for made in from_record(record)]

    def compact(self) -> CompactionResult:
        """Fold everything but the two newest turns now."""
        return concurrency.run(self.acompact())

    async def acompact(self) -> CompactionResult:
        """See `compact`."""
        return await (await self._opened()).session.compact()

    def recall_tools(self, grant: Grant | None = None) -> list[FunctionTool]:
        """`lcm_grep`, `lcm_describe` and `lcm_expand` for an agent: what the view leaves out is within its reach.

        By default there is no end to what they may bring back altogether, only to each result; a `grant` sets both.
        """
        return concurrency.run(self.arecall_tools(grant))

    async def arecall_tools(self, grant: Grant | None = None) -> list[FunctionTool]:
        """See `recall_tools`."""
        # An agent lives for many turns: the bounded grant of a single one would soon be used up.
        return function_tools((await self.asession()).recall_tools(grant or Grant(tokens=None)))

    def close(self) -> None:
        """Wait for what runs in the background and let go of the database. Quiet when closed already."""
        concurrency.run(self.aclose())

    async def aclose(self) -> None:
        """See `close`."""
        await self._attachment.close()

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """A pointer to the session, all JSON: where it is and how it is read, none of its messages."""
        return {
            "session_id": self.session_id,
            "database": self._attachment_name(),
            "token_limit": self.token_limit,
            "summary_insert": self.summary_insert,
            "begun": self._attached is not None and self._attached.begun,
            "class_name": self.class_name(),
        }

    @classmethod
    def from_dict(
        cls, data: dict[str, Any], *, engine: Engine | None = None, llm: Any = None, **kwargs: Any
    ) -> MnesisMemory:
        """The memory a pointer leads to: the very object while it lives in this process, else one attached anew.

        `engine` says where the session is now, `llm` who writes summaries from now on. Raises `ConfigurationError` if the
        pointer names a database that is not there (none is created for a pointer).
        """
        fields = {name: value for name, value in data.items() if name not in ("class_name", "begun")}
        living = _living.get((fields.get("database", ""), fields.get("session_id", "")))
        if living is not None and engine is None and llm is None and not living._attachment.closed:
            if all(getattr(living, name) == value for name, value in fields.items()):
                return living
            fields |= {"llm": living.llm}
        made = cls(**{**fields, **({"llm": llm} if llm is not None else {})})
        used, new = (engine, False) if engine is not None else engine_named(made.database, must_be_known=True)
        made.database = name_of(used)
        made._attach(used, owns_engine=new, begun=data.get("begun") is True)
        return made

    def to_string(self) -> str:
        """`to_dict()` as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_string(cls, json_str: str, **kwargs: Any) -> MnesisMemory:
        """The inverse of `to_string`. See `from_dict`."""
        return cls.from_dict(json.loads(json_str), **kwargs)

    def __bool__(self) -> bool:
        # Chat engines and agents put their default in place of a memory that is false.
        return True

    def __copy__(self) -> MnesisMemory:
        return self

    def __deepcopy__(self, memo: Any = None) -> MnesisMemory:
        # Agents copy their state before they change it; the history must stay one.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self).from_dict, (self.to_dict(),))

    @property
    def _attachment(self) -> Attachment:
        if self._attached is None:
            engine, new = engine_named(self.database, must_be_known=False) if self.database else (Engine(), True)
            self.database = name_of(engine)
            self._attach(engine, owns_engine=new)
        assert self._attached is not None, "attached just now"  # noqa: S101  # an invariant, not input
        return self._attached

    def _attachment_name(self) -> str:
        return self.database if self._attached is not None else name_of(self._attachment.engine)

    def _attach(self, engine: Engine, *, owns_engine: bool, begun: bool = False) -> None:
        self._attached = Attachment(self.session_id, engine, owns_engine=owns_engine, begun=begun)
        _living[self.database, self.session_id] = self

    async def _opened(self) -> History:
        session = await self._attachment.session(self.token_limit, self.llm)
        if self._history is None or self._history.session is not session:
            own = self.tokenizer_fn if "tokenizer_fn" in self.model_fields_set else None
            self._history = History(session, counter(own))
        return self._history

    async def _import(self, messages: list[ChatMessage]) -> None:
        history = await self._opened()
        if not (await history.session.engine.store.session(self.session_id)).last_seq:
            await history.add(messages)
