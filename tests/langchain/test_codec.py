from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)

from langchain_mnesis import Unserialisable, dump_message, load_message
from langchain_mnesis.messages.values import dump_value, load_value, types_by_name
from mnesis.store.codec import check_json
from tests.support.langchain_messages import (
    SHAPES,
    Broken,
    Colour,
    Level,
    OwnMessage,
    Point,
    Weather,
)
from tests.support.samples import sampled


def through_json(message: BaseMessage, *types: type) -> BaseMessage:
    data = dump_message(message)
    check_json(data, "message")
    return load_message(json.loads(json.dumps(data, allow_nan=False)), types_by_name(types))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_message_comes_back_exactly(name: str) -> None:
    message = SHAPES[name]
    back = through_json(message)
    assert type(back) is type(message)
    assert back == message
    assert back.__dict__ == message.__dict__
    assert list(back.__dict__) == list(message.__dict__)
    assert (back.__pydantic_extra__ or {}) == (message.__pydantic_extra__ or {})


def test_a_nan_comes_back_as_a_nan() -> None:
    back = through_json(HumanMessage("x", additional_kwargs={"n": math.nan}))
    assert math.isnan(back.additional_kwargs["n"])


def test_what_comes_back_works_like_the_message_it_was() -> None:
    chunk = through_json(AIMessageChunk("hel")) + AIMessageChunk("lo")  # type: ignore[operator]  # chunks add up
    assert chunk.content == "hello"
    message = through_json(AIMessage([{"type": "text", "text": "a"}]))
    assert message.content_blocks == [{"type": "text", "text": "a"}]
    assert message.model_copy(update={"id": "x"}).id == "x"


def test_messages_that_came_back_share_nothing_with_each_other() -> None:
    one, other = through_json(HumanMessage("x")), through_json(HumanMessage("x"))
    one.additional_kwargs["mark"] = 1
    assert other.additional_kwargs == {}


OBJECTS = [Colour.RED, Level.HIGH, Weather(city="Oslo", degrees=-1.5), Point(1, (2, 3))]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_objects_are_rebuilt_only_for_readers_that_allow_the_class(value: Any) -> None:
    message = ToolMessage("x", tool_call_id="c", artifact=value)
    assert through_json(message, type(value)) == message
    plain = through_json(message).artifact
    assert type(plain) in (str, int, dict)


def test_a_custom_message_class_is_rebuilt_only_if_it_is_allowed() -> None:
    message = OwnMessage("x", mood="glad", id="m")
    assert through_json(message, OwnMessage) == message
    back = through_json(message)
    assert type(back) is HumanMessage
    assert (back.content, back.id, back.mood) == ("x", "m", "glad")


def test_no_class_is_built_because_stored_data_names_it() -> None:
    evil = {"$mn": "model", "type": "subprocess:Popen", "v": {"args": ["true"]}}
    assert load_value(evil, {}) == {"args": ["true"]}
    data = dump_message(HumanMessage("x")) | {"c": "subprocess:Popen"}
    assert type(load_message(data)) is HumanMessage


@pytest.mark.parametrize("value", [object(), lambda: 1, Broken(), open], ids=["object", "lambda", "repr fails", "open"])
def test_what_cannot_be_stored_is_kept_as_a_marker_that_says_what_it_was(value: Any) -> None:
    back = through_json(ToolMessage("x", tool_call_id="c", artifact=value))
    assert isinstance(back.artifact, Unserialisable)
    assert type(value).__qualname__ in back.artifact.type_name
    assert through_json(back) == back


def test_a_recursive_or_deeply_nested_value_is_cut_and_marked() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = "bottom"
    for _ in range(10_000):
        deep = [deep]
    odd: Any = "bottom"
    for _ in range(100):
        odd = {(1,): (odd,)}
    for value in (loop, deep, odd):
        through_json(ToolMessage("x", tool_call_id="c", artifact=value))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"t": "hologram", "f": {}},
        {"t": "ai"},
        {"t": "ai", "f": {"content": {"$mn": "?"}}},
        {"t": "ai", "f": []},
        {"t": "ai", "f": {}, "x": [1]},
        {"t": "ai", "f": {}, "c": []},
        {"t": "ai", "f": {"content": {"$mn": "decimal", "v": "much"}}},
    ],
)
def test_data_of_an_unknown_shape_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        load_message(data)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=20)
    | st.binary(max_size=10)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.decimals(allow_nan=False)
)
keys = st.text(max_size=5) | st.integers() | st.just("$mn") | st.tuples(st.integers(), st.text(max_size=3))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=3)
    ),
    max_leaves=12,
)


def identical(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            identical(a, b) for pair in zip(one.items(), other.items(), strict=True) for a, b in zip(*pair, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


@given(values)
@settings(max_examples=sampled(150), suppress_health_check=[HealthCheck.too_slow])
def test_any_value_comes_back_identical(value: Any) -> None:
    data = dump_value(value)
    check_json(data, "value")
    assert identical(load_value(json.loads(json.dumps(data, allow_nan=False)), {}), value)


blocks = st.text(max_size=10) | st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=3)
contents = st.text(max_size=20) | st.lists(blocks, max_size=3)
calls = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text(max_size=5),
            "args": st.dictionaries(st.text(max_size=4), values, max_size=3),
            "id": st.none() | st.text(max_size=5),
            "type": st.just("tool_call"),
        }
    ),
    max_size=3,
)


@given(contents, calls, st.none() | st.text(max_size=5), st.dictionaries(keys, values, max_size=3), values)
@settings(max_examples=sampled(100), suppress_health_check=[HealthCheck.too_slow])
def test_any_message_comes_back_equal(
    content: Any, tool_calls: Any, id: str | None, kwargs: dict[Any, Any], artifact: Any
) -> None:
    fields = {"content": content, "id": id, "additional_kwargs": kwargs}
    for message in (
        AIMessage("").model_copy(update={**fields, "tool_calls": tool_calls}),
        ToolMessage("", tool_call_id="c").model_copy(update={**fields, "artifact": artifact}),
    ):
        assert through_json(message) == message
