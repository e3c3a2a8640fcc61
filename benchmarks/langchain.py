"""What memory costs in LangChain: `python -m benchmarks.langchain` (about three minutes; `--full` adds 50,000 messages).

Side by side in one run: mnesis, `InMemoryChatMessageHistory`, `SQLChatMessageHistory` on SQLite (where langchain-community
is installed) and LangGraph's `AsyncSqliteSaver`. Messages are 200 and 800 characters. N is the number of messages kept; the
mnesis log has N of which 20 are in the window, the others hand out everything they keep. Cells are milliseconds, `wall
(cpu)`, medians. mnesis writes with WAL and synchronous NORMAL, the SQL history with SQLite's defaults.
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

from benchmarks.tables import table
from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory, MnesisMiddleware, history_factory
from mnesis import CompactionConfig, Engine, MnesisConfig, concurrency

WINDOW = 20
SESSION = {"configurable": {"session_id": "s"}}
RECORDED_ONLY = MnesisConfig(compaction=CompactionConfig(auto=False))
PROMPT = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
USAGE = {"input_tokens": 900, "output_tokens": 200, "total_tokens": 1100}
AGENT_TURNS = 200

_numbers = count()


def question() -> HumanMessage:
    return HumanMessage(f"{next(_numbers)} question {'word ' * 40}"[:200])


def answer() -> AIMessage:
    number = next(_numbers)
    text = f"{number} answer {'word ' * 160}"[:800]
    return AIMessage(text, id=f"run-{number}", usage_metadata=USAGE, response_metadata={"model_name": "fake"})


def pairs(messages: int) -> list[BaseMessage]:
    return [message for _ in range(messages // 2) for message in (question(), answer())]


class Model(GenericFakeChatModel):
    """Answers at once."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Model:
        return self


def model() -> Model:
    def answers() -> Iterator[AIMessage]:
        while True:
            yield answer()

    return Model(messages=answers())


def timed(work: Callable[[], object], repeats: int) -> str:
    """Median wall and CPU time of one call, after one that does not count."""
    work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return f"{median(walls) * 1e3:.2f} ({median(cpus) * 1e3:.2f})"


def filled(history: Any, messages: int) -> Any:
    for start in range(0, messages, 500):
        history.add_messages(pairs(min(500, messages - start)))
    return history


def turns(chain: Any) -> Callable[[], object]:
    return lambda: chain.invoke({"question": question().content}, SESSION)


def with_history(factory: Any) -> Any:
    return RunnableWithMessageHistory(
        PROMPT | model(), factory, input_messages_key="question", history_messages_key="history"
    )


def mnesis_rows(directory: Path, messages: int, repeats: int) -> dict[str, str]:
    engine = Engine(directory / f"mnesis{messages}.db", config=RECORDED_ONLY)
    history = MnesisChatMessageHistory("s", engine=engine)
    filled(history, messages - WINDOW)
    history.clear()
    filled(history, WINDOW)
    factory = history_factory(engine=engine)
    memory = MnesisMemory(
        PROMPT | model(), engine=engine, input_messages_key="question", history_messages_key="history"
    )

    def read() -> None:
        history.refresh()
        _ = history.messages

    def fresh(work: Callable[[], object]) -> Callable[[], object]:
        """Turns make the window longer; begin each row with 20 messages."""
        history.clear()
        filled(history, WINDOW)
        return work

    rows = {
        "mnesis: read the window": timed(read, repeats),
        "mnesis: append two": timed(lambda: history.add_messages(pairs(2)), repeats),
        "mnesis: RunnableWithMessageHistory turn": timed(fresh(turns(with_history(factory))), 10),
        "mnesis: MnesisMemory turn": timed(fresh(turns(memory)), 10),
        "mnesis: middleware, one model call": timed(fresh(middleware_call(engine, history)), 10),
    }
    concurrency.run(engine.close())
    return rows


