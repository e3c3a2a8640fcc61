"""Cost of adapters: `python -m benchmarks.adapters` (about a minute).

Each row compares an adapter with what the engine itself needs for the same session: reading a window of 40 messages after a
new turn was stored, or one model call of an agent through the middleware. Cells are medians of processor time in milliseconds,
measured alternately, so that other work on the machine changes both. `SQLiteSession` of the Agents SDK, which stores items and
returns all of them, is the peer. The last table counts the requests of an agent that extend the previous one.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from agents import SQLiteSession
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory
from pydantic_ai.messages import ModelRequest as PydanticRequest
from pydantic_ai.messages import ModelResponse, TextPart, UserPromptPart

from agents_mnesis import MnesisAgentSession
from benchmarks.tables import format_table
from langchain_mnesis import MnesisChatMessageHistory, MnesisMiddleware
from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession
from pydantic_ai_mnesis import MnesisHistory

QUESTION, ANSWER = "question " * 22, "answer " * 115
TURNS, REPEATS, STEPS = 20, 40, 60
CONFIG = MnesisConfig(compaction=CompactionConfig(auto=False))
Call = Callable[[], Awaitable[object]]


async def measure(*calls: tuple[Call, Call]) -> list[float]:
    """Return the median processor time in milliseconds of each call. Its preparation is not measured."""
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for (prepare, call), sample in zip(calls, samples, strict=True):
            await prepare()
            start = time.process_time()
            await call()
            sample.append((time.process_time() - start) * 1e3)
    return [median(sample) for sample in samples]


async def read_rows(directory: Path) -> list[list[str]]:
    """Compare reading through each adapter with the engine's own window."""
    rows = []
    for name in ("LangChain history", "LlamaIndex memory", "Agents SDK session", "Pydantic AI history"):
        engine = Engine(directory / f"{name}.db", config=CONFIG)
        session = await MnesisSession.create(model="openai/gpt-4o", session_id="s", engine=engine, system_prompt="")
        add, read = adapter_calls(name, engine)
        for _ in range(TURNS - 1):
            await add()

        async def prepare(session: MnesisSession = session, add: Call = add) -> None:
            # One turn after a clearing would be too little; the window keeps its size while the log grows.
            await add()
            context = await session.engine.store.active_context(session.id)
            await session.hide(1, context.session.last_seq - 2 * TURNS)

        async def own(session: MnesisSession = session) -> object:
            return await session.window()

        engine_ms, adapter_ms = await measure((prepare, own), (prepare, read))
        rows.append([name, f"{adapter_ms:.2f}", f"{engine_ms:.2f}", f"{adapter_ms / engine_ms:.2f}"])
        await engine.close()
    peer = SQLiteSession("s", directory / "peer.db")
    await peer.add_items([{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}] * TURNS)
    (peer_ms,) = await measure((_nothing, lambda: peer.get_items()))
    rows.append(["SQLiteSession (all items)", f"{peer_ms:.2f}", "", ""])
    peer.close()
    return rows


async def _nothing() -> None:
    return


def adapter_calls(name: str, engine: Engine) -> tuple[Call, Call]:
    """Return functions that add a turn and read the history through an adapter."""
    if name == "LangChain history":
        history = MnesisChatMessageHistory("s", engine=engine)

        async def read() -> object:
            history.refresh()
            return await history.aget_messages()

        return lambda: history.aadd_messages([HumanMessage(QUESTION), AIMessage(ANSWER)]), read
    if name == "LlamaIndex memory":
        memory = MnesisMemory.from_defaults(session_id="s", engine=engine, token_limit=100_000)
        turn = [ChatMessage(role="user", content=QUESTION), ChatMessage(role="assistant", content=ANSWER)]
        return lambda: memory.aput_messages(turn), lambda: memory.aget()
    if name == "Agents SDK session":
        session = MnesisAgentSession("s", engine=engine)
        items: list[Any] = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
        return lambda: session.add_items(items), lambda: session.get_items()
    pydantic_ai = MnesisHistory("s", engine=engine, model="openai/gpt-4o")

    def add() -> Awaitable[None]:
        return pydantic_ai.add(
            "s",
            [PydanticRequest(parts=[UserPromptPart(QUESTION)]), ModelResponse(parts=[TextPart(ANSWER)])],
        )

    return add, lambda: pydantic_ai.messages("s")


