from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_mnesis import MnesisChatMessageHistory, history_factory, mnesis_history
from mnesis import Engine, MnesisConfig, MnesisSession, ModelOverrides, concurrency
from mnesis.config import CompactionConfig
from mnesis.errors import ConfigurationError, InvalidMessageError, MnesisStoreError, StoreFullError
from mnesis.store.sqlite import SqliteStore
from tests.support.langchain_fakes import ReadLog, texts_of
from tests.support.warm_python import run_python

CALL = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}
SMALL = MnesisConfig(
    compaction=CompactionConfig(compaction_output_budget=1_000),
    model_overrides=ModelOverrides(context_limit=3_001, max_output_tokens=1),
)


def history(engine: Engine, session_id: str = "s", **options: Any) -> MnesisChatMessageHistory:
    return MnesisChatMessageHistory(session_id, engine=engine, **options)


def turn(number: int) -> list[BaseMessage]:
    return [HumanMessage(f"question {number} " + "word " * 40), AIMessage(f"answer {number} " + "word " * 60)]


def test_messages_come_back_equal_and_in_order(engine: Engine) -> None:
    messages = [
        HumanMessage("hi", mood="calm"),
        AIMessage("", tool_calls=[CALL], id="a1"),
        ToolMessage("found", tool_call_id="c1", artifact={"rows": (1, 2)}),
        AIMessage("there", usage_metadata={"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}),
    ]
    one = history(engine)
    one.add_messages(messages)
    assert one.messages == messages
    assert history(engine).messages == messages
    assert history(engine, view="full").messages == messages


def test_reading_a_missing_session_does_not_create_it(engine: Engine) -> None:
    one = history(engine)
    assert one.messages == []
    one.clear()
    one.purge()
    assert concurrency.run(engine.sessions()).sessions == ()


def test_every_way_of_adding_adds(engine: Engine, log: ReadLog) -> None:
    one = history(engine)
    one.add_user_message("a")
    one.add_ai_message("b")
    one.add_message(HumanMessage("c"))
    one.add_messages([])
    asyncio.run(one.aadd_messages([AIMessage("d")]))
    asyncio.run(one.aadd_message(HumanMessage("e")))
    one.add_messages(AIMessage(text) for text in "f")  # type: ignore[arg-type]  # read once, not lost
    assert [text for _, text in log("s")] == ["a", "b", "c", "d", "e", "f"]
    assert [role for role, _ in log("s")] == ["user", "assistant", "user", "assistant", "user", "assistant"]


def test_messages_are_a_snapshot_until_this_history_writes(engine: Engine) -> None:
    one, other = history(engine), history(engine)
    assert one.messages == []
    other.add_user_message("from elsewhere")
    assert one.messages == []
    one.refresh()
    assert texts_of(one.messages) == ["from elsewhere"]
    one.add_ai_message("seen")
    assert texts_of(one.messages) == ["from elsewhere", "seen"]


def test_the_list_is_the_callers_own(engine: Engine) -> None:
    one = history(engine)
    one.add_user_message("a")
    one.messages.append(HumanMessage("not stored"))
    assert texts_of(one.messages) == ["a"]


def test_clear_empties_the_view_and_keeps_the_log(engine: Engine) -> None:
    one = history(engine)
    one.add_messages(turn(1))
    one.clear()
    for view in ("window", "full"):
        assert history(engine, view=view).messages == []
    assert history(engine, view="log").messages == turn(1)
    one.add_user_message("anew")
    assert texts_of(one.messages) == texts_of(history(engine, view="full").messages) == ["anew"]


def test_purge_erases(engine: Engine) -> None:
    one, other = history(engine), history(engine)
    one.add_messages(turn(1))
    assert len(other.messages) == 2
    one.purge()
    assert history(engine, view="full").messages == []
    other.add_user_message("a session of the same name")
    assert texts_of(history(engine, view="full").messages) == ["a session of the same name"]


def test_setting_messages_replaces_the_view(engine: Engine) -> None:
    one = history(engine)
    one.add_messages([HumanMessage("a", id="1"), AIMessage("b", id="2"), HumanMessage("c", id="3")])
    kept = one.messages[1:]
    one.messages = kept
    assert one.messages == kept
    assert texts_of(history(engine, view="full").messages) == ["b", "c"]
    assert texts_of(history(engine, view="log").messages) == ["a", "b", "c", "b", "c"]


def test_a_message_with_a_known_id_is_stored_once(engine: Engine, log: ReadLog) -> None:
    one = history(engine)
    message = AIMessage("a", id="1")
    one.add_messages([message])
    one.add_messages([message, HumanMessage("b")])
    one.add_messages([AIMessage("a", id="1"), HumanMessage("b")])
    assert log("s") == [("assistant", "a"), ("user", "b"), ("user", "b")]


def test_other_content_under_a_known_id_replaces_it_in_the_view(engine: Engine) -> None:
    one = history(engine)
    for text in ("first", "second", "first", "third", "second"):
        one.add_messages([AIMessage(text, id="1")])
        assert one.messages == [AIMessage(text, id="1")]
    assert texts_of(history(engine, view="full").messages) == ["first", "second", "first", "third", "second"]


def test_one_batch_may_hold_a_message_twice(engine: Engine) -> None:
    one = history(engine)
    one.add_messages([AIMessage("a", id="1"), AIMessage("a", id="1"), AIMessage("b", id="1")])
    assert one.messages == [AIMessage("b", id="1")]
    one.add_messages([AIMessage("b", id="1")])
    assert texts_of(history(engine, view="full").messages) == ["a", "b"]


def test_a_folded_message_edited_and_edited_back_is_shown_unchanged(engine: Engine) -> None:
    one = history(engine, config=SMALL)
    first = HumanMessage("first edition", id="1")
    one.add_messages([first])
    for number in range(30):
        one.add_messages(turn(number))
    assert first not in one.messages
    one.add_messages([first])
    assert first not in one.messages
    edited = HumanMessage("second edition", id="1")
    one.add_messages([edited])
    assert one.messages[-1] == edited
    one.add_messages([first])
    assert one.messages[-1] == first
    assert edited not in one.messages


def test_ids_that_cannot_name_anything_come_back_as_they_were(engine: Engine) -> None:
    messages = [HumanMessage("a", id=""), HumanMessage("b", id="\ud800"), HumanMessage("c")]
    one = history(engine)
    one.add_messages(messages)
    assert one.messages == messages


def test_a_remove_message_takes_messages_out_of_the_view_alone(engine: Engine) -> None:
    one = history(engine)
    one.add_messages([HumanMessage("a", id="1"), AIMessage("b", id="2")])
    one.add_messages([RemoveMessage(id="1"), RemoveMessage(id="unknown"), HumanMessage("c")])
    assert texts_of(one.messages) == ["b", "c"]
    one.add_messages([RemoveMessage(id="__remove_all__"), HumanMessage("d")])
    assert texts_of(one.messages) == ["d"]
    assert texts_of(history(engine, view="full").messages) == ["d"]
    assert texts_of(history(engine, view="log").messages) == ["a", "b", "c", "d"]


def test_the_full_view_begins_after_the_newest_clearing_whoever_cleared(engine: Engine) -> None:
    one, full = history(engine, config=SMALL), history(engine, config=SMALL, view="full")
    for _ in range(2):
        for number in range(30):
            one.add_messages(turn(number))
        one.clear()
    other = [HumanMessage("edited", id="1"), HumanMessage("as it was", id="2")]
    one.add_messages([HumanMessage("first", id="1"), *other])
    assert full.messages == [HumanMessage("first", id="1"), *other]
    session = concurrency.run(MnesisSession.load("s", engine=engine))
    concurrency.run(session.clear_context())
    full.refresh()
    assert full.messages == []
    one.add_messages(turn(7))
    full.refresh()
    assert full.messages == turn(7)


def test_streamed_pieces_come_back_as_messages_unless_chunks_are_wanted(engine: Engine) -> None:
    chunk = AIMessageChunk("all of it", id="run-1", response_metadata={"model_name": "m"})
    history(engine).add_messages([chunk])
    assert history(engine).messages == [AIMessage("all of it", id="run-1", response_metadata={"model_name": "m"})]
    assert history(engine, keep_chunks=True).messages == [chunk]


def test_a_long_history_gives_a_window_that_fits_and_keeps_everything(engine: Engine) -> None:
    one = history(engine, config=SMALL)
    messages = [message for number in range(40) for message in turn(number)]
    for number in range(0, 80, 2):
        one.add_messages(messages[number : number + 2])
    window = one.messages
    assert len(window) < 40
    assert window[0].additional_kwargs == {"lc_source": "summarization"}
    assert window[-1] == messages[-1]
    assert history(engine, view="full").messages == messages


def test_a_system_message_is_never_folded_and_can_be_removed_all_the_same(engine: Engine) -> None:
    one = history(engine, config=SMALL)
    rules = SystemMessage("answer in rhymes", id="rules")
    one.add_message(rules)
    for number in range(40):
        one.add_messages(turn(number))
    assert one.messages[0] == rules
    assert len(one.messages) < 40
    one.add_messages([RemoveMessage(id="rules")])
    assert rules not in one.messages
    one.add_messages([SystemMessage("answer in prose"), SystemMessage("word " * 1_500)])
    one.clear()
    assert one.messages == []


def test_a_call_without_a_result_gets_one_that_is_not_stored(engine: Engine) -> None:
    one = history(engine)
    one.add_messages([HumanMessage("a"), AIMessage("", tool_calls=[CALL]), HumanMessage("never mind")])
    shown = one.messages
    assert isinstance(shown[2], ToolMessage)
    assert shown[2].tool_call_id == "c1"
    assert len(history(engine, view="full").messages) == 3


def test_an_orphaned_result_is_shown_as_text(engine: Engine) -> None:
    one = history(engine)
    one.add_messages([HumanMessage("a"), ToolMessage("42", tool_call_id="gone")])
    assert [type(message) for message in one.messages] == [HumanMessage, HumanMessage]
    assert "42" in texts_of(one.messages)[1]


def test_a_message_of_ten_megabytes_is_kept_whole_and_shown_in_part(engine: Engine) -> None:
    text = "All work and no play. " * 470_000
    recorded = MnesisConfig(compaction=CompactionConfig(auto=False))
    one = history(engine, config=recorded)
    one.add_messages([HumanMessage("a"), AIMessage(text), HumanMessage("b")])
    assert len(one.messages[1].content) < 2_000_000
    assert history(engine, view="full", config=recorded).messages[1].content == text


@pytest.mark.parametrize("session_id", ["", None, 7.5, b"s", ["s"]])
def test_a_session_id_is_a_non_empty_string(engine: Engine, session_id: Any) -> None:
    with pytest.raises(ConfigurationError):
        MnesisChatMessageHistory(session_id, engine=engine)
    with pytest.raises(ConfigurationError):
        mnesis_history(session_id)


def test_any_non_empty_string_is_a_session_id(engine: Engine) -> None:
    for name in ("żółć/🐘 '\";--", "a" * 5_000, " "):
        one = history(engine, name)
        one.add_user_message(name)
        assert texts_of(history(engine, name).messages) == [name]


def test_what_is_no_message_is_refused_before_anything_is_stored(engine: Engine) -> None:
    one = history(engine)
    with pytest.raises(InvalidMessageError):
        one.add_messages([HumanMessage("a"), "b"])  # type: ignore[list-item]  # what is tested
    assert one.messages == []


def test_bad_settings_are_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        history(engine, view="sideways")
    with pytest.raises(ConfigurationError):
        history(engine, db_path=tmp_path / "x.db")


def test_a_history_works_in_several_loops_and_threads(engine: Engine) -> None:
    one = history(engine)

    async def inside() -> None:
        one.add_user_message("sync inside a loop")
        await one.aadd_messages([AIMessage("async")])
        assert one.messages == await one.aget_messages()

    asyncio.run(inside())
    asyncio.run(inside())
    threads = [threading.Thread(target=history(engine).add_user_message, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(history(engine).messages) == 12


async def test_async_methods_never_use_the_executor(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core import chat_history

    async def refuse(*args: Any) -> None:
        raise AssertionError("run in an executor")

    monkeypatch.setattr(chat_history, "run_in_executor", refuse)
    one = history(engine)
    await one.aadd_messages(turn(1))
    assert len(await one.aget_messages()) == 2
    await one.aclear()
    await one.apurge()


async def test_concurrent_writers_lose_nothing_and_store_a_shared_message_once(engine: Engine) -> None:
    shared = HumanMessage("shared", id="same")
    await asyncio.gather(*(history(engine).aadd_messages([shared, AIMessage(str(n))]) for n in range(20)))
    assert sorted(texts_of(await history(engine, view="full").aget_messages())) == sorted(
        ["shared", *(str(n) for n in range(20))]
    )


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*args: Any, **kwargs: Any) -> None:
        raise StoreFullError("no space left", db_path="here")

    monkeypatch.setattr(SqliteStore, "append", full)


def test_a_store_failure_is_raised(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    one = history(engine)
    with monkeypatch.context() as patched:
        failing(patched)
        with pytest.raises(StoreFullError):
            one.add_user_message("lost, and the caller knows")
    assert one.messages == []


def test_what_a_callback_could_not_store_is_stored_before_the_next_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = history_factory(engine=engine)
    with monkeypatch.context() as patched:
        failing(patched)
        with pytest.raises(MnesisStoreError):
            factory("s").add_messages([HumanMessage("a"), AIMessage("b")])
        with pytest.raises(MnesisStoreError):
            _ = factory("s").messages
    factory("s").add_user_message("c")
    assert texts_of(factory("s").messages) == ["a", "b", "c"]


def test_the_environment_names_the_default_database_at_each_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one.db", "two.db"):
        monkeypatch.setenv("MNESIS_DB", str(tmp_path / name))
        one = mnesis_history("s")
        one.add_user_message(name)
        assert texts_of(mnesis_history("s").messages) == [name]
        assert mnesis_history("s").engine is one.engine
        concurrency.run(one.engine.close())
    assert {"one.db", "two.db"} <= {path.name for path in tmp_path.iterdir()}


def test_a_process_that_closes_nothing_exits_with_everything_stored(tmp_path: Path) -> None:
    code = "from langchain_mnesis import mnesis_history\nmnesis_history('s').add_user_message('kept')"
    environment = {"MNESIS_DB": str(tmp_path / "s.db"), "PYTHONPATH": "integrations", "HOME": str(tmp_path)}
    assert run_python(["-c", code], env=environment, has_mnesis=True).returncode == 0
    engine = Engine(tmp_path / "s.db")
    assert texts_of(history(engine).messages) == ["kept"]
    concurrency.run(engine.close())
