from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage

from langchain_mnesis import MnesisChatMessageHistory
from mnesis import Engine
from mnesis.recall.grants import Grant

FACT = "The locker code of the customs office is KX-4471."


def test_a_history_hands_out_the_recall_tools_with_one_call(engine: Engine) -> None:
    history = MnesisChatMessageHistory("s", engine=engine)
    tools = {tool.name: tool for tool in history.recall_tools()}
    assert set(tools) == {"lcm_grep", "lcm_describe", "lcm_expand"}
    assert "no messages yet" in tools["lcm_grep"].invoke({"pattern": "KX-"})
    history.add_messages([HumanMessage(FACT), AIMessage("noted")])
    assert "KX-4471" in tools["lcm_grep"].invoke({"pattern": r"KX-\d+"})


async def test_they_work_inside_a_running_loop_and_tell_the_model_what_is_wrong(engine: Engine) -> None:
    history = MnesisChatMessageHistory("s", engine=engine)
    await history.aadd_messages([HumanMessage(FACT)])
    tools = {tool.name: tool for tool in history.recall_tools()}
    assert "KX-4471" in await tools["lcm_grep"].ainvoke({"pattern": "KX"})
    assert "not found" in (await tools["lcm_expand"].ainvoke({"id": "sum_nothing"})).lower()


def test_all_their_calls_share_one_grant(engine: Engine) -> None:
    history = MnesisChatMessageHistory("s", engine=engine)
    history.add_messages([HumanMessage(FACT)])
    grant = Grant(tokens=None)
    grep = next(tool for tool in history.recall_tools(grant) if tool.name == "lcm_grep")
    grep.invoke({"pattern": "KX"})
    grep.invoke({"pattern": "customs"})
    assert [use.tool for use in grant.uses] == ["lcm_grep", "lcm_grep"]
    grant.revoke()
    assert "KX-4471" not in grep.invoke({"pattern": "KX"})


def test_invalid_arguments_are_reported_to_the_model(engine: Engine) -> None:
    history = MnesisChatMessageHistory("s", engine=engine)
    history.add_messages([HumanMessage(FACT)])
    grep = next(tool for tool in history.recall_tools() if tool.name == "lcm_grep")
    assert "pattern is required" in grep.invoke({"query": "KX"})
    assert "query is not a parameter" in grep.invoke({"query": "KX"})
    assert "pattern must be a string, not 5" in grep.invoke({"pattern": 5})
