"""One session, three APIs: started natively, continued in LangChain, finished in LlamaIndex.

MNESIS_MOCK_LLM=1 uv run --extra all python examples/12_three_apis.py
ANTHROPIC_API_KEY=… uv run --extra all python examples/12_three_apis.py [model]
"""

import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path

from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory

from langchain_mnesis import MnesisChatMessageHistory
from mnesis import Engine, MnesisSession


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory) / "shared.db")
        event_counts: Counter[str] = Counter()
        engine.events.subscribe_all(lambda event, _payload: event_counts.update([str(event)]))

        async with MnesisSession.open(model=model, session_id="trip", engine=engine) as session:
            await session.send("I would like to see Lisbon.")

        history = MnesisChatMessageHistory("trip", engine=engine)
        await history.aadd_messages([HumanMessage("From LangChain: how warm is it?"), AIMessage("About 24 degrees.")])

        memory = MnesisMemory.from_defaults(session_id="trip", engine=engine)
        await memory.aput(ChatMessage(role="user", content="From LlamaIndex: thank you!"))

        print(
            "LangChain sees: ",
            [message.type for message in await MnesisChatMessageHistory("trip", engine=engine).aget_messages()],
        )
        print("LlamaIndex sees:", [message.role.value for message in await memory.aget_all()])
        session = await MnesisSession.load("trip", engine=engine)
        print("One log contains everything:")
        for message in await session.messages():
            print(f"{message.seq:>2} {message.role:<9} {message.text_content()[:70]!r}")
        await session.close()
        await engine.close()
        print(f"One event bus reported it: {event_counts['message.created']} messages created")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