class Model(GenericFakeChatModel):
    """A chat model that answers immediately and records its requests."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Model:
        return self


class Reminder(AgentMiddleware[Any, Any, Any]):
    """Other middleware that appends a message to each request and keeps what the model was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[list[BaseMessage]] = []

    async def awrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
        """Append a reminder, which changes with each request."""
        self.requests.append(list(request.messages))
        note = HumanMessage(f"Reminder {len(self.requests)}: be brief.")
        return await handler(request.override(messages=[*request.messages, note]))


def look(q: str) -> str:
    """Look something up."""
    return "data " * 120


def replies(count: int) -> list[AIMessage]:
    """Return the model's messages: two calls and an answer for each turn."""
    messages = []
    for number in range(count):
        for step in range(2):
            call = {"name": "look", "args": {"q": "x"}, "id": f"c{number}-{step}"}
            messages.append(AIMessage("", tool_calls=[call], id=f"m{number}-{step}"))
        messages.append(AIMessage(ANSWER, id=f"a{number}"))
    return messages


async def middleware_row(directory: Path) -> list[str]:
    """Compare what the middleware adds to a model call with the engine's append and window."""
    engine = Engine(directory / "middleware.db", config=CONFIG)
    times: list[float] = []
    for middleware in ([], [MnesisMiddleware(engine=engine, recall_tools=False)]):
        agent = create_agent(
            Model(messages=iter(replies(STEPS))), [look], middleware=middleware, checkpointer=InMemorySaver()
        )
        samples = []
        for _ in range(STEPS):
            start = time.process_time()
            await agent.ainvoke({"messages": [HumanMessage(QUESTION)]}, {"configurable": {"thread_id": "t"}})
            samples.append((time.process_time() - start) * 1e3 / 3)
        times.append(median(samples[: STEPS // 2]))
    session = await MnesisSession.create(model="openai/gpt-4o", session_id="own", engine=engine, system_prompt="")
    own = []
    for _ in range(STEPS):
        start = time.process_time()
        await session.record(QUESTION, ANSWER)
        await session.window()
        own.append((time.process_time() - start) * 1e3)
    await engine.close()
    added, engine_ms = times[1] - times[0], median(own[: STEPS // 2])
    return ["middleware, one model call", f"{added:.2f}", f"{engine_ms:.2f}", f"{added / engine_ms:.2f}"]


async def prefix_row(directory: Path) -> list[str]:
    """Count the requests of an agent that extend the previous one, between compactions."""
    engine = Engine(directory / "prefix.db")
    reminder = Reminder()
    memory = MnesisMiddleware(engine=engine, trigger=("tokens", 6_000), keep=("messages", 8), recall_tools=False)
    agent = create_agent(
        Model(messages=iter(replies(STEPS))), [look], middleware=[memory, reminder], checkpointer=InMemorySaver()
    )
    for _ in range(STEPS):
        await agent.ainvoke({"messages": [HumanMessage(QUESTION)]}, {"configurable": {"thread_id": "t"}})
    async with await MnesisSession.load("t", engine=engine) as session:
        summaries = len(await session.summaries())
    await engine.close()
    extended = sum(is_extension(earlier, later) for earlier, later in pairwise(reminder.requests))
    compared = len(reminder.requests) - 1
    broken = compared - extended
    return [str(compared), str(extended), str(summaries), f"{extended / max(compared - min(broken, summaries), 1):.1%}"]


def is_extension(earlier: Sequence[BaseMessage], later: Sequence[BaseMessage]) -> bool:
    """Return whether a request begins with all messages of an earlier one."""
    return list(later[: len(earlier)]) == list(earlier)


async def run() -> None:
    with tempfile.TemporaryDirectory() as directory:
        rows = await read_rows(Path(directory))
        rows.append(await middleware_row(Path(directory)))
        print(format_table(["call", "adapter ms", "engine ms", "ratio"], rows))
        print()
        head = ["requests compared", "extend the previous one", "compactions", "between compactions"]
        print(format_table(head, [await prefix_row(Path(directory))]))


if __name__ == "__main__":
    asyncio.run(run())
