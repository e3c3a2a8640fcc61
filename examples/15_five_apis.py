"""One session, five APIs at the same time: native, LangChain, LlamaIndex, the OpenAI Agents SDK and Pydantic AI.

MNESIS_MOCK_LLM=1 uv run --extra all python examples/15_five_apis.py
ANTHROPIC_API_KEY=… uv run --extra all python examples/15_five_apis.py [model]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from agents.items import TResponseInputItem
from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from agents_mnesis import MnesisAgentSession
from langchain_mnesis import MnesisChatMessageHistory
from mnesis import Engine, MnesisSession
from pydantic_ai_mnesis import MnesisHistory


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory) / "shared.db")
        session = await MnesisSession.create(model=model, session_id="trip", engine=engine)
        langchain = MnesisChatMessageHistory("trip", engine=engine)
        llamaindex = MnesisMemory.from_defaults(session_id="trip", engine=engine)
        agents = MnesisAgentSession("trip", engine=engine)
        pydantic_ai = MnesisHistory("trip", engine=engine)

        await session.send("I would like to see Lisbon.")
        await langchain.aadd_messages([HumanMessage("From LangChain: how warm is it?"), AIMessage("About 24 degrees.")])
        await llamaindex.aput_messages(
            [
                ChatMessage(role="user", content="From LlamaIndex: and the sea?"),
                ChatMessage(role="assistant", content="Cold: 17 degrees."),
            ]
        )
        items: list[TResponseInputItem] = [
            {"role": "user", "content": "From the Agents SDK: which tram?"},
            {"role": "assistant", "content": "Number 28."},
        ]
        await agents.add_items(items)
        await pydantic_ai.add(
            "trip",
            [
                ModelRequest(parts=[UserPromptPart("From Pydantic AI: thank you!")]),
                ModelResponse(parts=[TextPart("Have a good trip.")]),
            ],
        )

        langchain.refresh()
        print("LangChain:  ", [message.type for message in await langchain.aget_messages()])
        print("LlamaIndex: ", [message.role.value for message in await llamaindex.aget()])
        print("Agents SDK: ", [item.get("role") for item in await agents.get_items()])
        print("Pydantic AI:", [message.kind for message in await pydantic_ai.messages("trip")])
        print("The log:")
        for message in await session.messages():
            print(f"{message.seq:>2} {message.role:<9} {message.text_content()[:60]!r}")
        await session.close()
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
