"""Arrays, frames and structured output in messages come back exactly, or a warning says that they do not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from langchain_mnesis import MnesisChatMessageHistory, MnesisMemory
from langchain_mnesis.messages.values import Unserialisable
from mnesis import Engine
from tests.support.langchain_fakes import session_config

numpy = pytest.importorskip("numpy")
pandas = pytest.importorskip("pandas")

ARRAYS = {
    "floats": numpy.arange(6.0).reshape(2, 3),
    "not a number": numpy.array([numpy.nan, numpy.inf, -0.0]),
    "fortran order": numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
    "big endian": numpy.array([1, 2], dtype=">i4"),
    "empty": numpy.empty((0, 3), dtype="float16"),
    "no dimension": numpy.array(3),
    "strings": numpy.array(["a", "żó"]),
    "bytes": numpy.array([b"a", b"\0b"]),
    "times": numpy.array(["2026-01-02", "NaT"], dtype="datetime64[ns]"),
    "structured": numpy.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")]),
    "objects": numpy.array([{"a": (1, 2)}, None, b"x"], dtype=object),
}
SCALARS = [
    numpy.int64(3), numpy.uint8(255), numpy.bool_(True), numpy.float64(0.1), numpy.float32(0.1), numpy.complex64(1 + 2j),
    numpy.str_("text"), numpy.datetime64("2026-01-02T03:04:05"), numpy.timedelta64(3, "D"),
]  # fmt: skip
TIMES = pandas.date_range("2026-01-01", periods=3, freq="D")
FRAMES = {
    "plain": pandas.DataFrame({"n": [1, 2], "x": [0.5, numpy.nan], "s": ["a", None]}),
    "own index": pandas.DataFrame({"n": [1, 2, 3]}, index=TIMES),
    "time zone": pandas.DataFrame({"at": TIMES.tz_localize("Europe/Warsaw")}),
    "missing": pandas.DataFrame({"n": pandas.array([1, None], dtype="Int64"), "b": pandas.array([True, None], dtype="boolean")}),
    "categories": pandas.DataFrame({"c": pandas.Categorical(["b", "a", None], categories=["b", "a", "z"], ordered=True)}),
    "two levels": pandas.DataFrame(
        [[1, 2], [3, 4]],
        index=pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["l", None]),
        columns=pandas.Index(["x", "x"], name="twice"),
    ),
    "objects": pandas.DataFrame({"o": [{"a": 1}, (1, 2)]}),
    "empty": pandas.DataFrame(),
    "rows only": pandas.DataFrame(index=[1, 2]),
}  # fmt: skip


def round_trip(engine: Engine, value: Any) -> Any:
    history = MnesisChatMessageHistory("s", engine=engine)
    history.clear()
    history.add_messages([HumanMessage("q"), AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c"}])])
    history.add_messages([ToolMessage("found", tool_call_id="c", artifact={"value": [value]})])
    return history.messages[-1].artifact["value"][0]  # type: ignore[union-attr]  # a tool message has an artifact


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_an_array_comes_back_with_its_type_shape_and_order(array: Any, engine: Engine) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = round_trip(engine, array)
    assert type(back) is numpy.ndarray
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.flags.f_contiguous == array.flags.f_contiguous
    numpy.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
def test_a_scalar_of_numpy_keeps_its_class(scalar: Any, engine: Engine) -> None:
    back = round_trip(engine, scalar)
    assert type(back) is type(scalar)
    assert back.dtype == scalar.dtype
    assert back == scalar


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_frame_and_its_columns_come_back_equal(frame: Any, engine: Engine) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pandas.testing.assert_frame_equal(round_trip(engine, frame), frame, check_freq=True)
        if frame.shape[1]:
            pandas.testing.assert_series_equal(round_trip(engine, frame.iloc[:, 0]), frame.iloc[:, 0])


class City(BaseModel):
    name: str


@dataclass
class Point:
    x: int


class WeatherDict(TypedDict):
    degrees: int


def test_what_does_not_come_back_equal_is_warned_about_once(engine: Engine) -> None:
    masked = numpy.ma.masked_array([1, 2], mask=[True, False])
    for value, name in ((masked, "MaskedArray"), (object(), "object"), (City(name="a"), "City"), (Point(1), "Point")):
        with pytest.warns(UserWarning, match=name):
            back = round_trip(engine, value)
        assert type(back) is not type(value)
    with pytest.warns(UserWarning, match="MaskedArray"):
        assert isinstance(round_trip(engine, masked), Unserialisable)
    history = MnesisChatMessageHistory("once", engine=engine)
    with pytest.warns(UserWarning, match="City"):
        history.add_message(AIMessage("", additional_kwargs={"city": City(name="a")}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history.add_message(AIMessage("", additional_kwargs={"city": City(name="b")}))


def test_listed_classes_come_back_without_a_warning(engine: Engine) -> None:
    history = MnesisChatMessageHistory("s", engine=engine, types=[City, Point])
    message = HumanMessage("q", additional_kwargs={"values": [City(name="a"), Point(1)]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history.add_message(message)
    assert history.messages == [message]


def outputs_of(engine: Engine, output: Any, **options: Any) -> list[BaseMessage]:
    """Return what a memory keeps of a runnable's output."""
    memory = MnesisMemory(RunnableLambda(lambda messages: output), engine=engine, **options)
    assert memory.invoke("q", session_config("s")) is output
    return MnesisChatMessageHistory("s", engine=engine, types=options.get("types", ())).messages[1:]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (City(name="Łódź"), '{"name": "Łódź"}'),
        (WeatherDict(degrees=3), '{"degrees": 3}'),
        ({"a": 1, "b": [None]}, '{"a": 1, "b": [null]}'),
        (Point(3), '{"x": 3}'),
        (7, "7"),
    ],
)
def test_structured_output_is_kept_as_json_and_as_the_object(output: Any, text: str, engine: Engine) -> None:
    (message,) = outputs_of(engine, output, types=[City, Point])
    assert message == AIMessage(text, additional_kwargs={"parsed": output})
    assert type(message.additional_kwargs["parsed"]) is type(output)


def test_raw_output_keeps_the_models_message_and_completes_its_call(engine: Engine) -> None:
    raw = AIMessage("", tool_calls=[{"name": "City", "args": {"name": "a"}, "id": "c"}], id="r")
    message, result = outputs_of(engine, {"raw": raw, "parsed": City(name="a"), "parsing_error": None}, types=[City])
    assert message == raw
    assert result == ToolMessage('{"name": "a"}', tool_call_id="c", name="City", artifact=City(name="a"))


def test_raw_output_that_was_not_parsed_keeps_the_error(engine: Engine) -> None:
    raw = AIMessage("", tool_calls=[{"name": "City", "args": {}, "id": "c"}])
    error = ValueError("name is missing")
    message, result = outputs_of(engine, {"raw": raw, "parsed": None, "parsing_error": error})
    assert message.tool_calls == raw.tool_calls  # type: ignore[attr-defined]  # an AIMessage
    assert (result.content, result.status) == ("name is missing", "error")  # type: ignore[attr-defined]  # a ToolMessage


def test_raw_output_without_calls_is_the_models_message(engine: Engine) -> None:
    raw = AIMessage('{"name": "a"}')
    assert outputs_of(engine, {"raw": raw, "parsed": City(name="a"), "parsing_error": None}) == [raw]