def middleware_call(engine: Engine, history: MnesisChatMessageHistory) -> Callable[[], object]:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse

    middleware = MnesisMiddleware(engine=engine, session_id="s", recall_tools=False)
    state: list[Any] = []
    runtime: Any = SimpleNamespace(execution_info=None)
    fake = model()

    def once() -> None:
        state.append(HumanMessage(question().content, id=f"q{next(_numbers)}"))
        request = ModelRequest(model=fake, messages=list(state), state={"messages": state}, runtime=runtime)
        reply = answer()
        middleware.wrap_model_call(request, lambda _: ModelResponse(result=[reply]))
        state.append(reply)

    return once


def memory_rows(messages: int, repeats: int) -> dict[str, str]:
    history = filled(InMemoryChatMessageHistory(), messages)
    return {"in memory: RunnableWithMessageHistory turn": timed(turns(with_history(lambda _: history)), repeats)}


def sql_rows(directory: Path, messages: int, repeats: int) -> dict[str, str]:
    try:
        from langchain_community.chat_message_histories import SQLChatMessageHistory
    except ImportError:
        return {}
    address = f"sqlite:///{directory / f'sql{messages}.db'}"
    history = filled(SQLChatMessageHistory("s", connection=address), messages)
    return {
        "SQL: read": timed(lambda: history.messages, repeats),
        "SQL: append two": timed(lambda: history.add_messages(pairs(2)), repeats),
        "SQL: RunnableWithMessageHistory turn": timed(turns(with_history(lambda _: history)), repeats),
    }


async def saver_rows(directory: Path, messages: int, repeats: int) -> dict[str, str]:
    from langgraph.checkpoint.base import empty_checkpoint
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string(str(directory / f"saver{messages}.db")) as saver:
        kept = pairs(messages)
        config: Any = {"configurable": {"thread_id": "s", "checkpoint_ns": ""}}

        async def put() -> None:
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"messages": kept}
            await saver.aput(config, checkpoint, {}, {})

        async def get() -> None:
            await saver.aget_tuple(config)

        return {
            "AsyncSqliteSaver: put a checkpoint": await timed_async(put, repeats),
            "AsyncSqliteSaver: read the newest": await timed_async(get, repeats),
        }


async def timed_async(work: Callable[[], Awaitable[object]], repeats: int) -> str:
    """`timed`, on the running loop."""
    await work()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        await work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return f"{median(walls) * 1e3:.2f} ({median(cpus) * 1e3:.2f})"


async def checkpoint_megabytes(directory: Path, name: str, middleware: list[Any]) -> float:
    """The checkpoint database after 200 turns of an agent without tools."""
    from langchain.agents import create_agent
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    path = directory / f"{name}.db"
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        agent = create_agent(model(), [], middleware=middleware, checkpointer=saver)
        for _ in range(AGENT_TURNS):
            await agent.ainvoke({"messages": [question()]}, {"configurable": {"thread_id": "t"}})
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
    return [[name, megabytes, kept] for name, megabytes, kept in rows]


def import_line() -> str:
    """How long an idle import takes in a process of its own, and whether it loads langgraph."""
    code = (
        "import time, sys\nimport langchain_core.chat_history, langchain_core.prompts\nt = time.perf_counter()\n"
        "import langchain_mnesis\nprint(f'{(time.perf_counter() - t) * 1e3:.0f} ms', 'langgraph' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, loads = done.stdout.rsplit(maxsplit=1)
    return (
        f"import langchain_mnesis, after langchain_core: {took}; loads langgraph: {'yes' if loads == 'True' else 'no'}"
    )


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
            peers = 3 if messages >= 10_000 else 10
            columns.append(
                mnesis_rows(directory, messages, 50)
                | memory_rows(messages, peers)
                | sql_rows(directory, messages, peers)
                | asyncio.run(saver_rows(directory, messages, peers))
            )
        names = list(columns[0])
        rows = [[name, *(column[name] for column in columns)] for name in names]
        print(table(["ms wall (cpu)", *(f"N={messages:,}" for messages in sizes)], rows))
        if not options.quick:
            print()
            print(
                table(
                    [f"{AGENT_TURNS} agent turns", "MB of checkpoints", "messages"], asyncio.run(growth_rows(directory))
                )
            )
    print()
    print(import_line())


if __name__ == "__main__":
    main()
