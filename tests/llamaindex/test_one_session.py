"""One store and one bus with the other APIs; opening and closing; tools."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ImageBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.memory.mnesis import (
    MnesisMemory,
    function_tools,
    read_simple_chat_store,
    write_simple_chat_store,
)

from mnesis import Engine, MnesisSession
from mnesis.errors import InvalidMessageError, ToolDefinitionError
from mnesis.models.tool import ToolSpec
from mnesis.testing import ScriptedLLM
from tests.support.llamaindex_fakes import AgentLLM, assistant, calls, result, system, turns, user


async def test_the_native_session_and_the_memory_share_store_and_bus(db: Path) -> None:
    engine = Engine(db, llm=ScriptedLLM("native answer"))
    events: list[tuple[str, str]] = []
    engine.events.subscribe_all(lambda event, payload: events.append((str(event), payload.get("session_id", ""))))
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine)
    await memory.aput_messages([user("through the memory"), calls("c", q="x"), result("c"), assistant("done")])
    async with MnesisSession.open(model="openai/gpt-4o", session_id="s", engine=engine) as session:
        await session.send("through the session")
        read = await session.messages()
    assert [m.role for m in read] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert read[1].tool_calls[0].input == {"q": "x"}
    assert read[2].tool_results[0].output == "found"
    view = await memory.aget()
    assert view[:4] == [user("through the memory"), calls("c", q="x"), result("c"), assistant("done")]
    assert [str(m.content) for m in view[4:]] == ["through the session", "native answer"]
    assert events.count(("message.created", "s")) == 6
    await memory.aclose()
    await engine.close()


async def test_three_apis_share_a_session_and_read_their_messages_back(db: Path) -> None:
    pytest.importorskip("langchain_core")
    langchain = pytest.importorskip("langchain_mnesis")
    from langchain_core.messages import AIMessage, HumanMessage

    engine = Engine(db)
    created: list[str] = []
    engine.events.subscribe_all(lambda event, payload: created.append(str(event)))
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine)
    chain = langchain.MnesisChatMessageHistory("s", engine=engine)
    session = await MnesisSession.create(model=None, session_id="s", engine=engine)
    picture = ChatMessage(role="user", blocks=[ImageBlock(image=b"\x89PNG\r\n\x1a\n rest")])
    spoken = AIMessage(content="from a chain", id="ai-1", additional_kwargs={"k": 1})
    await memory.aput(picture)
    await session.record("from a session", "noted")
    await chain.aadd_messages([HumanMessage("to a chain", id=None), spoken])
    await memory.aput(assistant("from a memory"))
    assert created.count("message.created") == 6
    ours = await memory.aget_all()
    theirs = await chain.aget_messages()
    assert (ours[0], ours[-1]) == (picture, assistant("from a memory"))
    assert theirs[4] == spoken
    assert [str(m.content) for m in ours[1:]] == [
        "from a session",
        "noted",
        "to a chain",
        "from a chain",
        "from a memory",
    ]
    assert [m.text_content() for m in await session.messages()][1:] == [str(m.content) for m in ours[1:]]
    await memory.aclose()
    await session.close()
    await engine.close()


def test_a_simple_chat_store_file_is_read(tmp_path: Path, memory: MnesisMemory) -> None:
    path = tmp_path / "store.json"
    said = [system("s"), *turns(1), calls("c", q="x"), result("c")]
    stored = [json.loads(message.model_dump_json()) for message in said]
    path.write_text(json.dumps({"store": {"chat_history": stored, "old": [{"role": "user", "content": "hi"}]}}))
    memory.put_messages(read_simple_chat_store(path))
    assert memory.get_all() == said
    assert read_simple_chat_store(path, "old") == [user("hi")]
    with pytest.raises(InvalidMessageError, match="does not have the key 'other'; pass one of 'chat_history', 'old'"):
        read_simple_chat_store(path, "other")
    path.write_text("[]")
    with pytest.raises(InvalidMessageError, match="not a persisted SimpleChatStore"):
        read_simple_chat_store(path)


def test_a_session_is_written_as_a_simple_chat_store_file(tmp_path: Path, memory: MnesisMemory) -> None:
    picture = ChatMessage(role="user", blocks=[ImageBlock(image=b"\x89PNG\r\n\x1a\n rest")])
    said = [system("s"), *turns(1), picture, calls("c", q="x"), result("c")]
    memory.put_messages(said)
    path = tmp_path / "store.json"
    write_simple_chat_store(path, memory.get_all(), "user1")
    assert SimpleChatStore.from_persist_path(str(path)).get_messages("user1") == said
    assert read_simple_chat_store(path, "user1") == said


async def _found(query: str, limit: int = 3) -> str:
    return f"{limit} x {query}"


SPEC = ToolSpec(
    name="memory_search",
    description="Search the log.",
    parameters={
        "type": "object",
        "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["query"],
    },
    handler=_found,
)


async def test_tools_of_the_engine_are_tools_of_an_agent(memory: MnesisMemory) -> None:
    (tool,) = function_tools([SPEC])
    assert tool.metadata.to_openai_tool()["function"] == {
        "name": "memory_search",
        "description": "Search the log.",
        "parameters": SPEC.parameters,
    }
    assert tool.call(query="rails").content == "3 x rails"
    block = ToolCallBlock(tool_call_id="1", tool_name="memory_search", tool_kwargs={"query": "rails", "limit": 1})
    llm = AgentLLM(script=[ChatMessage(role="assistant", blocks=[block]), assistant("ok")])
    agent = FunctionAgent(name="a", description="a", llm=llm, tools=[tool], streaming=False)
    await agent.run("go", memory=memory)
    assert str((await memory.aget_all())[2].content) == "1 x rails"


async def test_an_agent_reads_again_what_a_summary_stands_for(db: Path) -> None:
    memory = MnesisMemory.from_defaults(session_id="s", db_path=db, token_limit=2_000)
    await memory.aput_messages([user("The code word is BLUEBIRD-77."), assistant("Noted."), *turns(40)])
    await memory.acompact()
    assert "lcm_expand" in str((await memory.aget())[0].content)
    tools = await memory.arecall_tools()
    assert [tool.metadata.name for tool in tools] == ["lcm_grep", "lcm_describe", "lcm_expand"]
    block = ToolCallBlock(tool_call_id="1", tool_name="lcm_grep", tool_kwargs={"pattern": "BLUEBIRD-.."})
    llm = AgentLLM(script=[ChatMessage(role="assistant", blocks=[block]), assistant("it is BLUEBIRD-77")])
    agent = FunctionAgent(name="a", description="a", llm=llm, tools=tools, streaming=False)  # type: ignore[arg-type]  # a list of tools is one
    await agent.run("what is the code word?", memory=memory)
    assert "BLUEBIRD-77" in str((await memory.aget_all())[-2].content)
    await memory.aclose()


def test_a_synchronous_handler_is_called_too_and_a_missing_one_refused() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    (tool,) = function_tools([ToolSpec(name="add", description="add", handler=add)])
    assert tool.call(a=1, b=2).raw_output == 3
    assert asyncio.run(tool.acall(a=1, b=2)).raw_output == 3
    with pytest.raises(ToolDefinitionError, match="'add' has no handler"):
        function_tools([ToolSpec(name="add", description="add")])


def test_the_namespaces_of_llama_index_stay_open() -> None:
    for name in ("llama_index", "llama_index.memory"):
        spec: Any = importlib.util.find_spec(name)
        assert spec.origin is None, name


def test_a_missing_extra_is_named_with_the_command_to_install_it() -> None:
    code = (
        "import sys; sys.modules['llama_index.core'] = None\n"
        "try:\n import llama_index.memory.mnesis\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert 'pip install "mnesis-context[llama-index]"' in done.stdout
