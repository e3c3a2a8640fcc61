from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory
from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisEvent, MnesisSession, concurrency, sync
from mnesis.testing import ScriptedLLM
from tests.support.langchain_fakes import FakeModel, scripted_model, session_config, texts_of

CALL = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}


async def test_a_session_used_by_all_apis_loses_nothing(engine: Engine) -> None:
    heard: list[tuple[str, int]] = []
    engine.events.subscribe(
        MnesisEvent.MESSAGE_CREATED, lambda event, payload: heard.append((payload.role, payload.seq))
    )
    began: list[BaseMessage] = [
        HumanMessage("began in LangChain", mood="calm"),
        AIMessage("", tool_calls=[CALL], id="a1"),
        ToolMessage("found", tool_call_id="c1", artifact={"rows": (1,)}),
        AIMessage("there you are"),
    ]
    history = MnesisChatMessageHistory("s", engine=engine)
    await history.aadd_messages(began)

    llm = ScriptedLLM(["answered natively"])
    session = await MnesisSession.load("s", engine=engine, llm=llm)
    result = await session.send("continued natively")
    asked = [message["content"] for message in llm.requests[0].messages]
    assert asked == ["began in LangChain", None, "found", "there you are", "continued natively"]

    model = FakeModel()
    await MnesisMemory(model, engine=engine).ainvoke("back in LangChain", session_config("s"))
    assert model.asked[0][:4] == began
    assert texts_of(model.asked[0])[4:] == ["continued natively", "answered natively", "back in LangChain"]
    assert model.asked[0][5].id == result.message_id

    assert [m.text_content() for m in await session.messages()][-1] == "answer 1"
    assert [seq for _, seq in heard] == list(range(1, 9))
    assert (await MnesisChatMessageHistory("s", engine=engine, view="full").aget_messages())[:4] == began


async def test_a_session_begun_natively_keeps_its_model_prompt_and_messages(engine: Engine) -> None:
    session = await MnesisSession.create(
        model="openai/gpt-4o", system_prompt="native", session_id="s", engine=engine, llm=ScriptedLLM(["hello"])
    )
    await session.send("hi")
    history = MnesisChatMessageHistory("s", engine=engine, llm=scripted_model("never asked"))
    await history.aadd_messages([HumanMessage("from LangChain"), AIMessage("noted")])
    assert texts_of(await history.aget_messages()) == ["hi", "hello", "from LangChain", "noted"]
    again = await MnesisSession.load("s", engine=engine)
    assert (again.model, again.system_prompt) == ("openai/gpt-4o", "native")
    assert (await MnesisSession.load("s", engine=engine)).token_usage == session.token_usage


async def test_a_session_started_here_may_get_a_system_prompt_natively(engine: Engine) -> None:
    history = MnesisChatMessageHistory("s", engine=engine, model="openai/gpt-4o")
    await history.aadd_messages([HumanMessage("hi"), AIMessage("hello")])
    llm = ScriptedLLM("yes")
    session = await MnesisSession.load("s", engine=engine, llm=llm)
    assert (session.system_prompt, session.model) == ("", "openai/gpt-4o")
    await session.send("still there?")
    assert [m["role"] for m in llm.requests[0].messages] == ["user", "assistant", "user"]


async def test_usage_that_langchain_reports_counts_for_the_session(engine: Engine) -> None:
    usage = {"input_tokens": 500, "output_tokens": 20, "total_tokens": 520}
    history = MnesisChatMessageHistory("s", engine=engine)
    await history.aadd_messages([HumanMessage("hi"), AIMessage("hello", usage_metadata=usage)])
    session = await MnesisSession.load("s", engine=engine)
    assert session.token_usage.effective_total() == 520
    assert session.context_tokens == 520
    assert [turn.measured_tokens for turn in session.history()] == [520]


def test_two_objects_and_the_native_api_share_one_engines_store(engine: Engine) -> None:
    other = Engine(engine.path)
    heard: list[str] = []
    other.events.subscribe_all(lambda event, payload: heard.append(str(event)))
    MnesisChatMessageHistory("s", engine=engine).add_user_message("hi")
    by_path = MnesisChatMessageHistory("s", db_path=engine.path)
    by_path.add_user_message("again")
    assert heard.count("message.created") == 2
    assert len(sync.SyncSession.load("s", engine=other).messages()) == 2
    concurrency.run(by_path.engine.close())
    concurrency.run(other.close())


async def test_a_window_leaves_room_for_what_else_a_request_carries(engine: Engine) -> None:
    config = MnesisConfig(compaction=CompactionConfig(auto=False))
    session = await MnesisSession.create(model=None, system_prompt="", session_id="s", engine=engine, config=config)
    for number in range(20):
        await session.record(f"question {number} " + "word " * 50, "word " * 50)
    whole = await session.window()
    small = await session.window(budget_tokens=1_000)
    smaller = await session.window(budget_tokens=1_000, reserved_tokens=500)
    assert whole.tokens > 2_000
    assert small.tokens <= 1_000
    assert smaller.tokens <= 1_000
    assert smaller.omitted > small.omitted > whole.omitted == 0


@pytest.mark.parametrize("view", ["window", "full"])
async def test_native_tool_turns_are_valid_langchain_messages(engine: Engine, view: str) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    from mnesis.llm.base import LLMReply
    from mnesis.models.message import ToolPart

    calls = (ToolPart(tool_name="add", tool_call_id="n1", input={"a": 1, "b": 2}),)
    session = await MnesisSession.create(
        model="openai/gpt-4o", session_id="s", engine=engine, llm=ScriptedLLM([LLMReply(tool_calls=calls), "three"])
    )
    await session.send("add", tools=[add])
    history = MnesisChatMessageHistory("s", engine=engine, view=view)  # type: ignore[arg-type]  # parametrised
    _, call, result, answer = await history.aget_messages()
    assert isinstance(call, AIMessage)
    assert isinstance(result, ToolMessage)
    assert call.tool_calls[0]["id"] == result.tool_call_id == "n1"
    assert (result.content, answer.content) == ("3", "three")
