"""Programs written like public tutorials: they work after their constructor was changed, or the error names what to use.

The idioms are those of the pages on `ChatMemoryBuffer` and `Memory`
(https://docs.llamaindex.ai/en/stable/module_guides/deploying/agents/memory/), on message histories
(https://python.langchain.com/docs/how_to/message_history/) and on migrating from `ConversationBufferMemory`
(https://python.langchain.com/docs/versions/migrating_memory/).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, trim_messages
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.history import RunnableWithMessageHistory
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.memory.mnesis import MnesisMemory as LlamaIndexMemory

from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory
from mnesis.errors import ConfigurationError

PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Be brief."), MessagesPlaceholder("history"), ("human", "{input}")]
)
ADA: RunnableConfig = {"configurable": {"session_id": "ada"}}


def chat_model(*answers: str) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "chat.db")


def test_a_chat_engine_with_a_chat_memory_buffer(db: str) -> None:
    # memory = ChatMemoryBuffer.from_defaults(token_limit=1500)
    memory = LlamaIndexMemory.from_defaults(session_id="ada", db_path=db, token_limit=1500)
    engine = SimpleChatEngine.from_defaults(llm=MockLLM(), memory=memory, system_prompt="Be brief.")
    engine.chat("Hello, I am Ada.")
    for _ in engine.stream_chat("Who am I?").response_gen:
        pass
    assert [message.role.value for message in engine.chat_history] == ["user", "assistant"] * 2
    engine.reset()
    assert engine.chat_history == []
    memory.close()


def test_a_chat_store_with_a_key(db: str) -> None:
    store = SimpleChatStore()
    store.add_message("user1", ChatMessage(role="user", content="earlier"))
    # memory = ChatMemoryBuffer.from_defaults(token_limit=3000, chat_store=chat_store, chat_store_key="user1")
    memory = LlamaIndexMemory.from_defaults(token_limit=3000, chat_store=store, chat_store_key="user1", db_path=db)
    memory.put(ChatMessage(role="assistant", content="noted"))
    memory.close()
    # The next process rebuilds the store from its file, where the new message is not.
    memory = LlamaIndexMemory.from_defaults(token_limit=3000, chat_store=store, chat_store_key="user1", db_path=db)
    assert [message.content for message in memory.get()] == ["earlier", "noted"]
    memory.close()


def test_a_chat_store_without_a_key_is_warned_about(db: str) -> None:
    with pytest.warns(UserWarning, match="pass session_id="):
        LlamaIndexMemory.from_defaults(token_limit=3000, chat_store=SimpleChatStore(), db_path=db).close()


def test_a_dump_of_a_chat_memory_buffer(db: str) -> None:
    # As `ChatMemoryBuffer.to_string()` writes it, which fails with newer versions of pydantic.
    said = {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": "earlier"}]}
    store = {"store": {"chat_history": [said]}, "class_name": "SimpleChatStore"}
    text = json.dumps(
        {"chat_store": store, "chat_store_key": "chat_history", "token_limit": 1500, "class_name": "ChatMemoryBuffer"}
    )
    # memory = ChatMemoryBuffer.from_string(text)
    memory = LlamaIndexMemory.from_string(text, session_id="ada", db_path=db)
    assert [message.content for message in memory.get_all()] == ["earlier"]
    again = LlamaIndexMemory.from_dict(json.loads(memory.to_string()))
    assert again.get_all() == memory.get_all()
    memory.close()


async def test_the_memory_of_agents(db: str) -> None:
    # memory = Memory.from_defaults(session_id="my_session", token_limit=40000)
    memory = LlamaIndexMemory.from_defaults(session_id="my_session", token_limit=40000, db_path=db)
    memory.put_messages([ChatMessage(role="user", content="Hello"), ChatMessage(role="assistant", content="Hi")])
    await memory.aput(ChatMessage(role="user", content="How are you?"))
    assert [message.content for message in await memory.aget()] == ["Hello", "Hi", "How are you?"]
    assert len(memory.get_all()) == 3
    await memory.areset()
    assert memory.get() == []
    await memory.aclose()


@pytest.mark.parametrize(
    ("keywords", "replacement"),
    [
        ({"memory_blocks": [], "token_flush_size": 3000}, "recall_tools"),
        ({"async_database_uri": "sqlite+aiosqlite:///x.db", "table_name": "t"}, "db_path="),
        ({"insert_method": "user"}, "summary_insert="),
    ],
)
def test_what_the_memory_of_llamaindex_has_besides_is_explained(
    keywords: dict[str, Any], replacement: str, db: str
) -> None:
    with pytest.raises(ValueError, match=replacement):
        LlamaIndexMemory.from_defaults(session_id="s", token_limit=40000, db_path=db, **keywords)


def test_a_history_in_memory_per_session(db: str) -> None:
    store: dict[str, BaseChatMessageHistory] = {}

    def get_session_history(session_id: str) -> BaseChatMessageHistory:
        if session_id not in store:
            store[session_id] = MnesisChatMessageHistory(session_id, db_path=db)  # was InMemoryChatMessageHistory()
        return store[session_id]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases of langchain-core recommend agents
        chain = RunnableWithMessageHistory(
            PROMPT | chat_model("Hello Ada.", "Ada."),
            get_session_history,
            input_messages_key="input",
            history_messages_key="history",
        )
    assert chain.invoke({"input": "I am Ada."}, ADA).content == "Hello Ada."
    assert chain.invoke({"input": "Who am I?"}, ADA).content == "Ada."
    history = store["ada"]
    assert [message.type for message in history.messages] == ["human", "ai"] * 2
    kept = trim_messages(history.messages, max_tokens=2, token_counter=len, start_on="human")
    history.clear()
    history.add_messages(kept)
    assert history.messages == kept


def test_a_history_in_sql(db: str) -> None:
    for keywords in (
        {"connection": "sqlite:///chat.db"},
        {"connection_string": "sqlite:///chat.db", "table_name": "t"},
    ):
        with pytest.raises(ConfigurationError, match=r"db_path=.*import_sql_history"):
            MnesisChatMessageHistory(session_id="ada", **keywords)  # type: ignore[arg-type]  # of SQLChatMessageHistory
    # history = SQLChatMessageHistory(session_id="ada", connection="sqlite:///chat.db")
    history = MnesisChatMessageHistory(session_id="ada", db_path=db)
    history.add_user_message("Hello")
    history.add_ai_message("Hi")
    assert history.messages == [HumanMessage("Hello"), AIMessage("Hi")]
    assert str(history) == "Human: Hello\nAI: Hi"


def test_a_conversation_chain_with_a_buffer(db: str) -> None:
    # ConversationChain(llm=model, memory=ConversationBufferMemory(memory_key="history", return_messages=True))
    with pytest.raises(ConfigurationError, match=r"memory_key= use history_messages_key="):
        MnesisMemory(memory_key="history", return_messages=True)  # type: ignore[arg-type]  # of the old class
    chain = MnesisMemory(
        PROMPT | chat_model("Hello Ada.", "Ada.") | StrOutputParser(),
        db_path=db,
        input_messages_key="input",
        history_messages_key="history",
    )
    assert chain.invoke({"input": "I am Ada."}, ADA) == "Hello Ada."
    assert chain.invoke({"input": "Who am I?"}, ADA) == "Ada."


def test_a_conversation_chain_with_a_summary_buffer(db: str) -> None:
    # ConversationSummaryBufferMemory(llm=model, max_token_limit=100)
    model = chat_model("Hello Ada.")
    with pytest.raises(ConfigurationError, match=r"max_token_limit= use config=MnesisConfig\(model_overrides="):
        MnesisMemory(model, llm=model, max_token_limit=100)  # type: ignore[arg-type]  # of the old class
    chain = MnesisMemory(model, llm=model, db_path=db, session_id="ada")
    assert chain.invoke("I am Ada.").content == "Hello Ada."


def test_keywords_that_no_class_has_are_refused_as_usual() -> None:
    with pytest.raises(TypeError, match="colour"):
        MnesisChatMessageHistory("s", colour="red")  # type: ignore[arg-type]  # the purpose
    with pytest.raises(TypeError, match="colour"):
        MnesisMemory(StrOutputParser(), colour="red")  # type: ignore[arg-type]  # the purpose
    with pytest.raises(TypeError, match="runnable"):
        MnesisMemory()
