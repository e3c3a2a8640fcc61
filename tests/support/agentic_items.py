"""Models and questions for agents that work through items."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from mnesis import Engine
from mnesis.llm.base import LLMRequest

MODEL = "openai/gpt-4o"


class Size(BaseModel):
    letters: int


def asked(request: LLMRequest) -> str:
    return next(str(m["content"]) for m in request.messages if m["role"] == "user")


def echo(request: LLMRequest) -> str:
    return f"answer to {asked(request)}"


async def sessions(engine: Engine, parent_id: str | None = None) -> list[Any]:
    return list((await engine.sessions(parent_id=parent_id)).sessions)
