from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda

from langchain_mnesis import ChatModelClient, MnesisChatMessageHistory, MnesisMemory
from langchain_mnesis.chat_model import client_for
from mnesis import Engine, MnesisConfig, ModelOverrides, sync
from mnesis.config import CompactionConfig
from mnesis.errors import ContextOverflowError, LLMError, LLMTimeoutError
from mnesis.llm.base import LLM, Delta, LLMReply, LLMRequest
from mnesis.models.usage import TokenUsage
from tests.support.langchain_fakes import FakeModel, scripted_model, session_config, texts_of

SMALL = MnesisConfig(
    compaction=CompactionConfig(compaction_output_budget=1_000),
    model_overrides=ModelOverrides(context_limit=3_001, max_output_tokens=1),
)
SUMMARY = "They talked about words from q0 to q24 and from a0 to a24: q1, a1, q2, a2, q10, a10, q20, a20."


class Recorder(BaseCallbackHandler):
    """Keeps every run of a chat model it is told of."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.runs.append(kwargs)


def request(**fields: Any) -> LLMRequest:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    return LLMRequest(model="m", messages=messages, **fields)


async def test_it_asks_the_model_and_gives_its_answer() -> None:
    usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    model = scripted_model(AIMessage([{"type": "text", "text": "hello"}], usage_metadata=usage))
    reply = await ChatModelClient(model).complete(request())
    assert isinstance(ChatModelClient(model), LLM)
    assert (reply.text, reply.usage) == ("hello", TokenUsage(input=5, output=2, total=7))
    assert [m.type for m in model.asked[0]] == ["system", "human"]


async def test_any_runnable_from_messages_to_text_will_do() -> None:
    client = ChatModelClient(RunnableLambda(lambda messages: f"{len(messages)} messages"))
    assert (await client.complete(request())).text == "2 messages"


async def test_a_stream_is_one_piece_and_the_reply() -> None:
    pieces = [piece async for piece in ChatModelClient(scripted_model("hello")).stream(request())]
    assert pieces[0] == Delta(text="hello")
    assert isinstance(pieces[1], LLMReply)


async def test_what_the_model_raises_is_a_failed_call() -> None:
    class OwnOverflow(Exception):
        pass

    OwnOverflow.__name__ = "ContextOverflowError"
    with pytest.raises(LLMError, match="boom") as caught:
        await ChatModelClient(scripted_model(ValueError("boom"))).complete(request())
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(ContextOverflowError):
        await ChatModelClient(scripted_model(OwnOverflow("long"))).complete(request())


async def test_a_model_that_does_not_answer_in_time_is_given_up() -> None:
    async def hang(messages: Any) -> str:
        await asyncio.Event().wait()
        return ""

    with pytest.raises(LLMTimeoutError):
        await ChatModelClient(RunnableLambda(lambda m: "", afunc=hang)).complete(request(timeout_seconds=0.05))


def filled(engine: Engine, **options: Any) -> list[BaseMessage]:
    history = MnesisChatMessageHistory("s", engine=engine, config=SMALL, **options)
    for number in range(25):
        history.add_messages([HumanMessage(f"q{number} " + "word " * 60), AIMessage(f"a{number} " + "word " * 60)])
    return history.messages


def test_a_history_is_summarised_by_the_chat_model_it_is_given(engine: Engine) -> None:
    model = scripted_model(*[SUMMARY] * 50)
    assert SUMMARY in texts_of(filled(engine, llm=model))[0]
    assert model.asked


def test_without_a_model_summaries_are_extracts_and_no_model_is_called(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = sync.SyncSession.create(model="openai/gpt-4o", session_id="s", engine=engine, config=SMALL)

    called: list[Any] = []

    async def refuse(*args: Any, **kwargs: Any) -> None:
        called.append(args)
        raise LLMError("a model was called")

    monkeypatch.setattr("mnesis.llm.litellm.LiteLLM.complete", refuse)
    assert "without a model" in texts_of(filled(engine))[0]
    assert {summary.level for summary in session.summaries()} == {3}
    assert called == []


def test_a_model_that_fails_leaves_nothing_lost(engine: Engine) -> None:
    window = filled(engine, llm=scripted_model(*[ValueError("boom")] * 50))
    assert window[0].additional_kwargs == {"lc_source": "summarization"}
    assert len(MnesisChatMessageHistory("s", engine=engine, view="full").messages) == 50


def test_summaries_are_tagged_runs_that_callbacks_see(engine: Engine) -> None:
    mine, outer = Recorder(), Recorder()
    writer = scripted_model(*[SUMMARY] * 50).model_copy(update={"callbacks": [mine]})
    memory = MnesisMemory(
        FakeModel(messages=(AIMessage("word " * 90) for _ in range(99))), engine=engine, llm=writer, config=SMALL
    )
    for number in range(25):
        memory.invoke(f"q{number} " + "word " * 90, {**session_config("s"), "callbacks": [outer]})
    assert mine.runs
    assert all(run["parent_run_id"] is None and {"mnesis:summary", "nostream"} <= set(run["tags"]) for run in mine.runs)
    assert len(outer.runs) == 25
    assert all(run["parent_run_id"] is not None for run in outer.runs)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("openai:gpt-4o", "openai/gpt-4o"),
        ("google_genai:gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("bedrock_converse:anthropic.claude-v2:1", "bedrock/anthropic.claude-v2:1"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("ollama/llama3:8b", "ollama/llama3:8b"),
        ("ft:gpt-4o:mine", "ft:gpt-4o:mine"),
        ("openai:", "openai:"),
    ],
)
def test_a_model_string_of_langchain_is_understood(given: str, wanted: str) -> None:
    assert client_for(given) == wanted
