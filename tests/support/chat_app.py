"""A FastAPI application that answers from a history in the database that `CHAT_DB` names. Servers start it by its name."""

from __future__ import annotations

import os

from fastapi import FastAPI
from langchain_core.runnables import RunnableLambda
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory as LlamaIndexMemory

from langchain_mnesis import MnesisMemory
from mnesis import Engine
from tests.support.blocking import blocking_calls, refuse_blocking_calls

app = FastAPI()
engine = Engine(os.environ["CHAT_DB"])
chain = MnesisMemory(RunnableLambda(lambda messages: f"seen {len(messages)}"), engine=engine)
detector = refuse_blocking_calls()
detector.__enter__()


@app.post("/chat/{thread_id}")
async def chat(thread_id: int, text: str) -> dict[str, object]:
    """Store a question and its answer through LangChain, and a note through LlamaIndex."""
    answer = await chain.ainvoke(text, {"configurable": {"thread_id": thread_id}})
    memory = LlamaIndexMemory.from_defaults(session_id=thread_id, engine=engine)
    await memory.aput(ChatMessage(role="user", content=f"note on {text}"))
    return {"answer": answer, "worker": os.getpid(), "blocking_calls": blocking_calls}
