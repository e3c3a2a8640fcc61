"""Chat message histories on a mnesis session."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Literal

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import BaseTool

from langchain_mnesis.session_tools import session_tools
from langchain_mnesis.sessions import Sessions, checked_id
from mnesis import concurrency
from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.recall.grants import Grant

View = Literal["window", "full"]


class MnesisChatMessageHistory(BaseChatMessageHistory):
    """A chat message history over a session: everything is kept, and what `messages` gives fits the model's window.

    `view="window"` shows the active context (summaries in place of what was folded), `view="full"` the whole log. What
    `messages` gives is read once and stays equal until this object writes; `refresh()` reads anew. Every method works with
    and without a running event loop; the async ones never block it.

    `engine` or `db_path` name the database (default: that of the configuration). `llm` writes summaries: a chat model, a
    model string, or None for extracts without a model. `model` names the model the history is for, whose window the budget
    follows; by default the chat model's own name. Both matter where the session is created or compacted; a session that
    exists keeps its model. `types` are classes that may be rebuilt from stored values (of artifacts, custom messages).
    With `keep_chunks` chunks come back as chunks, not as messages.

    Raises `ConfigurationError` for ids that are no non-empty strings. Making one does no I/O.
    """

    def __init__(
        self,
        session_id: str,
        *,
        engine: Engine | None = None,
        db_path: str | os.PathLike[str] | None = None,
        view: View = "window",
        model: str | None = None,
        config: MnesisConfig | None = None,
        llm: object | None = None,
        types: Iterable[type] = (),
        keep_chunks: bool = False,
    ) -> None:
        super().__init__()
        sessions = Sessions(
            engine=engine, db_path=db_path, model=model, config=config, llm=llm, types=types, keep_chunks=keep_chunks
        )
        self._set_up(sessions, session_id, view, keep_failed=False)

    @classmethod
    def over(
        cls, sessions: Sessions, session_id: object, *, view: View = "window", keep_failed: bool = True
    ) -> MnesisChatMessageHistory:
        """A history over sessions that others use too. With `keep_failed` what cannot be stored now is stored later."""
        made = cls.__new__(cls)
        BaseChatMessageHistory.__init__(made)
        made._set_up(sessions, session_id, view, keep_failed)
        return made

    def _set_up(self, sessions: Sessions, session_id: object, view: str, keep_failed: bool) -> None:
        if view not in ("window", "full"):
            raise ConfigurationError(f"view is 'window' or 'full', not {view!r}")
        self.session_id = checked_id(session_id)
        self.view = view
        self._sessions = sessions
        self._keep_failed = keep_failed
        self._snapshot: list[BaseMessage] | None = None

    @property
    def engine(self) -> Engine:
        """The engine of this history: its store, its event bus."""
        return self._sessions.engine

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages, as a list of the caller's own. Setting it replaces the view; the log keeps what was there."""
        return concurrency.run(self.aget_messages())

    @messages.setter
    def messages(self, messages: Sequence[BaseMessage]) -> None:
        concurrency.run(self._replace(list(messages)))

    async def aget_messages(self) -> list[BaseMessage]:
        """The messages; see `messages`."""
        if self._snapshot is None:
            self._snapshot = await self._read()
        return list(self._snapshot)

    def add_message(self, message: BaseMessage) -> None:
        """Store one message."""
        self.add_messages([message])

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Store messages in one transaction.

        A message whose id is there with the same content is not stored again; with other content it takes the older
        one's place in the view. A `RemoveMessage` takes a message out of the view. Raises `InvalidMessageError` for what
        is no message, and the store's errors.
        """
        concurrency.run(self.aadd_messages(messages))

    def add_user_message(self, message: HumanMessage | str) -> None:
        """Store what the user said."""
        self.add_message(HumanMessage(content=message) if isinstance(message, str) else message)

    def add_ai_message(self, message: AIMessage | str) -> None:
        """Store what the model said."""
        self.add_message(AIMessage(content=message) if isinstance(message, str) else message)

    async def aadd_message(self, message: BaseMessage) -> None:
        """Store one message."""
        await self.aadd_messages([message])

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Store messages in one transaction; see `add_messages`."""
        given = list(messages)  # an iterator could be read only once
        if not given:
            return
        self._snapshot = None
        await self._sessions.add(self.session_id, given, keep_failed=self._keep_failed)

    def recall_tools(self, grant: Grant | None = None) -> list[BaseTool]:
        """`lcm_grep`, `lcm_describe` and `lcm_expand` for this session: give them to a chat model with `bind_tools`, or to an
        agent. By default only each result is bounded; a `grant` bounds all of them together."""
        return session_tools(self._sessions, self.session_id, grant)

    def clear(self) -> None:
        """Begin anew with an empty view. The log keeps everything; `purge()` erases it."""
        concurrency.run(self.aclear())

    async def aclear(self) -> None:
        """Begin anew with an empty view; see `clear`."""
        self._snapshot = None
        await self._sessions.clear(self.session_id)

    def purge(self) -> None:
        """Erase the session and everything that belongs to it, for good."""
        concurrency.run(self.apurge())

    async def apurge(self) -> None:
        """Erase the session; see `purge`."""
        self._snapshot = None
        await self._sessions.purge(self.session_id)

    def refresh(self) -> None:
        """Read anew at the next access, with what others wrote meanwhile."""
        self._snapshot = None

    def __repr__(self) -> str:
        return f"<MnesisChatMessageHistory {self.session_id!r} view={self.view!r}>"

    async def _read(self) -> list[BaseMessage]:
        if self.view == "full":
            return self._sessions.messages([record async for record in self._sessions.log(self.session_id)])
        window = await self._sessions.window(self.session_id)
        return self._sessions.messages(window.messages) if window is not None else []

    async def _replace(self, messages: list[BaseMessage]) -> None:
        await self.aclear()
        await self.aadd_messages(messages)
