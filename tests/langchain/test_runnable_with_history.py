from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_mnesis import config_specs, history_factory, mnesis_history
from mnesis import Engine, concurrency
from mnesis.errors import ConfigurationError
from tests.support.langchain_fakes import RUNNABLE_CALLS, FakeModel, scripted_model, session_config, texts_of

pytestmark = pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
PROMPT = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])


def with_dicts(model: FakeModel, factory: Any, **options: Any) -> Runnable[Any, Any]:
    return RunnableWithMessageHistory(
        PROMPT | model, factory, input_messages_key="question", history_messages_key="history", **options
    )


def with_messages(model: FakeModel, factory: Any, **options: Any) -> Runnable[Any, Any]:
    return RunnableWithMessageHistory(model, factory, **options)


FORMS = {
    "dicts": (with_dicts, lambda text: {"question": text}),
    "messages": (with_messages, lambda text: [HumanMessage(text)]),
}


@pytest.fixture(params=["factory", "mnesis_history"])
def factory(request: pytest.FixtureRequest, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "factory":
        yield history_factory(engine=engine)
        return
    monkeypatch.setenv("MNESIS_DB", engine.path)
    yield mnesis_history
    concurrency.run(mnesis_history("s").engine.close())


@pytest.mark.parametrize("call", RUNNABLE_CALLS)
@pytest.mark.parametrize("form", FORMS)
def test_every_way_of_calling_keeps_both_sides_and_shows_what_came_before(form: str, call: str, factory: Any) -> None:
    make, value = FORMS[form]
    model = FakeModel()
    chain = make(model, factory)
    for number in (1, 2, 3):
        RUNNABLE_CALLS[call](chain, value(f"question {number}"))
    expected = [text for number in (1, 2, 3) for text in (f"question {number}", f"answer {number}")]
    assert texts_of(model.asked[-1]) == expected[:-1]
    assert texts_of(factory("s").messages) == expected
    assert all(type(message) in (HumanMessage, AIMessage) for message in factory("s").messages)


def test_all_ways_of_calling_may_be_mixed(engine: Engine) -> None:
    factory = history_factory(engine=engine)
    for make, value in FORMS.values():
        chain = make(FakeModel(), factory)
        for name, call in RUNNABLE_CALLS.items():
            call(chain, value(name))
    assert len(factory("s").messages) == 2 * len(FORMS) * len(RUNNABLE_CALLS)


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_on_one_session_loses_nothing(form: str, engine: Engine) -> None:
    make, value = FORMS[form]
    factory = history_factory(engine=engine)
    make(FakeModel(), factory).batch([value(f"q{number}") for number in range(6)], session_config("s"))
    texts = texts_of(factory("s").messages)
    assert sorted(texts) == sorted([f"q{n}" for n in range(6)] + [f"answer {n}" for n in range(1, 7)])


def test_a_window_that_changes_while_the_model_runs_loses_nothing(engine: Engine) -> None:
    factory = history_factory(engine=engine)
    factory("s").add_messages([HumanMessage("a"), AIMessage("b")])

    def meanwhile(messages: list[BaseMessage]) -> AIMessage:
        factory("s").clear()
        factory("s").add_messages([HumanMessage("from elsewhere")])
        return AIMessage("answer")

    RunnableWithMessageHistory(RunnableLambda(meanwhile), factory).invoke(
        [HumanMessage("question")], session_config("s")
    )
    assert texts_of(factory("s").messages) == ["from elsewhere", "question", "answer"]


def test_one_key_of_any_name(engine: Engine) -> None:
    factory = history_factory(engine=engine, keys=("thread_id",))
    chain = with_dicts(FakeModel(), factory, history_factory_config=factory.config_specs)
    chain.invoke({"question": "a"}, {"configurable": {"thread_id": "t"}})
    assert texts_of(factory("t").messages) == ["a", "answer 1"]
    assert [spec.id for spec in config_specs("thread_id")] == ["thread_id"]


def test_several_keys_name_a_session_together(engine: Engine) -> None:
    factory = history_factory(engine=engine, keys=("user_id", "conversation_id"))
    chain = with_dicts(FakeModel(), factory, history_factory_config=factory.config_specs)
    chain.invoke({"question": "a"}, {"configurable": {"user_id": "u", "conversation_id": "c"}})
    chain.invoke({"question": "b"}, {"configurable": {"user_id": "u/c", "conversation_id": "c"}})
    assert texts_of(factory("u", "c").messages) == ["a", "answer 1"]
    assert texts_of(factory(conversation_id="c", user_id="u/c").messages) == ["b", "answer 2"]
    names = {factory("a/b", "c").session_id, factory("a", "b/c").session_id, factory("a%2Fb", "c").session_id}
    assert len(names) == 3


def test_a_factory_does_no_io(tmp_path: Any) -> None:
    factory = history_factory(db_path=tmp_path / "not" / "yet" / "there.db")
    factory("s")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keys", [(), ("a", "a"), ("not a name",), (7,)])
def test_keys_are_distinct_names(keys: Any) -> None:
    with pytest.raises(ConfigurationError):
        history_factory(keys=keys)


@pytest.mark.parametrize("session_id", ["", 7.5])
def test_a_bad_session_id_reaches_the_caller(session_id: Any, engine: Engine) -> None:
    chain = with_dicts(FakeModel(), history_factory(engine=engine))
    with pytest.raises(ConfigurationError):
        chain.invoke({"question": "a"}, session_config(session_id))


def test_what_cannot_be_serialised_raises_nothing_inside_the_callback(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    factory = history_factory(engine=engine)
    answer = AIMessage("answer", additional_kwargs={"raw": object()})
    chain = with_dicts(scripted_model(answer), factory)
    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match=r"builtins\.object"):
        chain.invoke({"question": "a"}, session_config("s"))
    assert "Error in" not in caplog.text
    assert texts_of(factory("s").messages) == ["a", "answer"]
