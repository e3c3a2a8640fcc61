"""Chat engines of LlamaIndex with a MnesisMemory."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.llms import MockLLM
from llama_index.memory.mnesis import MnesisMemory

from tests.support.llamaindex_fakes import MakeMemory, SummaryLLM, turns, user

VERSION = tuple(map(int, version("llama-index-core").split(".")[:3]))
MakeEngine = Callable[[MnesisMemory], Any]


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    documents = [Document(text="Trains run on rails."), Document(text="Ships sail on water.")]
    return VectorStoreIndex.from_documents(documents, embed_model=MockEmbedding(embed_dim=4))


@pytest.fixture(params=["simple", "context", "condense_plus_context", "condense_question", "as_chat_engine"])
def make_engine(request: pytest.FixtureRequest, index: VectorStoreIndex) -> MakeEngine:
    llm = MockLLM(max_tokens=8)
    made: dict[str, MakeEngine] = {
        "simple": lambda memory: SimpleChatEngine.from_defaults(llm=llm, memory=memory),
        "context": lambda memory: ContextChatEngine.from_defaults(index.as_retriever(), llm=llm, memory=memory),
        "condense_plus_context": lambda memory: CondensePlusContextChatEngine.from_defaults(
            index.as_retriever(), llm=llm, memory=memory
        ),
        "condense_question": lambda memory: CondenseQuestionChatEngine.from_defaults(
            index.as_query_engine(llm=llm), llm=llm, memory=memory
        ),
        "as_chat_engine": lambda memory: index.as_chat_engine(llm=llm, memory=memory),
    }
    return made[str(request.param)]


def roles(memory: MnesisMemory) -> list[str]:
    return [message.role.value for message in memory.get_all()]


def asked(memory: MnesisMemory) -> list[str]:
    return [str(message.content) for message in memory.get_all() if message.role.value == "user"]


def test_a_chat_is_stored_turn_by_turn(make_engine: MakeEngine, memory: MnesisMemory) -> None:
    chat = make_engine(memory)
    assert str(chat.chat("one").response)
    chat.chat("two")
    assert roles(memory) == ["user", "assistant"] * 2
    assert asked(memory) == ["one", "two"]
    assert chat.chat_history == memory.get_all()
    chat.reset()
    assert chat.chat_history == []
    assert len(memory.history()) == 4


def test_a_streamed_chat_is_stored_when_it_was_read(make_engine: MakeEngine, memory: MnesisMemory) -> None:
    chat = make_engine(memory)
    for number in range(3):
        stream = chat.stream_chat(f"question {number}")
        assert "".join(stream.response_gen)
    assert roles(memory) == ["user", "assistant"] * 3


@pytest.mark.skipif(VERSION < (0, 14, 25), reason="older versions end the turn with the stream")
def test_a_stream_that_is_abandoned_still_stores_the_answer(make_engine: MakeEngine, memory: MnesisMemory) -> None:
    stream = make_engine(memory).stream_chat("question")
    pieces = stream.response_gen
    next(pieces)
    pieces.close()
    assert roles(memory) == ["user", "assistant"]


async def test_an_async_chat_is_stored(make_engine: MakeEngine, memory: MnesisMemory) -> None:
    chat = make_engine(memory)
    await chat.achat("one")
    stream = await chat.astream_chat("two")
    async for _ in stream.async_response_gen():
        pass
    await chat.achat("three")
    assert [m.role.value for m in await memory.aget_all()] == ["user", "assistant"] * 3


def test_a_history_given_with_a_call_becomes_the_history(make_engine: MakeEngine, memory: MnesisMemory) -> None:
    chat = make_engine(memory)
    memory.put_messages(turns(1))
    chat.chat("next", chat_history=turns(2))
    expected = [*turns(1), user("next")] if isinstance(chat, CondenseQuestionChatEngine) else [*turns(2), user("next")]
    assert memory.get_all()[:-1] == expected


def test_the_memory_class_is_enough(monkeypatch: pytest.MonkeyPatch, db: Any) -> None:
    made = MnesisMemory.from_defaults
    monkeypatch.setattr(MnesisMemory, "from_defaults", lambda **fields: made(db_path=db, **fields))
    chat = SimpleChatEngine.from_defaults(llm=MockLLM(max_tokens=4), memory_cls=MnesisMemory)
    chat.chat("hello")
    memory: Any = chat._memory
    assert isinstance(memory, MnesisMemory)
    assert roles(memory) == ["user", "assistant"]
    memory.close()


def test_a_long_chat_stays_within_the_limit_and_keeps_every_message(make_memory: MakeMemory) -> None:
    llm = SummaryLLM(answer="a short answer about alpha")
    memory = make_memory(token_limit=1_000, llm=llm)
    chat = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="You know trains.")
    for number in range(40):
        chat.chat(f"question {number} " + "alpha " * 30)
    assert asked(memory) == [f"question {number} " + "alpha " * 30 for number in range(40)]
    requests = [request for request in llm.asked if request[0].content == "You know trains."]
    assert len(requests) == 40
    assert max(sum(len(str(m.content).split()) for m in request) for request in requests) < 1_000
    assert any("[Summary" in str(m.content) for m in requests[-1])
