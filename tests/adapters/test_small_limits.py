"""A view stays within its limit, from 20 tokens up, if the newest message alone fits: in every adapter that takes a limit."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.samples import sampled

pytest.importorskip("agents")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")

from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart

from agents_mnesis import MnesisAgentSession
from mnesis import Engine, MnesisSession
from mnesis.errors import ContextIrreducibleError
from mnesis.ids import new_id
from mnesis.models.message import Message
from mnesis.models.message import TextPart as LogText
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenEstimator
from pydantic_ai_mnesis import MnesisHistory
from tests.support.agents_fakes import check_items

Turns = list[tuple[str, str]]
NEWEST = "What now?"
WORDS = st.integers(1, 200).map(lambda count: "word " * count)
LIMITS = st.integers(20, 100) | st.integers(100, 1_000)


async def show_natively(engine: Engine, limit: int, turns: Turns) -> list[str]:
    async with MnesisSession.open(model="m", engine=engine, budget=limit, system_prompt="") as session:
        for question, answer in turns:
            await session.record(question, answer)
        await session.append([Message(id=new_id("msg"), role="user", parts=(LogText(text=NEWEST),))])
        return [message.text_content() for message in (await session.window()).messages]


async def show_in_llamaindex(engine: Engine, limit: int, turns: Turns) -> list[str]:
    memory = MnesisMemory.from_defaults(session_id=new_id("s"), engine=engine, token_limit=limit)
    for question, answer in turns:
        await memory.aput_messages([ChatMessage(question), ChatMessage(answer, role="assistant")])
    await memory.aput(ChatMessage(NEWEST))
    return [str(message.content) for message in await memory.aget()]


async def show_in_pydantic_ai(engine: Engine, limit: int, turns: Turns) -> list[str]:
    history = MnesisHistory(engine=engine, token_limit=limit)
    session_id = new_id("s")
    for question, answer in turns:
        pair = [ModelRequest([UserPromptPart(question)]), ModelResponse([TextPart(answer)])]
        await history.add(session_id, pair)
    await history.add(session_id, [ModelRequest([UserPromptPart(NEWEST)])])
    shown = await history.messages(session_id)
    return [str(part.content) for message in shown for part in message.parts]  # type: ignore[union-attr]  # texts


async def show_in_agents_sdk(engine: Engine, limit: int, turns: Turns) -> list[str]:
    session = MnesisAgentSession(new_id("s"), engine=engine, token_limit=limit)
    for number, (question, answer) in enumerate(turns):
        call = {
            "type": "function_call",
            "name": "look",
            "arguments": json.dumps({"q": number}),
            "call_id": f"c{number}",
        }
        output = {"type": "function_call_output", "call_id": f"c{number}", "output": answer}
        items: list[Any] = [{"role": "user", "content": question}, call, output, {"role": "assistant", "content": "ok"}]
        await session.add_items(items)
    await session.add_items([{"role": "user", "content": NEWEST}])
    shown: list[Any] = list(await session.get_items())
    check_items(shown)
    return [str(item.get("content") or item.get("output") or "") for item in shown]


@pytest.mark.filterwarnings("ignore:.*too small.*")
@pytest.mark.parametrize("show", [show_natively, show_in_llamaindex, show_in_pydantic_ai, show_in_agents_sdk])
@settings(max_examples=sampled(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=LIMITS, turns=st.lists(st.tuples(WORDS, WORDS), max_size=5))
async def test_a_view_fits_every_limit_from_20_tokens(
    show: Callable[[Engine, int, Turns], Awaitable[list[str]]], limit: int, turns: Turns
) -> None:
    async with Engine(":memory:", llm=lambda messages: "They spoke.") as engine:
        texts = await show(engine, limit, turns)
        await engine.wait_for_tasks()
    count = TokenEstimator().estimate
    assert texts[-1] == NEWEST
    assert sum(count(text) + MESSAGE_OVERHEAD_TOKENS for text in texts) <= limit


async def test_a_newest_message_that_does_not_fit_a_small_limit_is_an_error() -> None:
    async with (
        Engine(":memory:") as engine,
        MnesisSession.open(model="m", engine=engine, budget=20, system_prompt="") as session,
    ):
        await session.append([Message(id=new_id("msg"), role="user", parts=(LogText(text="word " * 40),))])
        with pytest.raises(ContextIrreducibleError):
            await session.window()
