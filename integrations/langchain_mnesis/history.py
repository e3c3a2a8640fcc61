"""Chat message histories on a mnesis session."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Literal, Never, get_args

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import BaseTool

from langchain_mnesis.keywords import HISTORY_REPLACEMENTS, refuse_unknown
from langchain_mnesis.session_tools import session_tools
from langchain_mnesis.sessions import Sessions
from mnesis import concurrency
from mnesis.config import ConfigOrDict
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.recall.grants import Grant
from mnesis.session.pool import SessionId, validate_session_id

View = Literal["window", "full", "log"]


class MnesisChatMessageHistory(BaseChatMessageHistory):
    """A chat message history on a session: every message is stored, and `messages` fits the model's window.

    `view="window"` returns the active context, with summaries in place of folded messages. `view="full"` returns every
    message since the last `clear()`, and `view="log"` every message ever stored. `messages` is read once and does not
    change until this object writes; `refresh()` makes the next access read again. Every method works with and without a
    running event loop. The async methods never block the loop.

    `engine` or `db_path` selects the database (default: the database of the configuration). `llm` writes summaries: a
    chat model, a model string, or None for extracts without a model. `model` is the name of the model whose window
    determines the budget (default: the name of the chat model). A `model` that is passed
    replaces that of an existing session. `types` are classes that may be rebuilt from stored values (artifacts, custom
    messages). With `keep_chunks`, chunks are returned as chunks instead of messages.

    The constructor does no I/O. Raises `ConfigurationError` if the session id is not a
    non-empty string, an integer or a UUID.

        history = MnesisChatMessageHistory("ada", db_path="chat.db", llm=chat_model)
        history.add_user_message("My name is Ada.")
    """

    def __init__(
        self,
        session_id: SessionId,
        *,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        view: View = "window",
        model: str | None = None,
        config: ConfigOrDict | None = None,
        llm: object | None = None,
        types: Iterable[type] = (),
        keep_chunks: bool = False,
        **unknown: Never,
    ) -> None:
        refuse_unknown(type(self).__name__, unknown, HISTORY_REPLACEMENTS)
        super().__init__()
        sessions = Sessions(
            engine=engine, db_path=db_path, model=model, config=config, llm=llm, types=types, keep_chunks=keep_chunks
        )
        self._initialize(sessions, session_id, view, retry_failed_writes=False)

    @classmethod
    def from_sessions(
        cls, sessions: Sessions, session_id: object, *, view: View = "window", retry_failed_writes: bool = True
    ) -> MnesisChatMessageHistory:
        """Create a history on shared sessions.

        With `retry_failed_writes`, messages that cannot be stored now are stored before the session's next read or
        write.
        """
        history = cls.__new__(cls)
        BaseChatMessageHistory.__init__(history)
        history._initialize(sessions, session_id, view, retry_failed_writes)
        return history

    def _initialize(self, sessions: Sessions, session_id: object, view: str, retry_failed_writes: bool) -> None:
        if view not in get_args(View):
            raise ConfigurationError(f"view must be 'window', 'full' or 'log', not {view!r}")
        self.session_id = validate_session_id(session_id)
        self.view = view
        self._sessions = sessions
        self._retry_failed_writes = retry_failed_writes
        self._snapshot: list[BaseMessage] | None = None

    @property
    def engine(self) -> Engine:
        """The engine of this history, with its store and event bus."""
        return self._sessions.engine

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages, as a new list. Setting it replaces the view; the log keeps the replaced messages."""
        return concurrency.run(self.aget_messages())

    @messages.setter
    def messages(self, messages: Sequence[BaseMessage]) -> None:
        concurrency.run(self._replace_messages(list(messages)))

    async def aget_messages(self) -> list[BaseMessage]:
        """Return the messages; see `messages`."""
        if self._snapshot is None:
            self._snapshot = await self._read_messages()
        return list(self._snapshot)

    def add_message(self, message: BaseMessage) -> None:
        """Store one message."""
        self.add_messages([message])

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Store messages in one transaction.

        A message with a known id and the same content is not stored again. A message with a known id but different
        content replaces the earlier version in the view; the log keeps both. A `RemoveMessage` hides a message from the
        view.

        Raises `InvalidMessageError` if a value is not a message, and the store's errors.
        """
        new_messages = list(messages)  # an iterator can be read only once
        if new_messages:
            concurrency.run(self.aadd_messages(new_messages))

    def add_user_message(self, message: HumanMessage | str) -> None:
        """Store a user message."""
        self.add_message(HumanMessage(content=message) if isinstance(message, str) else message)

    def add_ai_message(self, message: AIMessage | str) -> None:
        """Store a model message."""
        self.add_message(AIMessage(content=message) if isinstance(message, str) else message)

    async def aadd_message(self, message: BaseMessage) -> None:
        """Store one message."""
        await self.aadd_messages([message])

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Store messages in one transaction; see `add_messages`."""
        new_messages = list(messages)  # an iterator can be read only once
        if not new_messages:
            return
        self._snapshot = None
        await self._sessions.add(self.session_id, new_messages, retry_failed_writes=self._retry_failed_writes)

    def recall_tools(self, grant: Grant | None = None) -> list[BaseTool]:
        """Return `lcm_grep`, `lcm_describe` and `lcm_expand` for this session.

        Pass them to a chat model with `bind_tools`, or to an agent. By default only the size of each result is limited;
        a `grant` limits all results together.
        """
        return session_tools(self._sessions, self.session_id, grant)

    def clear(self) -> None:
        """Empty every view except `view="log"`. The log keeps everything; `purge()` erases it."""
        concurrency.run(self.aclear())

    async def aclear(self) -> None:
        """Empty the view; see `clear`."""
        self._snapshot = None
        await self._sessions.clear(self.session_id)

    def purge(self) -> None:
        """Erase the session and everything that belongs to it, permanently."""
        concurrency.run(self.apurge())

    async def apurge(self) -> None:
        """Erase the session; see `purge`."""
        self._snapshot = None
        await self._sessions.purge(self.session_id)

    def refresh(self) -> None:
        """Make the next access read the messages again, including those that other writers stored."""
        self._snapshot = None

    def __repr__(self) -> str:
        return f"<MnesisChatMessageHistory {self.session_id!r} view={self.view!r}>"

    async def _read_messages(self) -> list[BaseMessage]:
        if self.view == "full":
            return self._sessions.to_langchain(await self._sessions.read_since_clear(self.session_id))
        if self.view == "log":
            return self._sessions.to_langchain([record async for record in self._sessions.iter_log(self.session_id)])
        window = await self._sessions.window(self.session_id)
        return self._sessions.window_to_langchain(self.session_id, window.messages) if window is not None else []

    async def _replace_messages(self, messages: list[BaseMessage]) -> None:
        await self.aclear()
        await self.aadd_messages(messages)
