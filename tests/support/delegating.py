"""Sub-agents, their calls and their sessions."""

from __future__ import annotations

from typing import Any

from mnesis import Engine, MnesisSession
from mnesis.llm.base import LLMReply
from mnesis.models.message import ToolPart

MODEL = "openai/gpt-4o"


def calling(name: str, **arguments: Any) -> LLMReply:
    return LLMReply(tool_calls=(ToolPart(tool_name=name, tool_call_id=f"call_{name}", input=arguments),))


async def children(engine: Engine, parent_id: str) -> list[Any]:
    return list((await engine.sessions(parent_id=parent_id)).sessions)


async def a_sub_agent(engine: Engine, llm: object | None = None) -> MnesisSession:
    parent = await MnesisSession.create(model=MODEL, engine=engine)
    child = await MnesisSession.create(model=MODEL, engine=engine, parent_id=parent.id, llm=llm)
    await parent.close()
    return child
