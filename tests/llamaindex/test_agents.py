"""Agents and workflows of LlamaIndex with a MnesisMemory."""

import asyncio
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent, JsonSerializer
from llama_index.memory.mnesis import MnesisMemory
from pydantic import BaseModel
from workflows.context.serializers import PickleSerializer

from tests.support.llamaindex_fakes import AgentLLM, assistant, calls, result, user
from tests.support.warm_python import run_python


def look(q: str = "") -> str:
    """Look something up."""
    return f"found {q}"


def agent_with(*script: Any, **fields: Any) -> tuple[FunctionAgent, AgentLLM]:
    llm = AgentLLM(script=list(script))
    return FunctionAgent(name="helper", description="helps", llm=llm, tools=[look], streaming=False, **fields), llm


async def test_a_run_with_tools_is_stored_call_by_call(memory: MnesisMemory) -> None:
    agent, llm = agent_with(calls("c1", q="trains"), assistant("they run"))
    answer = await agent.run("how?", memory=memory)
    assert str(answer) == "they run"
    assert await memory.aget_all() == [
        user("how?"),
        calls("c1", q="trains"),
        result("c1", "found trains"),
        assistant("they run"),
    ]
    assert len(llm.asked) == 2


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_context_used_again_keeps_the_history(memory: MnesisMemory, streaming: bool) -> None:
    agent, llm = agent_with(assistant("one"), assistant("two"))
    agent.streaming = streaming
    context = Context(agent)
    await agent.run("first", memory=memory, ctx=context)
    await agent.run("second", ctx=context)
    assert [str(m.content) for m in llm.asked[1]] == ["first", "one", "second"]
    assert [str(m.content) for m in await memory.aget_all()] == ["first", "one", "second", "two"]


@pytest.mark.parametrize("serializer", [JsonSerializer(), PickleSerializer()], ids=["json", "pickle"])
async def test_a_context_that_was_saved_keeps_the_history(memory: MnesisMemory, serializer: Any) -> None:
    agent, _ = agent_with(assistant("one"))
    context = Context(agent)
    await agent.run("first", memory=memory, ctx=context)
    saved = json.loads(json.dumps(context.to_dict(serializer=serializer)))
    again, llm = agent_with(assistant("two"))
    restored = Context.from_dict(again, saved, serializer=serializer)
    await again.run("second", ctx=restored)
    assert [str(m.content) for m in llm.asked[0]] == ["first", "one", "second"]
    assert [str(m.content) for m in await memory.aget_all()] == ["first", "one", "second", "two"]


async def test_editing_the_state_does_not_copy_the_memory(memory: MnesisMemory) -> None:
    agent, _ = agent_with(assistant("one"))
    context = Context(agent)
    await agent.run("first", memory=memory, ctx=context)
    async with context.store.edit_state() as state:
        state["other"] = 1
    assert await context.store.get("memory") is memory


