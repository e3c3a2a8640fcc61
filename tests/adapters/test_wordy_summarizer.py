"""A summarizer too wordy for a small window is not asked again and again, through any API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")

from langchain_core.messages import AIMessage, HumanMessage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory

from langchain_mnesis import MnesisChatMessageHistory
from mnesis import Engine, MnesisSession
from tests.support.summaries import WordyModel

TURN_TEXTS = [
    (f"question {number} about valve {number} " + "text " * 40, f"answer {number} " + "words " * 60)
    for number in range(25)
]


async def talk(engine: Engine, window_tokens: int) -> None:
    async with MnesisSession.open(session_id="s", model="m", engine=engine, budget=window_tokens) as session:
        for question, _ in TURN_TEXTS:
            await session.send(question)
        await engine.wait_for_tasks()


async def talk_in_langchain(engine: Engine, window_tokens: int) -> None:
    limits = {"context_limit": window_tokens, "max_output_tokens": 100}
    history = MnesisChatMessageHistory("s", engine=engine, model="m", config={"model_overrides": limits})
    for question, answer in TURN_TEXTS:
        await history.aadd_messages([HumanMessage(question), AIMessage(answer)])
        await engine.wait_for_tasks()
        history.refresh()
        await history.aget_messages()


async def talk_in_llamaindex(engine: Engine, window_tokens: int) -> None:
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine, token_limit=window_tokens)
    for question, answer in TURN_TEXTS:
        await memory.aput_messages(
            [ChatMessage(role="user", content=question), ChatMessage(role="assistant", content=answer)]
        )
        await engine.wait_for_tasks()
        await memory.aget()


@pytest.mark.filterwarnings("ignore:.*too small.*")
@pytest.mark.parametrize("window_tokens", [384, 512, 1_024])
@pytest.mark.parametrize("conversation", [talk, talk_in_langchain, talk_in_llamaindex])
async def test_a_model_too_wordy_for_a_window_is_asked_once_per_level(
    conversation: Callable[[Engine, int], Awaitable[None]], window_tokens: int
) -> None:
    model = WordyModel(words=window_tokens)
    async with Engine(":memory:", llm=model, config={"recall": {"tools": False}}) as engine:
        await conversation(engine, window_tokens)
        async with await MnesisSession.load("s", engine=engine) as session:
            made = [attempt for result in await session.compactions() for attempt in result.attempts]
    assert sum(attempt.level == 3 for attempt in made) > 5
    # Twice at each level, since the first failure vouches only for lengths up to twice that limit.
    assert 0 < model.summary_requests <= 4
