"""LangChain agents with a search tool and long answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain.agents")
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mnesis import MnesisMiddleware
from mnesis import Engine, MnesisConfig, ModelOverrides
from mnesis.config import CompactionConfig
from tests.support.langchain_fakes import FakeModel

THREAD = {"configurable": {"thread_id": "t"}}


SMALL = MnesisConfig(
    compaction=CompactionConfig(compaction_output_budget=1_000),
    model_overrides=ModelOverrides(context_limit=3_001, max_output_tokens=1),
)


def call(tool: str, call_id: str, /, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": call_id, "type": "tool_call"}])


def search(q: str) -> str:
    """Search."""
    return f"found {q}"


def agent(
    model: FakeModel, engine: Engine, *more: AgentMiddleware[Any, Any, Any], tools: Any = (), **options: Any
) -> Any:
    middleware = [*more, MnesisMiddleware(options.pop("writer", None), engine=engine, **options)]
    return create_agent(model, list(tools), middleware=middleware, checkpointer=InMemorySaver())


def ask(asked: Any, text: str, config: Any = THREAD) -> list[BaseMessage]:
    messages: list[BaseMessage] = asked.invoke({"messages": [("user", text)]}, config)["messages"]
    return messages


def long_answers() -> Iterator[AIMessage]:
    return (AIMessage(f"answer {number} " + "word " * 60) for number in range(1, 10**6))