async def test_a_saved_context_goes_on_in_another_process(db: Path, memory: MnesisMemory, tmp_path: Path) -> None:
    agent, _ = agent_with(calls("c1", q="trains"), assistant("they run"))
    context = Context(agent)
    await agent.run("how?", memory=memory, ctx=context)
    saved = tmp_path / "context.json"
    saved.write_text(json.dumps(context.to_dict()))
    code = textwrap.dedent(
        """
        import asyncio, json, sys
        from llama_index.core.workflow import Context
        from tests.llamaindex.test_agents import agent_with
        from tests.support.llamaindex_fakes import assistant

        async def main():
            agent, llm = agent_with(assistant("on rails"))
            context = Context.from_dict(agent, json.load(open(sys.argv[1])))
            await agent.run("on what?", ctx=context)
            print([m.role.value for m in llm.asked[0]])

        asyncio.run(main())
        """
    )
    root = Path(__file__).parents[2]
    done = await asyncio.to_thread(run_python, ["-c", code, str(saved)], cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['user', 'assistant', 'tool', 'assistant', 'user']"
    assert [str(m.content) for m in await memory.aget_all()][-2:] == ["on what?", "on rails"]


async def test_a_react_agent_keeps_its_history(memory: MnesisMemory) -> None:
    llm = AgentLLM(
        script=[
            assistant('Thought: I need a tool.\nAction: look\nAction Input: {"q": "trains"}'),
            assistant("Thought: I can answer.\nAnswer: they run"),
            assistant("Thought: I can answer.\nAnswer: on rails"),
        ]
    )
    agent = ReActAgent(name="helper", description="helps", llm=llm, tools=[look], streaming=False)
    context = Context(agent)
    assert str(await agent.run("how?", memory=memory, ctx=context)) == "they run"
    assert str(await agent.run("on what?", ctx=context)) == "on rails"
    said = await memory.aget_all()
    assert [m.role.value for m in said] == ["user", "assistant", "user", "assistant"]
    assert "they run" in str(llm.asked[2])


async def test_a_workflow_with_a_handoff_shares_one_history(memory: MnesisMemory) -> None:
    handoff = ToolCallBlock(
        tool_call_id="h", tool_name="handoff", tool_kwargs={"to_agent": "second", "reason": "rails"}
    )
    one = FunctionAgent(
        name="first",
        description="asks",
        llm=AgentLLM(script=[ChatMessage(role="assistant", blocks=[handoff])]),
        tools=[look],
        can_handoff_to=["second"],
        streaming=False,
    )
    llm = AgentLLM(script=[calls("c1", q="rails"), assistant("all done")])
    two = FunctionAgent(name="second", description="answers", llm=llm, tools=[look], streaming=False)
    flow = AgentWorkflow(agents=[one, two], root_agent="first")
    assert str(await flow.run("go", memory=memory)) == "all done"
    said = await memory.aget_all()
    assert [m.role.value for m in said] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert said[1].blocks[0] == handoff
    view = await memory.aget()
    assert view == said


class Verdict(BaseModel):
    word: str


async def test_structured_output_reads_the_history(memory: MnesisMemory) -> None:
    seen: list[Any] = []

    async def judge(messages: Any) -> dict[str, Any]:
        seen.append(messages)
        return {"word": "yes"}

    agent, _ = agent_with(assistant("they run"), structured_output_fn=judge)
    outcome = await agent.run("how?", memory=memory)
    assert outcome.get_pydantic_model(Verdict) == Verdict(word="yes")
    assert [str(m.content) for m in seen[0]] == ["how?", "they run"]


async def test_a_person_may_be_asked_in_the_middle(memory: MnesisMemory) -> None:
    async def confirm(ctx: Context, q: str) -> str:
        """Ask the user."""
        response = await ctx.wait_for_event(
            HumanResponseEvent, waiter_id="w", waiter_event=InputRequiredEvent(prefix=f"{q}?")
        )
        return f"the user said {response.response}"

    ask = ToolCallBlock(tool_call_id="c1", tool_name="confirm", tool_kwargs={"q": "sure"})
    llm = AgentLLM(script=[ChatMessage(role="assistant", blocks=[ask]), assistant("deleted")])
    agent = FunctionAgent(name="helper", description="helps", llm=llm, tools=[confirm], streaming=False)
    handler = agent.run("delete it", memory=memory)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            handler.ctx.send_event(HumanResponseEvent(response="yes"))
    assert str(await handler) == "deleted"
    assert [str(m.content) for m in await memory.aget_all()][2] == "the user said yes"


async def test_a_history_sent_with_every_run_is_not_stored_again(memory: MnesisMemory) -> None:
    transcript: list[Any] = []
    for number in range(4):
        agent, _ = agent_with(assistant(f"answer {number}"))
        await agent.run(f"question {number}", chat_history=list(transcript), memory=memory)
        transcript += [user(f"question {number}"), assistant(f"answer {number}")]
    assert await memory.aget_all() == transcript == await memory.ahistory()


async def test_an_empty_memory_is_not_taken_for_none(memory: MnesisMemory) -> None:
    agent, _ = agent_with(assistant("one"))
    context = Context(agent)
    await agent.run("first", memory=memory, ctx=context)
    assert await context.store.get("memory") is memory
