"""Cost of adapters: `python -m benchmarks.adapters` (about a minute).

Each row compares an adapter with what the engine itself needs for the same session: reading a window of 40 to 60 messages
after a new turn was stored, or one model call of an agent through the middleware. Cells are medians of processor time in milliseconds,
measured alternately, so that other work on the machine changes both. `SQLiteSession` of the Agents SDK, which stores items and
returns all of them, is the peer.

A model call of an agent is compared with what any program must do that loses nothing: store the step's new message, read the window, and
store the reply, with the same messages as they are stored for LangChain, in a log of the same length. What the middleware adds is its
agent's time without that of an agent whose middleware passes every call on, since LangChain itself takes time to wrap calls. The last table counts the requests of an agent that extend the previous one.
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
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory
from pydantic_ai.messages import ModelRequest as PydanticRequest
from pydantic_ai.messages import ModelResponse, TextPart, UserPromptPart

from agents_mnesis import MnesisAgentSession
from benchmarks.tables import format_table
from langchain_mnesis import MnesisChatMessageHistory, MnesisMiddleware
from langchain_mnesis.messages.convert import to_record
from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession
from pydantic_ai_mnesis import MnesisHistory

QUESTION, ANSWER = "question " * 22, "answer " * 115
TURNS, REPEATS, STEPS = 20, 80, 60
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

        async def prepare(session: MnesisSession = session, add: Call = add, read: Call = read) -> None:
            context = await session.engine.store.active_context(session.id)
            if len(context.items) > 3 * TURNS:
                # The window keeps its size while the log grows.
                await session.hide(1, context.session.last_seq - 2 * TURNS)
            # Each measured call finds one new turn. Both have read the others before, which is not measured.
            await session.window()
            await read()
            await add()

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


class PassOn(AgentMiddleware[Any, Any, Any]):
    """Middleware that wraps model and tool calls like `MnesisMiddleware`, and changes nothing."""

    async def awrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
        """Call the model."""
        return await handler(request)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        """Call the tool."""
        return await handler(request)


async def middleware_row(directory: Path, turns: int = STEPS // 2) -> list[str]:
    """Compare what the middleware adds to a model call with the engine's two appends and its window."""
    engine = Engine(directory / "middleware.db", config=CONFIG)
    agents = [
        create_agent(
            Model(messages=iter(replies(turns))), [look], middleware=[middleware], checkpointer=InMemorySaver()
        )
        for middleware in (PassOn(), MnesisMiddleware(engine=engine, recall_tools=False))
    ]
    session = await MnesisSession.create(model="openai/gpt-4o", session_id="own", engine=engine, system_prompt="")
    samples: list[list[float]] = [[], [], []]
    for turn in range(turns):
        for agent, sample in zip(agents, samples, strict=False):
            start = time.process_time()
            await agent.ainvoke({"messages": [HumanMessage(QUESTION)]}, {"configurable": {"thread_id": "t"}})
            sample.append((time.process_time() - start) * 1e3 / 3)
        records = [to_record(message) for message in turn_messages(turn)]
        start = time.process_time()
        for asked, reply in zip(records[::2], records[1::2], strict=True):
            await session.append([asked])
            await session.window()
            await session.append([reply], ends_turn=not reply.tool_calls)
        samples[2].append((time.process_time() - start) * 1e3 / 3)
    logged, own = await engine.store.session("t"), await engine.store.session("own")
    assert logged.last_seq == own.last_seq, "the middleware and the engine stored different messages"
    await engine.close()
    wrapped_ms, middleware_ms, engine_ms = map(median, samples)
    added_ms = middleware_ms - wrapped_ms
    return ["middleware, one model call", f"{added_ms:.2f}", f"{engine_ms:.2f}", f"{added_ms / engine_ms:.2f}"]


def turn_messages(number: int) -> list[BaseMessage]:
    """Return all messages of a turn: each of the model's three replies, after the message that it replies to."""
    first, second, answer = replies(number + 1)[-3:]
    results = [
        ToolMessage(look("x"), name="look", tool_call_id=message.tool_calls[0]["id"]) for message in (first, second)
    ]
    return [HumanMessage(QUESTION), first, results[0], second, results[1], answer]


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
