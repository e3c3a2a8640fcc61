"""Between compactions, an agent's request begins with the previous one, also if other code appends changing content to each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("agents")
pytest.importorskip("langchain")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")

from agents import Agent as SDKAgent
from agents import ModelSettings, RunConfig, Runner, function_tool
from agents.run import CallModelData, ModelInputData
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.memory.mnesis import MnesisMemory
from pydantic_ai import Agent
from pydantic_ai import messages as pydantic_messages
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models.function import FunctionModel

from agents_mnesis import MnesisAgentSession
from langchain_mnesis import MnesisMiddleware
from mnesis import Engine, MnesisSession
from pydantic_ai_mnesis import MnesisHistory
from tests.support import agents_fakes, llamaindex_fakes

TURNS = 16
LIMIT_TOKENS = 2_500
MIN_FRACTION = 0.95
NOTE = "It is step"


def look(q: str) -> str:
    """Look something up."""
    return "data " * 60


async def ask_langchain(engine: Engine, *, is_outside: bool) -> list[Sequence[Any]]:
    requests: list[Sequence[Any]] = []

    class Model(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **options: Any) -> Model:
            return self

        def _generate(self, messages: Any, *rest: Any, **options: Any) -> Any:
            requests.append([(m.type, m.id, m.content) for m in messages if not str(m.content).startswith(NOTE)])
            return super()._generate(messages, *rest, **options)

    class Clock(AgentMiddleware[Any, Any, Any]):
        async def awrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
            note = HumanMessage(f"{NOTE} {len(requests)}.")
            return await handler(request.override(messages=[*request.messages, note]))

    replies = [
        reply
        for number in range(TURNS)
        for reply in (
            AIMessage("", tool_calls=[{"name": "look", "args": {"q": "x"}, "id": f"c{number}"}]),
            AIMessage("answer " * 40),
        )
    ]
    memory = MnesisMiddleware(engine=engine, trigger=("tokens", LIMIT_TOKENS), keep=("messages", 6), recall_tools=False)
    middleware: list[Any] = [Clock(), memory] if is_outside else [memory, Clock()]
    agent = create_agent(Model(messages=iter(replies)), [look], middleware=middleware, checkpointer=InMemorySaver())
    for number in range(TURNS):
        question = {"messages": [HumanMessage(f"question {number} " + "words " * 40)]}
        await agent.ainvoke(question, {"configurable": {"thread_id": "s"}})
    return requests


async def ask_langchain_from_outside(engine: Engine) -> list[Sequence[Any]]:
    return await ask_langchain(engine, is_outside=True)


async def ask_langchain_from_inside(engine: Engine) -> list[Sequence[Any]]:
    return await ask_langchain(engine, is_outside=False)


async def ask_llamaindex(engine: Engine) -> list[Sequence[Any]]:
    script = [
        reply
        for number in range(TURNS)
        for reply in (llamaindex_fakes.calls(f"c{number}", q="x"), llamaindex_fakes.assistant("answer " * 40))
    ]
    llm = llamaindex_fakes.AgentLLM(script=script)
    agent = FunctionAgent(name="helper", description="helps", llm=llm, tools=[look], streaming=False)
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine, token_limit=LIMIT_TOKENS)
    for number in range(TURNS):
        await agent.run(f"question {number} " + "words " * 40, memory=memory)
    return [[message.model_dump_json() for message in request] for request in llm.asked]


async def ask_agents_sdk(engine: Engine) -> list[Sequence[Any]]:
    steps = count()
    replies = iter(
        [
            reply
            for number in range(TURNS)
            for reply in (
                agents_fakes.call("look", f"c{number}", q="x"),
                agents_fakes.text("answer " * 40, f"m{number}"),
            )
        ]
    )

    def add_clock(data: CallModelData[Any]) -> ModelInputData:
        note: Any = {"role": "user", "content": f"{NOTE} {next(steps)}."}
        return ModelInputData([*data.model_data.input, note], data.model_data.instructions)

    model = agents_fakes.ScriptedModel(lambda items: [next(replies)])
    agent = SDKAgent(name="helper", model=model, tools=[function_tool(look)], model_settings=ModelSettings())
    session = MnesisAgentSession("s", engine=engine, token_limit=LIMIT_TOKENS)
    config = RunConfig(call_model_input_filter=add_clock, tracing_disabled=True)
    for number in range(TURNS):
        await Runner.run(agent, f"question {number} " + "words " * 40, session=session, run_config=config)
    return [[item for item in asked if not str(item.get("content")).startswith(NOTE)] for asked in model.asked]


async def ask_pydantic_ai(engine: Engine) -> list[Sequence[Any]]:
    requests: list[Sequence[Any]] = []

    class Clock(AbstractCapability[Any]):
        async def before_model_request(self, ctx: Any, request_context: Any) -> Any:
            note = pydantic_messages.UserPromptPart(f"{NOTE} {len(requests)}.")
            request_context.messages = [*request_context.messages, pydantic_messages.ModelRequest(parts=[note])]
            return request_context

    def answer(messages: list[Any], info: Any) -> Any:
        requests.append(
            [
                (part.part_kind, getattr(part, "content", None), getattr(part, "args", None))
                for message in messages
                for part in message.parts
                if not str(getattr(part, "content", "")).startswith(NOTE)
            ]
        )
        if len(requests) % 2:
            return pydantic_messages.ModelResponse(parts=[pydantic_messages.ToolCallPart("look", {"q": "x"})])
        return pydantic_messages.ModelResponse(parts=[pydantic_messages.TextPart("answer " * 40)])

    history = MnesisHistory("s", engine=engine, token_limit=LIMIT_TOKENS)
    agent = Agent(FunctionModel(answer), capabilities=[history, Clock()], tools=[look])
    for number in range(TURNS):
        await agent.run(f"question {number} " + "words " * 40)
    return requests


@pytest.mark.parametrize(
    "ask", [ask_langchain_from_outside, ask_langchain_from_inside, ask_llamaindex, ask_agents_sdk, ask_pydantic_ai]
)
async def test_requests_extend_the_previous_one_between_compactions(ask: Any, tmp_path: Path) -> None:
    async with Engine(tmp_path / "s.db") as engine:
        requests = await ask(engine)
        await engine.wait_for_tasks()
        async with await MnesisSession.load("s", engine=engine) as session:
            compactions = len(await session.compactions())
    assert len(requests) == 2 * TURNS
    extended = sum(list(later[: len(earlier)]) == list(earlier) for earlier, later in pairwise(requests))
    compared = len(requests) - 1
    assert 0 < compactions <= TURNS // 2
    assert extended >= MIN_FRACTION * (compared - min(compactions, compared - extended))
