"""What programs written for LlamaIndex's other memories do with `MnesisMemory` after the constructor changed."""

from __future__ import annotations

import json
import warnings

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.memory.mnesis import MnesisMemory

from mnesis.errors import InvalidMessageError
from tests.support.llamaindex_fakes import MakeMemory, user

# What ChatMemoryBuffer.to_string() writes (llama-index-core 0.13 and 0.14). Its own writer fails with pydantic 2.14.
DUMP = {
    "chat_store": {
        "store": {
            "chat_history": [
                {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": "hi"}]},
                {
                    "role": "assistant",
                    "additional_kwargs": {"k": 1},
                    "blocks": [{"block_type": "text", "text": "hello"}],
                },
            ]
        },
        "class_name": "SimpleChatStore",
    },
    "chat_store_key": "chat_history",
    "token_limit": 500,
    "class_name": "ChatMemoryBuffer",
}


@pytest.mark.parametrize(
    "read", [MnesisMemory.from_dict, lambda data, **more: MnesisMemory.from_string(json.dumps(data), **more)]
)
def test_a_dump_of_a_chat_memory_buffer_is_imported(read, make_memory: MakeMemory, db) -> None:  # type: ignore[no-untyped-def]
    memory = read(DUMP, session_id="old", db_path=db)
    assert [message.content for message in memory.get_all()] == ["hi", "hello"]
    assert memory.get_all()[1].additional_kwargs == {"k": 1}
    assert memory.token_limit == 500
    memory.close()
    again = read(DUMP, session_id="old", db_path=db)
    assert len(again.get_all()) == 2
    again.close()


def test_a_dump_without_messages_is_refused(db) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidMessageError, match="no readable chat_store"):
        MnesisMemory.from_dict({"chat_store": {"other": 1}, "class_name": "VectorMemory"}, db_path=db)


@pytest.mark.parametrize(
    ("keyword", "replacement"),
    [("memory_blocks", "recall_tools"), ("async_database_uri", "db_path="), ("insert_method", "summary_insert=")],
)
def test_keywords_of_other_memories_are_refused_with_the_replacement(
    keyword: str, replacement: str, make_memory: MakeMemory
) -> None:
    with pytest.raises(ValueError, match=replacement):
        make_memory(**{keyword: "x"})


def test_a_chat_store_without_a_key_warns_that_the_session_is_new(make_memory: MakeMemory) -> None:
    store = SimpleChatStore()
    store.add_message("chat_history", user("hi"))
    with pytest.warns(UserWarning, match="session_id="):
        memory = make_memory(chat_store=store)
    assert [message.content for message in memory.get_all()] == ["hi"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_memory(chat_store=store, chat_store_key="chat_history")
