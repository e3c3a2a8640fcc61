"""The contract of a memory: drop-in for `ChatMemoryBuffer`, attached again from a pointer, robust against bad input."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.memory.mnesis import MnesisMemory

from mnesis import Engine, MnesisConfig, concurrency
from mnesis.errors import ConfigurationError, MnesisStoreError, SessionClosedError, SessionNotFoundError
from tests.support.llamaindex_fakes import MakeMemory, SummaryLLM, assistant, calls, result, turns, user
from tests.support.warm_python import run_python

METHODS = ("get", "get_all", "put", "put_messages", "set", "reset", "from_defaults", "class_name")
ASYNC_METHODS = ("aget", "aget_all", "aput", "aput_messages", "aset", "areset")


def test_every_method_of_the_contract_is_its_own() -> None:
    assert issubclass(MnesisMemory, BaseMemory)
    for name in (*METHODS, *ASYNC_METHODS, "to_dict", "from_dict", "to_string", "from_string"):
        assert name in vars(MnesisMemory), name


def test_a_memory_is_true_when_it_is_empty(memory: MnesisMemory) -> None:
    assert memory.get() == []
    assert bool(memory)
    assert not hasattr(memory, "__len__")


async def test_the_async_methods_do_the_same(memory: MnesisMemory) -> None:
    await memory.aput(user("a"))
    await memory.aput_messages([assistant("b"), user("c")])
    assert await memory.aget("input") == await memory.aget_all() == [user("a"), assistant("b"), user("c")]
    await memory.aset([user("a")])
    assert await memory.aget_all() == [user("a")]
    await memory.areset()
    assert await memory.aget_all() == []
    assert len(await memory.ahistory()) == 3


def test_sync_methods_work_inside_a_running_loop(memory: MnesisMemory) -> None:
    import asyncio

    async def notebook() -> list[ChatMessage]:
        memory.put(user("a"))
        await memory.aput(assistant("b"))
        return memory.get()

    assert asyncio.run(notebook()) == [user("a"), assistant("b")]
    assert asyncio.run(memory.aget()) == [user("a"), assistant("b")]


def test_messages_of_another_process_and_of_another_object_are_seen(db: Path, make_memory: MakeMemory) -> None:
    make_memory(session_id="s").put(user("a"))
    code = (
        "import sys; from llama_index.memory.mnesis import MnesisMemory; from llama_index.core.llms import ChatMessage;"
        "m = MnesisMemory.from_defaults(session_id='s', db_path=sys.argv[1]);"
        "assert [x.content for x in m.get()] == ['a']; m.put(ChatMessage(role='assistant', content='b'))"
    )
    # Nothing is closed there: the process must end by itself, with everything stored.
    run_python(["-c", code, str(db)], has_mnesis=True).check_returncode()
    assert make_memory(session_id="s").get() == [user("a"), assistant("b")]


def test_the_default_limit_follows_the_models_window(make_memory: MakeMemory) -> None:
    assert make_memory(llm=SummaryLLM(context_window=8_000)).token_limit == 6_000
    assert make_memory().token_limit == 30_000
    assert make_memory(llm=SummaryLLM(), token_limit=7).token_limit == 7


@pytest.mark.parametrize("limit", [0, -1, "many"])
def test_a_limit_that_cannot_be_is_refused_in_the_known_words(limit: Any, make_memory: MakeMemory) -> None:
    with pytest.raises(ValueError, match="Token limit must be set and greater than 0"):
        make_memory(token_limit=limit)


def test_unknown_keywords_are_refused_in_the_known_words(make_memory: MakeMemory) -> None:
    with pytest.raises(ValueError, match=r"Unexpected kwargs: colour"):
        make_memory(colour=1)
    with pytest.raises(ConfigurationError, match="engine="):
        MnesisMemory.from_defaults(engine=Engine(":memory:"), db_path="x.db")


def test_an_initial_count_over_the_limit_is_refused_in_the_known_words(make_memory: MakeMemory) -> None:
    ours = make_memory(token_limit=100)
    theirs = ChatMemoryBuffer.from_defaults(token_limit=100)
    for memory in (ours, theirs):
        with pytest.raises(ValueError, match=r"^Initial token count exceeds token limit$"):
            memory.get(initial_token_count=101)
        assert memory.get(initial_token_count=100) == []


def test_a_trimmed_view_starts_as_that_of_a_chat_memory_buffer(make_memory: MakeMemory) -> None:
    said = [*turns(3), user("u"), calls("1"), result("1"), assistant("a"), user("last")]
    for limit in range(40, 200, 10):
        ours = make_memory(chat_history=said, token_limit=limit)
        theirs = ChatMemoryBuffer.from_defaults(chat_history=said, token_limit=limit)
        spoken = [message for message in ours.get() if message.role.value != "system"]
        assert spoken[0].role == theirs.get()[0].role


def test_get_accepts_what_other_memories_are_asked(memory: MnesisMemory) -> None:
    memory.put(user("a"))
    assert memory.get(5) == memory.get(user("a"), colour=1) == memory.get_all(status=None) == [user("a")]
    memory.reset(status=None)


def test_a_key_is_a_session_name(make_memory: MakeMemory) -> None:
    memory = make_memory(chat_store_key="user1")
    assert (memory.session_id, memory.chat_store_key) == ("user1", "user1")


def test_a_simple_chat_store_is_copied_once(make_memory: MakeMemory) -> None:
    store = SimpleChatStore(store={"user1": turns(2)})
    memory = make_memory(chat_store=store, chat_store_key="user1")
    assert memory.get_all() == turns(2)
    memory.put(user("new"))
    assert make_memory(chat_store=store, chat_store_key="user1").get_all() == [*turns(2), user("new")]
    assert store.get_messages("user1") == turns(2)


def test_the_users_tokenizer_counts_in_put_and_never_in_get(make_memory: MakeMemory) -> None:
    counted: list[str] = []

    def by_letter(text: str) -> list[str]:
        counted.append(text)
        return list(text)

    memory = make_memory(tokenizer_fn=by_letter, token_limit=100)
    assert memory.tokenizer_fn("abc") == ["a", "b", "c"]
    memory.put_messages([user("x" * 60), assistant("y"), user("z" * 60)])
    counted.clear()
    assert memory.get()[-1] == user("z" * 60)
    assert user("x" * 60) not in memory.get()
    roomy = make_memory(tokenizer_fn=by_letter, token_limit=10_000)
    roomy.put_messages(turns(5))
    counted.clear()
    assert roomy.get() == turns(5)
    assert counted == []


def test_an_existing_native_session_keeps_its_model_and_prompt(engine: Engine, make_memory: MakeMemory) -> None:
    from mnesis import MnesisSession

    async def begun() -> None:
        await MnesisSession.create(model="openai/gpt-4o", system_prompt="Be kind.", session_id="n", engine=engine)

    concurrency.run(begun())
    memory = make_memory(session_id="n", engine=engine)
    memory.put(user("hi"))
    session = concurrency.run(memory.asession())
    assert (session.model, session.system_prompt) == ("openai/gpt-4o", "Be kind.")
    assert memory.get() == [user("hi")]
    assert concurrency.run(make_memory(session_id="new", engine=engine).asession()).system_prompt == ""


@pytest.mark.parametrize("limit", [1, 100, 333, 1_000, 100_000])
@pytest.mark.filterwarnings("error::mnesis.context.budget.SmallModelWarning")
def test_a_native_session_with_a_long_prompt_can_be_opened_with_any_limit(
    engine: Engine, make_memory: MakeMemory, limit: int
) -> None:
    from mnesis import MnesisSession

    prompt = "Be kind and thorough. " * 2_000
    concurrency.run(MnesisSession.create(model="openai/gpt-4o", system_prompt=prompt, session_id="n", engine=engine))
    memory = make_memory(session_id="n", engine=engine, token_limit=limit)
    memory.put_messages(turns(3))
    assert memory.get()[-1] == turns(3)[-1]
    memory.compact()
    assert memory.get_all() == turns(3)


def test_a_pointer_is_small_json_and_leads_to_the_same_object(memory: MnesisMemory, db: Path) -> None:
    memory.put_messages(turns(50))
    pointer = memory.to_dict()
    assert json.loads(json.dumps(pointer)) == pointer
    assert len(memory.to_string()) < 400
    assert MnesisMemory.from_dict(pointer) is memory
    assert MnesisMemory.from_string(memory.to_string()) is memory
    assert MnesisMemory.from_json(memory.to_json()) is memory
    assert pickle.loads(pickle.dumps(memory)) is memory
    assert copy.deepcopy(memory) is copy.copy(memory) is memory
    assert json.loads(json.dumps(memory.model_dump()))["session_id"] == "s"


def test_a_pointer_leads_back_after_the_object_is_gone(db: Path) -> None:
    memory = MnesisMemory.from_defaults(session_id="s", db_path=db, token_limit=900, summary_insert="user")
    memory.put_messages(turns(2))
    text, pickled = memory.to_string(), pickle.dumps(memory)
    memory.close()
    del memory
    for attach in (lambda: MnesisMemory.from_string(text), lambda: pickle.loads(pickled)):
        again = attach()
        assert (again.get_all(), again.token_limit, again.summary_insert) == (turns(2), 900, "user")
        again.put(user("more"))
        again.reset()
        again.set(turns(2))
        again.close()


def test_a_pointer_never_creates_a_database(tmp_path: Path) -> None:
    pointer = {"session_id": "s", "database": str(tmp_path / "other.db"), "token_limit": 10, "summary_insert": "system"}
    for begun in (True, False):
        with pytest.raises(ConfigurationError, match=r"other\.db' does not exist"):
            MnesisMemory.from_dict({**pointer, "begun": begun})
    with pytest.raises(ConfigurationError, match="memory of another process"):
        MnesisMemory.from_dict({**pointer, "database": ":memory:gone"})
    assert list(tmp_path.iterdir()) == []


def test_a_pointer_to_a_session_that_is_gone_is_an_error(memory: MnesisMemory, engine: Engine, db: Path) -> None:
    memory.put(user("a"))
    pointer = memory.to_dict()
    memory.close()
    concurrency.run(engine.purge("s"))
    again = MnesisMemory.from_dict(pointer, engine=engine)
    with pytest.raises(SessionNotFoundError, match="'s'"):
        again.get()
    again.close()


def test_loading_a_pointer_never_creates_a_database(memory: MnesisMemory, tmp_path: Path) -> None:
    memory.put(user("a"))
    elsewhere = tmp_path / "elsewhere.db"
    again = MnesisMemory.from_dict(memory.to_dict(), engine=Engine(elsewhere))
    with pytest.raises(SessionNotFoundError, match=r"elsewhere\.db"):
        again.get()
    assert not elsewhere.exists()


def test_a_memory_in_memory_is_found_again_in_its_process() -> None:
    engine = Engine(":memory:")
    memory = MnesisMemory.from_defaults(session_id="s", engine=engine)
    memory.put(user("a"))
    pointer = memory.to_dict()
    del memory
    again = MnesisMemory.from_dict(pointer)
    assert again.get() == [user("a")]
    concurrency.run(engine.close())


def test_a_memory_can_be_made_by_its_fields(db: Path) -> None:
    memory = MnesisMemory(session_id="f", database=str(db))
    memory.put(user("a"))
    assert memory.get() == [user("a")]
    memory.close()


def test_settings_of_a_config_are_kept(db: Path) -> None:
    config = MnesisConfig(store={"durability": "full"})  # type: ignore[arg-type]  # pydantic takes the dict
    memory = MnesisMemory.from_defaults(db_path=db, config=config)
    assert concurrency.run(memory.asession()).config.store.durability == "full"
    memory.close()


def test_a_closed_memory_says_so(memory: MnesisMemory) -> None:
    memory.put(user("a"))
    memory.close()
    memory.close()
    with pytest.raises(SessionClosedError):
        memory.get()


def test_nothing_is_put_by_an_empty_list(memory: MnesisMemory) -> None:
    memory.put_messages([])
    assert memory.history() == []


def test_ten_megabytes_are_stored_and_come_back(memory: MnesisMemory) -> None:
    large = user("0123456789abcdef " * 620_000)
    memory.put(large)
    assert memory.get_all() == [large]
    assert memory.get() == [large]


def test_an_orphaned_tool_result_is_shown_as_text(memory: MnesisMemory) -> None:
    memory.put_messages([user("a"), result("nobody", "forty-two"), assistant("b")])
    view = memory.get()
    assert [message.role.value for message in view] == ["user", "user", "assistant"]
    assert "forty-two" in str(view[1].content)
    assert memory.get_all()[1] == result("nobody", "forty-two")


def test_the_error_of_a_store_is_the_stores_own(make_memory: MakeMemory, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database " * 100)
    memory = make_memory(db_path=tmp_path / "text.db")
    with pytest.raises(MnesisStoreError, match=r"text\.db") as caught:
        memory.put(user("a"))
    assert "nested async" not in str(caught.value)
