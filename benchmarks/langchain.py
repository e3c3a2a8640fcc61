"""Cost of memory in LangChain: `python -m benchmarks.langchain` (about three minutes; `--full` adds 50,000 messages).

One run compares mnesis, `InMemoryChatMessageHistory`, `SQLChatMessageHistory` on SQLite (if langchain-community is installed)
and LangGraph's `AsyncSqliteSaver`. Messages are 200 and 800 characters. N is the number of stored messages; the mnesis log
has N, of which 20 are in the window, and the others return everything they store. Cells are medians in milliseconds, `wall
(cpu)`. mnesis writes with WAL and synchronous NORMAL, the SQL history with SQLite's defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from benchmarks.tables import format_table
from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory, MnesisMiddleware, history_factory
from mnesis import CompactionConfig, Engine, MnesisConfig, concurrency

WINDOW_MESSAGES = 20
SESSION = {"configurable": {"session_id": "s"}}
NO_COMPACTION = MnesisConfig(compaction=CompactionConfig(auto=False))
PROMPT = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
USAGE = {"input_tokens": 900, "output_tokens": 200, "total_tokens": 1100}
AGENT_TURNS = 200

_numbers = count()


def new_question() -> HumanMessage:
    return HumanMessage(f"{next(_numbers)} question {'word ' * 40}"[:200])


def new_answer() -> AIMessage:
    number = next(_numbers)
    text = f"{number} answer {'word ' * 160}"[:800]
    return AIMessage(text, id=f"run-{number}", usage_metadata=USAGE, response_metadata={"model_name": "fake"})


def make_messages(count: int) -> list[BaseMessage]:
    return [message for _ in range(count // 2) for message in (new_question(), new_answer())]


class Model(GenericFakeChatModel):
    """A chat model that answers immediately."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Model:
        return self


def make_model() -> Model:
    def answers() -> Iterator[AIMessage]:
        while True:
            yield new_answer()

    return Model(messages=answers())


def time_call(work: Callable[[], object], repeats: int) -> str:
    """Return the median wall and CPU time of one call, after one warm-up call."""
    work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return f"{median(walls) * 1e3:.2f} ({median(cpus) * 1e3:.2f})"


def fill(history: Any, count: int) -> Any:
    for start in range(0, count, 500):
        history.add_messages(make_messages(min(500, count - start)))
    return history


def make_turn(chain: Any) -> Callable[[], object]:
    return lambda: chain.invoke({"question": new_question().content}, SESSION)


def make_chain(factory: Any) -> Any:
    return RunnableWithMessageHistory(
        PROMPT | make_model(), factory, input_messages_key="question", history_messages_key="history"
    )


def mnesis_rows(directory: Path, messages: int, repeats: int) -> dict[str, str]:
    engine = Engine(directory / f"mnesis{messages}.db", config=NO_COMPACTION)
    history = MnesisChatMessageHistory("s", engine=engine)
    fill(history, messages - WINDOW_MESSAGES)
    history.clear()
    fill(history, WINDOW_MESSAGES)
    factory = history_factory(engine=engine)
    memory = MnesisMemory(
        PROMPT | make_model(), engine=engine, input_messages_key="question", history_messages_key="history"
    )

    def read() -> None:
        history.refresh()
        _ = history.messages

    def with_reset_history(work: Callable[[], object]) -> Callable[[], object]:
        """Reset the history to 20 messages, because turns make the window longer."""
        history.clear()
        fill(history, WINDOW_MESSAGES)
        return work

    rows = {
        "mnesis: read the window": time_call(read, repeats),
        "mnesis: append two": time_call(lambda: history.add_messages(make_messages(2)), repeats),
        "mnesis: RunnableWithMessageHistory turn": time_call(with_reset_history(make_turn(make_chain(factory))), 10),
        "mnesis: MnesisMemory turn": time_call(with_reset_history(make_turn(memory)), 10),
        "mnesis: middleware, one model call": time_call(with_reset_history(middleware_call(engine, history)), 10),
    }
    concurrency.run(engine.close())
    return rows


def middleware_call(engine: Engine, history: MnesisChatMessageHistory) -> Callable[[], object]:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse

    middleware = MnesisMiddleware(engine=engine, session_id="s", recall_tools=False)
    state: list[Any] = []
    runtime: Any = SimpleNamespace(execution_info=None)
    fake = make_model()

    def once() -> None:
        state.append(HumanMessage(new_question().content, id=f"q{next(_numbers)}"))
        request = ModelRequest(model=fake, messages=list(state), state={"messages": state}, runtime=runtime)
        reply = new_answer()
        middleware.wrap_model_call(request, lambda _: ModelResponse(result=[reply]))
        state.append(reply)

    return once


