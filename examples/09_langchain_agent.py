"""LangChain, agents: middleware that compacts what create_agent sends and stores everything in a log.

MNESIS_MOCK_LLM=1 uv run --extra langchain-agents python examples/09_langchain_agent.py
ANTHROPIC_API_KEY=… uv run --extra langchain-agents --with langchain-anthropic python examples/09_langchain_agent.py [model]
"""

import asyncio
import tempfile
from pathlib import Path

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from mock_models import langchain_model

from langchain_mnesis import MnesisMiddleware
from mnesis import Engine, MnesisSession

SHELVES = 6


def count_shelf(number: int) -> str:
    """Count what is on a shelf."""
    return f"Shelf {number}: {number * 12} jars. " + "Each jar was taken down, looked at, and put back. " * 12


def script() -> list[AIMessage | str]:
    """Return the mock model's replies: a call and an answer for each shelf."""
    lines: list[AIMessage | str] = []
    for number in range(1, SHELVES + 1):
        call = {"name": "count_shelf", "args": {"number": number}, "id": f"call-{number}"}
        lines += [AIMessage("", tool_calls=[call]), f"There are {number * 12} jars on shelf {number}."]
    return lines


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory) / "agents.db")
        memory = MnesisMiddleware(
            None,  # summaries are extracts, without a model; pass a chat model to have it write them
            trigger=("tokens", 800),
            keep=("messages", 4),
            state="trim",
            engine=engine,
        )
        agent = create_agent(
            langchain_model(script()), tools=[count_shelf], middleware=[memory], checkpointer=InMemorySaver()
        )
        thread: RunnableConfig = {"configurable": {"thread_id": "stock-taking"}}
        for number in range(1, SHELVES + 1):
            question = f"How many jars are on shelf {number}? Count them."
            state = await agent.ainvoke({"messages": [HumanMessage(question)]}, thread)
            print(f"{state['messages'][-1].text}  (messages in the agent's state: {len(state['messages'])})")

        session = await MnesisSession.load("stock-taking", engine=engine)
        print(f"Messages in the log: {len(await session.messages())}, summaries: {len(await session.summaries())}")
        first = (await session.search("shelf 1", role="tool", limit=1))[0]
        print(f"Stored verbatim: {(await session.message(first.message_id)).tool_results[0].output[:24]}…")
        await session.close()
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main())
