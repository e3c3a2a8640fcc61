"""The middleware in deep agents: files, parallel sub-agents, summaries, forks, and inputs of every form.

A deep agent keeps messages in a `DeltaChannel`, which stores raw inputs without ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

deepagents = pytest.importorskip(
    "deepagents", reason="deepagents needs three model providers' packages; .ci/adapters newest deepagents installs it"
)

from langgraph.checkpoint.memory import InMemorySaver  # noqa: E402  # after the skip

from langchain_mnesis import MnesisMiddleware  # noqa: E402
from mnesis import Engine, MnesisSession  # noqa: E402

QUESTIONS = ("hi 0", "write 1", "delegate 2", "list 3", "hi 4", "write 5", "hi 6", "delegate 7", "hi 8", "list 9")
FORMS: dict[str, Callable[[str], object]] = {
    "tuple": lambda text: ("user", text),
    "dict": lambda text: {"role": "user", "content": text},
    "message": HumanMessage,
}


class ScriptedModel(BaseChatModel):
    """A model that calls the tool which the newest question names, and records its requests."""

    _requests: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> ScriptedModel:
        return self

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **kwargs: Any) -> ChatResult:
        self._requests.append(list(messages))
        number, newest = len(self._requests), messages[-1]
        calls: list[tuple[str, dict[str, str]]] = []
        match str(newest.content).split(" ")[0] if isinstance(newest, HumanMessage) else "":
            case "write":
                calls = [("write_file", {"file_path": f"/{number}.txt", "content": "text " * 20})]
            case "delegate":
                work = {"subagent_type": "general-purpose"}
                calls = [("task", work | {"description": f"work {part}"}) for part in range(2)]
            case "list":
                calls = [("ls", {"path": "/"})]
        tool_calls = [{"name": name, "args": args, "id": f"call-{number}-{i}"} for i, (name, args) in enumerate(calls)]
        answer = AIMessage("" if tool_calls else f"answer {number}", tool_calls=tool_calls)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def check_request(request: Sequence[BaseMessage]) -> None:
    """Assert that a request begins with a user message and that its calls and results are paired."""
    conversation = [message for message in request if message.type != "system"]
    assert conversation[0].type == "human"
    open_calls: set[str] = set()
    for message in conversation:
        if isinstance(message, ToolMessage):
            open_calls.remove(message.tool_call_id)
            continue
        assert not open_calls
        open_calls = {str(call["id"]) for call in message.tool_calls} if isinstance(message, AIMessage) else set()
    ids = [message.id for message in conversation if message.id]
    assert len(ids) == len(set(ids))


def texts(messages: Sequence[BaseMessage]) -> list[str]:
    """Return the texts of the user's messages, without summaries."""
    humans = [str(message.content) for message in messages if message.type == "human"]
    return [text for text in humans if not text.startswith("[Summary")]


@pytest.mark.parametrize("form", FORMS)
async def test_a_deep_agent_sees_its_state_in_order(form: str, tmp_path: Path) -> None:
    engine, model = Engine(tmp_path / "deep.db"), ScriptedModel()
    middleware = MnesisMiddleware(engine=engine, trigger=("messages", 12), keep=("messages", 4))
    agent = deepagents.create_deep_agent(model=model, middleware=[middleware], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "deep"}}
    for question in QUESTIONS:
        state = await agent.ainvoke({"messages": [FORMS[form](question)]}, config)

    for request in model._requests:
        check_request(request)
    assert texts(state["messages"]) == list(QUESTIONS)
    shown = texts(model._requests[-1])
    assert shown == list(QUESTIONS[-len(shown) :])
    async with await MnesisSession.load("deep", engine=engine) as session:
        log = await session.messages()
        assert [record.text_content() for record in log if record.role == "user"] == list(QUESTIONS)
        assert len(log) == len(state["messages"])  # sub-agents have sessions of their own
        assert await session.summaries()

    history = [snapshot async for snapshot in agent.aget_state_history(config)]
    early = next(
        each for each in history if texts(each.values.get("messages", [])) == list(QUESTIONS[:2]) and not each.next
    )
    await agent.ainvoke({"messages": [FORMS[form]("forked")]}, early.config)
    assert texts(model._requests[-1]) == [*QUESTIONS[:2], "forked"]
    assert not any("Summary" in str(message.content) for message in model._requests[-1])
    await engine.close()