def memory_rows(messages: int, repeats: int) -> dict[str, str]:
    history = fill(InMemoryChatMessageHistory(), messages)
    return {"in memory: RunnableWithMessageHistory turn": time_call(make_turn(make_chain(lambda _: history)), repeats)}


def sql_rows(directory: Path, messages: int, repeats: int) -> dict[str, str]:
    try:
        from langchain_community.chat_message_histories import SQLChatMessageHistory
    except ImportError:
        return {}
    address = f"sqlite:///{directory / f'sql{messages}.db'}"
    history = fill(SQLChatMessageHistory("s", connection=address), messages)
    return {
        "SQL: read": time_call(lambda: history.messages, repeats),
        "SQL: append two": time_call(lambda: history.add_messages(make_messages(2)), repeats),
        "SQL: RunnableWithMessageHistory turn": time_call(make_turn(make_chain(lambda _: history)), repeats),
    }


async def saver_rows(directory: Path, messages: int, repeats: int) -> dict[str, str]:
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string(str(directory / f"saver{messages}.db")) as saver:
        stored_messages = make_messages(messages)
        config: Any = {"configurable": {"thread_id": "s", "checkpoint_ns": ""}}

        async def put() -> None:
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"messages": stored_messages}
            await saver.aput(config, checkpoint, {}, {})

        async def get() -> None:
            await saver.aget_tuple(config)

        return {
            "AsyncSqliteSaver: put a checkpoint": await time_async_call(put, repeats),
            "AsyncSqliteSaver: read the newest": await time_async_call(get, repeats),
        }


async def time_async_call(work: Callable[[], Awaitable[object]], repeats: int) -> str:
    """Measure like `time_call`, on the running loop."""
    await work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        await work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return f"{median(walls) * 1e3:.2f} ({median(cpus) * 1e3:.2f})"


async def checkpoint_megabytes(directory: Path, name: str, middleware: list[Any]) -> float:
    """Return the size of the checkpoint database after 200 turns of an agent without tools."""
    from langchain.agents import create_agent
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    path = directory / f"{name}.db"
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        agent = create_agent(make_model(), [], middleware=middleware, checkpointer=saver)
        for _ in range(AGENT_TURNS):
            await agent.ainvoke({"messages": [new_question()]}, {"configurable": {"thread_id": "t"}})
        await saver.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size / 1e6


async def growth_rows(directory: Path) -> list[list[str]]:
    async with Engine(directory / "agent.db") as engine:
        trimming = MnesisMiddleware(
            trigger=("messages", 40), keep=("messages", 20), state="trim", engine=engine, recall_tools=False
        )
        bare = await checkpoint_megabytes(directory, "bare", [])
        trimmed = await checkpoint_megabytes(directory, "trimmed", [trimming])
        log = (await engine.store.session("t")).last_seq
    rows = [["no middleware", f"{bare:.1f}", "in the state"], ["state='trim'", f"{trimmed:.1f}", f"{log} in the log"]]
    return [[name, megabytes, location] for name, megabytes, location in rows]


def measure_import() -> str:
    """Measure the import in a new process, and whether it loads langgraph."""
    code = (
        "import time, sys\nimport langchain_core.chat_history, langchain_core.prompts\nt = time.perf_counter()\n"
        "import langchain_mnesis\nprint(f'{(time.perf_counter() - t) * 1e3:.0f} ms', 'langgraph' in sys.modules)"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    duration, loads = completed.stdout.rsplit(maxsplit=1)
    return f"import langchain_mnesis, after langchain_core: {duration}; loads langgraph: {'yes' if loads == 'True' else 'no'}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also 50,000 messages; the peers take minutes")
    parser.add_argument("--quick", action="store_true", help="a smoke run: 20 and 200 messages, no agent")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sizes = [20, 200] if options.quick else [20, 1_000, 10_000, *([50_000] if options.full else [])]
    columns: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for messages in sizes:
            peer_repeats = 3 if messages >= 10_000 else 10
            columns.append(
                mnesis_rows(directory, messages, 50)
                | memory_rows(messages, peer_repeats)
                | sql_rows(directory, messages, peer_repeats)
                | asyncio.run(saver_rows(directory, messages, peer_repeats))
            )
        names = list(columns[0])
        rows = [[name, *(column[name] for column in columns)] for name in names]
        print(format_table(["ms wall (cpu)", *(f"N={messages:,}" for messages in sizes)], rows))
        if not options.quick:
            print()
            print(
                format_table(
                    [f"{AGENT_TURNS} agent turns", "MB of checkpoints", "messages"], asyncio.run(growth_rows(directory))
                )
            )
    print()
    print(measure_import())


if __name__ == "__main__":
    main()
