"""LlamaIndex, agents: a memory that keeps tool calls with their results across a restart.

MNESIS_MOCK_LLM=1 uv run --extra llama-index python examples/11_llamaindex_agent.py
OPENAI_API_KEY=… uv run --extra llama-index --with llama-index-llms-openai python examples/11_llamaindex_agent.py [model]
"""

import asyncio
import json
import tempfile
from pathlib import Path

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.workflow import Context
from llama_index.memory.mnesis import MnesisMemory
from mock_models import llamaindex_model


def departures(city: str) -> str:
    """When trains to a city leave."""
    return f"21:10 to {city}"


def script() -> list[ChatMessage | str]:
    """Return the mock model's replies in one run: a call, then an answer."""
    call = ToolCallBlock(tool_call_id="call-1", tool_name="departures", tool_kwargs={"city": "Lisbon"})
    return [ChatMessage(role="assistant", blocks=[call]), "The train to Lisbon leaves at 21:10."]


def make_agent() -> FunctionAgent:
    return FunctionAgent(
        name="travel",
        description="knows trains",
        tools=[departures],
        llm=llamaindex_model([*script(), "I told you: at 21:10."]),
        streaming=False,
    )


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        memory = MnesisMemory.from_defaults(session_id="trip", db_path=str(Path(directory) / "trips.db"))
        agent = make_agent()
        context = Context(agent)
        print(await agent.run("When can I go to Lisbon?", memory=memory, ctx=context))
        print(await agent.run("Are you sure?", ctx=context))
        saved = json.dumps(context.to_dict())
        await memory.aclose()
        print(f"\nSaved: {len(saved)} bytes, with a reference to the history instead of a copy")

        agent = make_agent()
        context = Context.from_dict(agent, json.loads(saved))
        print(await agent.run("And now again, please.", ctx=context))
        memory = await context.store.get("memory")
        for message in await memory.aget_all():
            print(f"{message.role.value:<9} {message.content or '(calls a tool)'}")
        await memory.aclose()


if __name__ == "__main__":
    asyncio.run(main())
