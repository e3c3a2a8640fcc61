"""Branches of a thread that run at the same time are separate views over one log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain.agents")

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mnesis import MnesisMiddleware
from mnesis import Engine
from tests.support.langchain_fakes import FakeModel, texts_of

THREAD = {"configurable": {"thread_id": "t"}}
PAD = " word" * 30


class ViewChecker(AgentMiddleware[Any, Any, Any]):
    """Compares each request with the state that it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        state, shown = texts_of(request.state["messages"]), request.messages
        verbatim = [text for message, text in zip(shown, texts_of(shown), strict=True) if not is_summary(message)]
        assert verbatim[-1] == state[-1]
        positions = [state.index(text) for text in verbatim]
        assert positions == sorted(positions)
        branches = {text.split()[0] for text in state if text.startswith("branch")}
        assert not [word for message in shown for word in str(message.text).split() if is_other(word, branches)]
        self.requests += 1
        return await handler(request)


def is_summary(message: BaseMessage) -> bool:
    return bool(message.additional_kwargs)


def is_other(word: str, branches: set[str]) -> bool:
    return word.startswith("branch") and word not in branches


@pytest.mark.parametrize("agent_count", [1, 2])
async def test_concurrent_branches_are_shown_their_own_messages(agent_count: int, engine: Engine) -> None:
    saver, checker = InMemorySaver(), ViewChecker()
    model = FakeModel(messages=(AIMessage(f"answer {number}{PAD}") for number in range(1_000)))
    agents = [
        create_agent(
            model,
            [],
            middleware=[
                MnesisMiddleware(engine=engine, trigger=("messages", 6), keep=("messages", 2), recall_tools=False),
                checker,
            ],
            checkpointer=saver,
        )
        for _ in range(agent_count)
    ]
    for number in range(5):
        await agents[0].ainvoke({"messages": [("user", f"question {number}{PAD}")]}, THREAD)
    points = [state async for state in agents[0].aget_state_history(THREAD) if not state.next]

    async def run_branch(number: int) -> None:
        agent, config = agents[number % agent_count], points[number % len(points)].config
        for turn in range(3):
            question = f"branch{number} turn {turn}{PAD}"
            result = await agent.ainvoke({"messages": [("user", question)]}, config)
            ids = [message.id for message in result["messages"]]
            states = [state async for state in agent.aget_state_history(THREAD) if not state.next]
            config = next(s.config for s in states if [m.id for m in s.values.get("messages", [])] == ids)

    await asyncio.gather(*map(run_branch, range(6)))
    assert checker.requests == 5 + 6 * 3
    assert await engine.store.check(session_id="t") == []
