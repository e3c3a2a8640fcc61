"""Items of durable maps, and a model that can be held."""

from __future__ import annotations

import asyncio
import json

from pydantic import BaseModel

from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.usage import TokenUsage
from mnesis.testing import ScriptedLLM


class Number(BaseModel):
    n: int


def echo(request: LLMRequest) -> LLMReply:
    text = json.dumps({"n": int(request.messages[1]["content"])})
    return LLMReply(text=text, usage=TokenUsage(input=3, output=2), cost=0.25)


class Held:
    """A model that holds its answers back until `gate` is set; `asked` is set by the first question."""

    def __init__(self) -> None:
        self.gate, self.asked = asyncio.Event(), asyncio.Event()
        self.client = ScriptedLLM(self.answer)

    async def answer(self, request: LLMRequest) -> LLMReply:
        self.asked.set()
        await self.gate.wait()
        return echo(request)


def asked(llm: ScriptedLLM) -> list[int]:
    return sorted(int(request.messages[1]["content"]) for request in llm.requests)
