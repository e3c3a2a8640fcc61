"""The compared stores: how each stores a turn, reads the newest messages, and opens what it stored before.

Each is used as its documentation shows, with its defaults. The two floors write the same texts with plain SQL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

WINDOW_MESSAGES = 50
FILL_MESSAGES = 500


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a turn: a quarter of its characters are the user's."""

    user: str
    assistant: str

    @classmethod
    def make(cls, number: int, chars: int) -> Texts:
        words = f"{number} " + " ".join(f"word{number * 7 + i}" for i in range(chars // 8))
        words = (words * 2)[:chars]
        return cls(words[: chars // 4], words[chars // 4 :])


class Peer(Protocol):
    """A store of one conversation at a path."""

    name: str

    async def open(self, path: Path) -> None:
        """Open the conversation, new or existing."""

    async def fill(self, turns: Sequence[Texts]) -> None:
        """Store many turns as fast as the interface allows. Not measured."""

    async def prepare(self) -> None:
        """Get ready for the next turn. Not measured."""

    async def append(self, turn: Texts) -> None:
        """Store one turn."""

    async def read(self) -> int:
        """Read the newest messages as a request needs them, and return how many."""

    async def close(self) -> None:
        """Release everything."""


_SCHEMA = "CREATE TABLE IF NOT EXISTS messages (pk INTEGER PRIMARY KEY, role TEXT, content TEXT, created_at INTEGER)"
_INSERT = "INSERT INTO messages (role, content, created_at) VALUES (?, ?, 0)"
_NEWEST = f"SELECT role, content FROM messages ORDER BY pk DESC LIMIT {WINDOW_MESSAGES}"


def _rows(turns: Sequence[Texts]) -> list[tuple[str, str]]:
    return [row for turn in turns for row in (("user", turn.user), ("assistant", turn.assistant))]


def _insert(connection: sqlite3.Connection, turns: Sequence[Texts]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(_INSERT, _rows(turns))
    connection.execute("COMMIT")


class _NothingToPrepare:
    """A store that reads the newest messages of all, however many there are."""

    async def prepare(self) -> None:
        return None


class PlainSqlite(_NothingToPrepare):
    """sqlite3 in the calling thread: no library, no protection of the event loop."""

    name = "sqlite3 in the thread"

    async def open(self, path: Path) -> None:
        self._connection = sqlite3.connect(path / "plain.db", isolation_level=None)
        self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")

    async def fill(self, turns: Sequence[Texts]) -> None:
        _insert(self._connection, turns)

    async def append(self, turn: Texts) -> None:
        _insert(self._connection, [turn])

    async def read(self) -> int:
        return len(self._connection.execute(_NEWEST).fetchall())

    async def close(self) -> None:
        self._connection.close()


class OneHop(_NothingToPrepare):
    """aiosqlite with one hop to its thread per operation."""

    name = "aiosqlite, one hop"

    async def open(self, path: Path) -> None:
        import aiosqlite

        self._connection = await aiosqlite.connect(path / "hop.db", isolation_level=None)
        await self._connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {_SCHEMA}")
        self._execute: Any = self._connection._execute

    async def fill(self, turns: Sequence[Texts]) -> None:
        await self._execute(_insert, self._connection._conn, turns)

    async def append(self, turn: Texts) -> None:
        await self._execute(_insert, self._connection._conn, [turn])

    async def read(self) -> int:
        connection: Any = self._connection._conn
        return len(await self._execute(lambda: connection.execute(_NEWEST).fetchall()))

    async def close(self) -> None:
        await self._connection.close()


class Mnesis:
    """`MnesisSession`: counted, hashed and checked. All but the newest messages are hidden, as a compaction would.

    Before each turn, so that the window has as many messages as those of other stores. The window is then read once without being
    measured, because a compaction comes once in many turns.
    """

    name = "mnesis"

    async def open(self, path: Path) -> None:
        from mnesis import CompactionConfig, MnesisConfig, MnesisSession

        self._last_seq = 0
        config = MnesisConfig(compaction=CompactionConfig(auto=False))
        self._session = await MnesisSession.open(
            model="openai/gpt-4o", session_id="s", db_path=path / "mnesis.db", config=config
        )

    async def fill(self, turns: Sequence[Texts]) -> None:
        from mnesis.models.message import text_message

        messages = [text_message(role, text) for role, text in _rows(turns)]  # type: ignore[arg-type]  # both are roles
        stored = await self._session.append(messages)
        self._last_seq = stored[-1].seq
        await self._hide_older(WINDOW_MESSAGES)

    async def _hide_older(self, kept_messages: int) -> None:
        if self._last_seq > kept_messages:
            await self._session.hide(1, self._last_seq - kept_messages)

    async def prepare(self) -> None:
        await self._hide_older(WINDOW_MESSAGES - 2)

    async def append(self, turn: Texts) -> None:
        self._last_seq += 2
        await self._session.record(turn.user, turn.assistant)

    async def read(self) -> int:
        return len(await self._session.context_for_next_turn())

    async def close(self) -> None:
        await self._session.close()


class AgentsSdk(_NothingToPrepare):
    """`SQLiteSession` of the OpenAI Agents SDK."""

    name = "OpenAI Agents SQLiteSession"
    package = "agents"

    async def open(self, path: Path) -> None:
        from agents import SQLiteSession

        self._session: Any = SQLiteSession("s", path / "agents.db")

    async def fill(self, turns: Sequence[Texts]) -> None:
        await self._session.add_items([{"role": role, "content": text} for role, text in _rows(turns)])

    async def append(self, turn: Texts) -> None:
        await self.fill([turn])

    async def read(self) -> int:
        return len(await self._session.get_items(limit=WINDOW_MESSAGES))

    async def close(self) -> None:
        self._session.close()


class LangChainSql(_NothingToPrepare):
    """`SQLChatMessageHistory` of langchain-community. It reads the whole history."""

    name = "LangChain SQLChatMessageHistory"
    package = "langchain_community"

    async def open(self, path: Path) -> None:
        from langchain_community.chat_message_histories import SQLChatMessageHistory

        self._history: Any = SQLChatMessageHistory("s", connection=f"sqlite:///{path / 'langchain.db'}")

    async def fill(self, turns: Sequence[Texts]) -> None:
        from langchain_core.messages import AIMessage, HumanMessage

        self._history.add_messages([m for t in turns for m in (HumanMessage(t.user), AIMessage(t.assistant))])

    async def append(self, turn: Texts) -> None:
        await self.fill([turn])

    async def read(self) -> int:
        return len(self._history.messages[-WINDOW_MESSAGES:])

    async def close(self) -> None:
        self._history.engine.dispose()


class LangGraphSaver(_NothingToPrepare):
    """A LangGraph thread in `AsyncSqliteSaver`: a turn is one run of a graph with one node. It keeps every state."""

    name = "LangGraph AsyncSqliteSaver"
    package = "langgraph.checkpoint.sqlite"
    _config: Any = {"configurable": {"thread_id": "s"}}  # noqa: RUF012  # never changed

    async def open(self, path: Path) -> None:
        from langchain_core.messages import AIMessage
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
        from langgraph.graph import START, MessagesState, StateGraph

        self._context = AsyncSqliteSaver.from_conn_string(str(path / "langgraph.db"))
        saver = await self._context.__aenter__()
        self._reply = ""

        async def answer(state: MessagesState) -> dict[str, Any]:
            return {"messages": [AIMessage(self._reply)]}

        graph = StateGraph(MessagesState)
        graph.add_node("answer", answer)
        graph.add_edge(START, "answer")
        self._graph: Any = graph.compile(checkpointer=saver)

    async def fill(self, turns: Sequence[Texts]) -> None:
        messages: Any = [{"role": role, "content": text} for role, text in _rows(turns)]
        await self._graph.aupdate_state(self._config, {"messages": messages}, as_node="answer")

    async def append(self, turn: Texts) -> None:
        self._reply = turn.assistant
        await self._graph.ainvoke({"messages": [{"role": "user", "content": turn.user}]}, self._config)

    async def read(self) -> int:
        state = await self._graph.aget_state(self._config)
        return len(state.values["messages"][-WINDOW_MESSAGES:])

    async def close(self) -> None:
        await self._context.__aexit__(None, None, None)


class LlamaIndexMemory(_NothingToPrepare):
    """`Memory` of LlamaIndex in a SQLite file, with room for everything it holds."""

    name = "LlamaIndex Memory"
    package = "llama_index.core"

    async def open(self, path: Path) -> None:
        from llama_index.core.memory import Memory

        uri = f"sqlite+aiosqlite:///{path / 'llamaindex.db'}"
        self._memory: Any = Memory.from_defaults(session_id="s", async_database_uri=uri, token_limit=10**9)

    async def fill(self, turns: Sequence[Texts]) -> None:
        from llama_index.core.llms import ChatMessage

        await self._memory.aput_messages([ChatMessage(role=role, content=text) for role, text in _rows(turns)])

    async def append(self, turn: Texts) -> None:
        await self.fill([turn])

    async def read(self) -> int:
        return len((await self._memory.aget())[-WINDOW_MESSAGES:])

    async def close(self) -> None:
        return None


PEERS: tuple[type[Any], ...] = (
    PlainSqlite, OneHop, Mnesis, AgentsSdk, LangChainSql, LangGraphSaver, LlamaIndexMemory,
)  # fmt: skip


def is_installed(peer: type[Any]) -> bool:
    """Return whether the library of a peer can be imported."""
    package = getattr(peer, "package", None)
    try:
        return package is None or find_spec(package) is not None
    except ModuleNotFoundError:
        return False
