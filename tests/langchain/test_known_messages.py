"""A model call computes what is new in the state. A message that was changed in place is new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("langchain.agents")

from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_mnesis import MnesisMiddleware
from langchain_mnesis.known_messages import KnownMessages
from langchain_mnesis.state_view import canonical_json, fingerprint
from mnesis import Engine
from tests.support.langchain_agents import agent, ask, call, search
from tests.support.langchain_fakes import FakeModel

PLAIN = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 0.0, -0.0, "", "a", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


def steps() -> Iterator[AIMessage]:
    for number in range(10**6):
        yield call("search", f"c{number}", q="x")
        yield AIMessage(f"answer {number}")


def test_a_turn_computes_fingerprints_of_its_own_messages_only(engine: Engine) -> None:
    middleware = MnesisMiddleware(engine=engine)
    asked = create_agent(FakeModel(messages=steps()), [search], middleware=[middleware], checkpointer=InMemorySaver())
    counts = []
    for number in range(6):
        ask(asked, f"question {number}")
        (thread,) = middleware._threads.values()
        counts.append((thread.known.fingerprints, thread.known.comparisons))
    added = [(later[0] - earlier[0], later[1] - earlier[1]) for earlier, later in pairwise(counts)]
    assert len(set(added[1:])) == 1, f"the work of a turn grows with the conversation: {added}"


@given(st.lists(PLAIN, min_size=2, max_size=4))
def test_a_fingerprint_is_that_of_the_message_as_it_is_now(values: list[Any]) -> None:
    known, message = KnownMessages(), AIMessage("a", id="m")
    for value in values:
        message.additional_kwargs["value"] = value
        assert known.key(message)[1] == fingerprint(canonical_json(message))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.content[0].update(text="other"),
        lambda m: m.tool_calls[0]["args"].update(q="other"),
        lambda m: m.response_metadata.update(model_name="other"),
        lambda m: setattr(m, "name", "other"),
    ],
)
def test_a_change_in_place_is_noticed(change: Callable[[AIMessage], Any]) -> None:
    calls = [{"name": "look", "args": {"q": "x"}, "id": "c"}]
    message = AIMessage([{"type": "text", "text": "a"}], tool_calls=calls, id="m")
    known = KnownMessages()
    before = known.key(message)
    assert known.key(message.model_copy(deep=True)) == before
    assert known.fingerprints == 1
    change(message)
    assert known.key(message) == (message.id, fingerprint(canonical_json(message))) != before


def test_arrays_with_equal_bytes_are_different_content() -> None:
    numpy = pytest.importorskip("numpy")
    known = KnownMessages()
    one = HumanMessage("a", additional_kwargs={"v": numpy.zeros(2, "int32")})
    other = HumanMessage("a", additional_kwargs={"v": numpy.zeros(2, "float32")})
    assert known.key(one) != known.key(other)


def test_an_artifact_that_is_an_object_costs_no_further_fingerprint() -> None:
    known, message = KnownMessages(), ToolMessage("a", tool_call_id="c", artifact=object())
    assert known.key(message) == known.key(message)
    assert known.fingerprints == 1


class Rewriter(AgentMiddleware[Any, Any, Any]):
    """Removes a secret from the messages of the state themselves, before the second model call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        self.calls += 1
        if self.calls == 2:
            for message in request.messages:
                _remove_secret(message)
        return handler(request)


def _remove_secret(message: BaseMessage) -> None:
    if isinstance(message.content, list):
        for block in message.content:
            if isinstance(block, dict):
                block["text"] = str(block["text"]).replace("hunter2", "[removed]")


def test_what_middleware_removes_from_a_message_in_place_is_not_sent(engine: Engine) -> None:
    model = FakeModel(messages=steps())
    asked = agent(model, engine, Rewriter(), tools=[search])
    content: list[str | dict[Any, Any]] = [{"type": "text", "text": "my password is hunter2"}]
    asked.invoke({"messages": [HumanMessage(content)]}, {"configurable": {"thread_id": "t"}})
    assert "hunter2" not in str(model.asked[1])
    assert "[removed]" in str(model.asked[1])
