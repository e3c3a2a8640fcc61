"""One conversation in a running event loop through every API. Run as a program, it also reports blocking calls.

`python -m tests.support.every_api DATABASE [uvloop]`
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisChatStore
from llama_index.memory.mnesis import MnesisMemory as LlamaIndexMemory

from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory, MnesisMiddleware
from mnesis import Engine, MnesisEvent, MnesisSession
from tests.support.blocking import blocking_calls, refuse_blocking_calls
from tests.support.langchain_fakes import FakeModel

SESSION = "everyone"


def answer_text(messages: list[dict[str, Any]]) -> str:
    """Answer as a model would."""
    return f"answer {len(messages)}"


async def converse(db: str) -> list[str]:
    """Write to one session through every API, and return the texts of its log."""
    stored: list[str] = []
    engine = Engine(db, llm=answer_text)
    engine.events.subscribe(MnesisEvent.MESSAGE_CREATED, lambda _, payload: stored.append(payload.message_id))
    async with MnesisSession.open(model="openai/gpt-4o", session_id=SESSION, engine=engine) as session:
        await session.send("native")
        await session.search("native")
        await session.timeline()

        history = MnesisChatMessageHistory(SESSION, engine=engine)
        await history.aadd_messages([HumanMessage("history")])
        memory = MnesisMemory(RunnableLambda(lambda messages: "memory's answer"), session_id=SESSION, engine=engine)
        await memory.ainvoke("memory")
        agent = create_agent(FakeModel(), [], middleware=[MnesisMiddleware(engine=engine, session_id=SESSION)])
        await agent.ainvoke({"messages": [("user", "agent")]})

        llama = LlamaIndexMemory.from_defaults(session_id=SESSION, engine=engine)
        await llama.aput(ChatMessage(role="user", content="llama"))
        await llama.aget()
        restored = LlamaIndexMemory.from_dict(llama.to_dict())
        assert (await restored.aget_all())[-1].content == "llama"
        await MnesisChatStore.from_defaults(engine=engine).get_messages(SESSION)

        await session.compact()
        log = [message.text_content() for message in await session.messages()]
        assert len(stored) == len(log)
    await engine.close()
    async with await MnesisSession.load(SESSION, db_path=db) as session:
        assert len(await session.messages()) == len(log)
    return log


def main() -> None:
    """Converse in a new process, where nothing is loaded yet, and print the log."""
    run: Any = asyncio.run
    if "uvloop" in sys.argv:
        import uvloop

        run = uvloop.run
    with refuse_blocking_calls():
        print("\n".join(run(converse(sys.argv[1]))))
    assert not blocking_calls, blocking_calls[0]


if __name__ == "__main__":
    main()
