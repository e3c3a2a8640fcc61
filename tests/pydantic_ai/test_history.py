"""`MnesisHistory`: exact messages, requests that fit, and runs that end in any way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")

from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.models.function import AgentInfo, FunctionModel

from mnesis import Engine, MnesisSession
from pydantic_ai_mnesis import MnesisHistory
from pydantic_ai_mnesis.convert import all_messages, to_records
from tests.support.pydantic_ai_messages import EVERY_PART, plain, tool_calls_have_results

# Histories of earlier versions contain these parts.
pytestmark = pytest.mark.filterwarnings("ignore:.*RetryPromptPart.*")
MakeHistory = Callable[..., MnesisHistory]


@pytest.fixture
async def make_history(tmp_path: Path) -> AsyncIterator[MakeHistory]:
    made: list[MnesisHistory] = []

    def make(*arguments: Any, **options: Any) -> MnesisHistory:
        if "engine" not in options:
            options.setdefault("db_path", tmp_path / "pydantic.db")
        made.append(MnesisHistory(*arguments, **options))
        return made[-1]

    yield make
    for history in made:
        await history.close()


def test_every_part_comes_back_as_from_the_type_adapter() -> None:
    records = [record for message in EVERY_PART for record in to_records(message)]
    assert all_messages(records) == plain(EVERY_PART)
    assert [record.role for record in records[:5]] == ["system", "user", "assistant", "tool", "user"]


async def test_stored_messages_and_fitting_views_are_exact(make_history: MakeHistory) -> None:
    history = make_history(token_limit=50_000)
    await history.add("s", EVERY_PART)
    await history.add("s", EVERY_PART)
    assert await history.all_messages("s") == plain(EVERY_PART)
    shown = await history.messages("s")
    assert [message for message in shown if message.parts] == plain([m for m in EVERY_PART if m.parts])
    await history.close()
    assert await make_history().all_messages("s") == plain(EVERY_PART)


class Helper:
    """An agent with a tool, its scripted model, and what the model was asked."""

    def __init__(self, *capabilities: AbstractCapability[Any]) -> None:
        self.asked: list[list[ModelMessage]] = []
        self.agent = Agent(FunctionModel(self.answer), capabilities=capabilities, instructions="Be brief.")
        self.agent.tool_plain(self.look)

    def answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.asked.append(list(messages))
        text = str(messages[-1].parts[-1].content)  # type: ignore[union-attr]
        if text.startswith("fail"):
            raise ValueError("the model failed")
        if text.startswith("look"):
            return ModelResponse(parts=[ToolCallPart("look", {"q": "a"}), ToolCallPart("look", {"q": "b"})])
        return ModelResponse(parts=[TextPart(f"answer to {text[:12]} " + "word " * 40)])

    def look(self, q: str) -> dict[str, str]:
        """Look something up."""
        return {"found": q, "text": "data " * 40}


async def test_runs_continue_the_conversation_and_every_message_is_kept(make_history: MakeHistory) -> None:
    history = make_history(token_limit=1_500)
    helper, expected = Helper(history), []
    for number in range(12):
        prompt = f"{'look' if number % 3 == 0 else 'ask'} {number} " + "word " * 40
        result = await helper.agent.run(prompt, conversation_id="ada")
        expected += result.new_messages()
    assert await history.all_messages("ada") == plain(expected)
    assert all(tool_calls_have_results(messages) for messages in helper.asked)
    session = await history.session("ada")
    assert await session.summaries()
    assert "Summary sum_" in str(helper.asked[-1][0].parts)
    assert helper.asked[-1][-1].parts == expected[-2].parts
    assert [m for m in helper.asked[-1] if m in expected] == helper.asked[-1][1:]


async def test_a_history_that_is_passed_back_is_not_stored_again(make_history: MakeHistory) -> None:
    history = make_history(token_limit=1_000)
    helper = Helper(history)
    for number in range(8):
        shown = await history.messages("ada")
        await helper.agent.run(f"ask {number} " + "word " * 40, conversation_id="ada", message_history=shown)
    stored = await history.all_messages("ada")
    assert [message.kind for message in stored] == ["request", "response"] * 8
    assert "Summary" not in str(stored)
    assert await (await history.session("ada")).summaries()


async def test_it_works_without_the_capability(make_history: MakeHistory) -> None:
    history, helper = make_history(), Helper()
    first = await helper.agent.run("ask 1", message_history=await history.messages("s"))
    await history.add("s", first.new_messages())
    await helper.agent.run("ask 2", message_history=await history.messages("s"))
    assert helper.asked[1][:2] == first.all_messages()


async def test_a_run_that_fails_keeps_the_question(make_history: MakeHistory) -> None:
    history = make_history()
    helper = Helper(history)
    with pytest.raises(ValueError, match="the model failed"):
        await helper.agent.run("fail now", conversation_id="ada")
    (stored,) = await history.all_messages("ada")
    assert stored.parts[0].content == "fail now"  # type: ignore[union-attr]
    await helper.agent.run("ask again", conversation_id="ada")
    assert "fail now" in str(helper.asked[-1])


async def test_a_cancelled_run_keeps_its_finished_steps(make_history: MakeHistory) -> None:
    history = make_history()
    helper, reached, forever = Helper(history), asyncio.Event(), asyncio.Event()

    @helper.agent.tool_plain
    async def wait() -> str:
        """Wait."""
        reached.set()
        await forever.wait()
        return "never"

    helper.agent.model = FunctionModel(lambda messages, info: ModelResponse(parts=[ToolCallPart("wait", {})]))
    run = asyncio.create_task(helper.agent.run("go", conversation_id="ada"))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    kinds = [message.kind for message in await history.all_messages("ada")]
    assert kinds[:2] == ["request", "response"]
    shown = await history.messages("ada")
    assert tool_calls_have_results(shown)


class Redactor(AbstractCapability[Any]):
    """Hides a word from the model."""

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        request_context.messages = [
            ModelRequest(parts=[UserPromptPart("redacted")]) if "hunter2" in str(message.parts) else message
            for message in request_context.messages
        ]
        return request_context


@pytest.mark.parametrize("is_first", [True, False])
async def test_changes_of_other_capabilities_reach_the_model(is_first: bool, make_history: MakeHistory) -> None:
    history = make_history()
    helper = Helper(*([Redactor(), history] if is_first else [history, Redactor()]))
    await helper.agent.run("ask hunter2", conversation_id="ada")
    assert "hunter2" not in str(helper.asked)
    assert "hunter2" in str(await history.all_messages("ada"))


async def test_an_agent_that_a_tool_runs_gets_a_session_below(make_history: MakeHistory) -> None:
    history = make_history()
    inner, outer = Helper(history), Helper(history)

    @outer.agent.tool_plain
    async def delegate() -> str:
        """Ask the other agent."""
        return (await inner.agent.run("ask inner")).output

    calls = iter([ModelResponse(parts=[ToolCallPart("delegate", {})]), ModelResponse(parts=[TextPart("done")])])
    outer.agent.model = FunctionModel(lambda messages, info: next(calls))
    await outer.agent.run("go", conversation_id="ada")
    found = {record.id: record for record in (await history.engine.sessions()).sessions}
    (child,) = [record for record in found.values() if record.id != "ada"]
    assert child.parent_id == "ada"
    assert child.last_seq == 2
    assert found["ada"].last_seq == 4


async def test_other_apis_share_the_session(tmp_path: Path) -> None:
    async with Engine(tmp_path / "a.db", llm=lambda messages: "native answer") as engine:
        native = await MnesisSession.create(model="openai/gpt-4o", session_id="s", engine=engine)
        await native.send("native question")
        helper = Helper(MnesisHistory("s", engine=engine))
        await helper.agent.run("ask pydantic")
        assert [
            str(part.content)  # type: ignore[union-attr]
            for message in helper.asked[0]
            for part in message.parts
        ] == ["native question", "native answer", "ask pydantic"]
        assert [message.role for message in await native.messages()] == ["user", "assistant"] * 2


async def test_two_objects_write_one_session_without_loss(make_history: MakeHistory) -> None:
    one, other = Helper(make_history()), Helper(make_history())
    runs = [each.agent.run(f"ask {n}", conversation_id="ada") for n in range(8) for each in (one, other)]
    await asyncio.gather(*runs)
    assert len(await make_history().all_messages("ada")) == 32


async def test_tool_definitions_count_as_what_models_are_sent(make_history: MakeHistory) -> None:
    requests: list[list[ModelMessage]] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        requests.append(messages)
        return ModelResponse(parts=[TextPart("answer")])

    agent = Agent(FunctionModel(answer), capabilities=[make_history(token_limit=250)])

    @agent.tool_plain
    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    @agent.tool_plain
    def spell(word: str) -> str:
        """Spell a word."""
        return word

    for number in range(4):
        await agent.run(f"question {number} " + "word " * 20, conversation_id="ada")
    assert f"question 3 {'word ' * 20}" in [p.content for p in requests[-1][-1].parts if isinstance(p, UserPromptPart)]


async def test_clear_and_purge(make_history: MakeHistory) -> None:
    history = make_history()
    await history.add("s", EVERY_PART)
    await history.clear("s")
    assert await history.messages("s") == []
    assert len(await history.all_messages("s")) == len(EVERY_PART)
    await history.purge("s")
    assert await history.all_messages("s") == []
    await history.add("s", EVERY_PART[:1])
    assert await history.all_messages("s") == plain(EVERY_PART[:1])
