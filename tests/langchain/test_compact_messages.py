from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder

from langchain_mnesis import compact_messages
from langchain_mnesis.messages.convert import to_record
from mnesis.errors import ConfigurationError, ContextIrreducibleError, InvalidMessageError
from mnesis.tokens import TokenEstimator, message_tokens
from tests.support.langchain_fakes import FakeModel, scripted_model, texts_of
from tests.support.samples import sampled


def conversation(turns: int, words: int = 40) -> list[BaseMessage]:
    return [
        message
        for number in range(turns)
        for message in (
            HumanMessage(f"question {number} " + "word " * words),
            AIMessage(f"answer {number} " + "other " * words),
        )
    ]


def tokens(messages: list[BaseMessage]) -> int:
    count = TokenEstimator().estimate
    return sum(message_tokens(to_record(message), count)[0] for message in messages)


def assert_pairs(messages: list[BaseMessage]) -> None:
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, ToolMessage):
            assert message.tool_call_id in waiting
            waiting.remove(message.tool_call_id)
            continue
        assert not waiting, "a call without its result"
        waiting = [call["id"] for call in message.tool_calls] if isinstance(message, AIMessage) else []
    assert not waiting


def test_a_list_that_fits_comes_back_as_it_is() -> None:
    messages = [SystemMessage("rules"), *conversation(3)]
    messages[2].additional_kwargs["raw"] = object()
    assert all(a is b for a, b in zip(compact_messages(messages, max_tokens=4_000), messages, strict=True))
    assert compact_messages([], max_tokens=400) == []


def test_a_list_that_does_not_fit_is_summarised_and_its_end_stays() -> None:
    messages = [SystemMessage("rules"), *conversation(60)]
    shown = compact_messages(messages, max_tokens=2_000)
    assert shown[0] is messages[0]
    assert shown[-1] is messages[-1]
    assert shown[1].additional_kwargs == {"lc_source": "summarization"}
    assert tokens(shown) <= 2_000


def test_more_is_kept_where_more_is_asked_for() -> None:
    messages = conversation(60)
    little = compact_messages(messages, max_tokens=3_000, keep_tokens=300)
    much = compact_messages(messages, max_tokens=3_000, keep_tokens=2_000)
    assert len(little) < len(much) < len(messages)


def test_the_users_own_model_writes_the_summary() -> None:
    model = scripted_model("they spoke of words, of q0, q1, q2, q30, a0, a1, a2, a30, q20, a20, and of nothing besides")
    shown = compact_messages(conversation(60, 20), max_tokens=3_000, llm=model)
    assert "nothing besides" in texts_of(shown)[0]
    assert model.asked


async def test_it_stands_in_a_chain() -> None:
    model = FakeModel()
    prompt = ChatPromptTemplate.from_messages([("system", "rules"), MessagesPlaceholder("past"), ("human", "{q}")])
    chain = prompt | compact_messages(max_tokens=1_500) | model
    assert (await chain.ainvoke({"past": conversation(40), "q": "and now?"})).content == "answer 1"
    assert (await chain.abatch([{"past": [], "q": "hi"}]))[0].content == "answer 2"
    assert texts_of(model.asked[0])[0] == "rules"
    assert texts_of(model.asked[0])[-1] == "and now?"
    assert tokens(model.asked[0]) <= 1_500


def test_it_stands_in_a_sync_chain() -> None:
    assert len((compact_messages(max_tokens=1_500)).invoke(conversation(40))) < 80


@pytest.mark.parametrize("max_tokens", [0, -1, 399, 1.5, True, "1000"])
def test_too_little_room_is_refused(max_tokens: Any) -> None:
    with pytest.raises(ConfigurationError):
        compact_messages(max_tokens=max_tokens)


def test_system_messages_that_leave_no_room_are_refused() -> None:
    with pytest.raises((ContextIrreducibleError, ConfigurationError)):
        compact_messages([SystemMessage("word " * 5_000), HumanMessage("hi")], max_tokens=1_000)


@st.composite
def tool_conversations(draw: st.DrawFn) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    for number in range(draw(st.integers(1, 12))):
        messages.append(HumanMessage(f"q{number} " + "word " * draw(st.integers(0, 60))))
        for step in range(draw(st.integers(0, 4))):
            ids = [f"c{number}_{step}_{n}" for n in range(draw(st.integers(1, 3)))]
            calls = [{"name": "f", "args": {"n": 1}, "id": name, "type": "tool_call"} for name in ids]
            messages.append(AIMessage("", tool_calls=calls))
            answered = draw(st.permutations(ids))[: draw(st.integers(0, len(ids)))]
            messages += [ToolMessage("out " * draw(st.integers(0, 200)), tool_call_id=name) for name in answered]
        messages.append(AIMessage(f"a{number}"))
    return messages


@given(tool_conversations(), st.integers(400, 3_000))
@settings(max_examples=sampled(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_tool_calls_pairs_stay_whole_and_the_list_fits(
    messages: list[BaseMessage], max_tokens: int
) -> None:
    shown = compact_messages(messages, max_tokens=max_tokens)
    assert_pairs(shown)
    assert tokens(shown) <= max_tokens


@pytest.mark.parametrize(
    "form", ["hello", HumanMessage("hello"), {"messages": ["hello"]}, iter([HumanMessage("hello")]), ("hello",)]
)
def test_every_form_of_messages_is_understood(form: Any) -> None:
    assert texts_of(compact_messages(form, max_tokens=500)) == ["hello"]


def test_what_is_no_list_of_messages_is_refused() -> None:
    with pytest.raises(InvalidMessageError):
        compact_messages(5, max_tokens=500)  # type: ignore[call-overload]  # refused
