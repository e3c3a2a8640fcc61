"""Output schemas: what is one, what an answer says, and what the keyless model makes of one."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from datetime import date
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from mnesis.errors import ConfigurationError
from mnesis.llm.mock_schema import minimal_value
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.schema import InvalidOutputError, OutputSchema
from mnesis.testing import ScriptedLLM


class Colour(enum.Enum):
    RED = "red"


class Tree(BaseModel):
    name: str = Field(min_length=2, max_length=9)
    children: list[Tree] = []


class Everything(BaseModel):
    text: str = Field(max_length=2)
    long: str = Field(min_length=12)
    number: float = Field(gt=0, lt=0.5)
    count: int = Field(ge=3, multiple_of=5)
    below: int = Field(lt=-4)
    flag: bool
    colour: Colour
    kind: Literal["a", "b"]
    day: date
    id: UUID
    maybe: int | None
    either: int | str
    tree: Tree
    three: list[Tree] = Field(min_length=3)
    pair: tuple[int, str]
    map: dict[str, int]
    left_out: int = 4


class Unshowable(BaseModel):
    call: Callable[[], int]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        None, 3, "object", int, str, dict, object, [], True, Tree(name="ab"), Unshowable,
        {"type": "nope"}, {"properties": 3}, {"required": "a"}, {"foo": "bar"}, {"name": "string"}, {"enum": {1, 2}},
        {"type": "string", "pattern": "("}, {"minimum": float("nan")}, {"$ref": "#/$defs/nothing"},
        {"$ref": "https://example.com/schema.json"}, {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
        nested(100_000),
    ],
    ids=lambda schema: str(schema)[:30] if not isinstance(schema, dict) or len(str(schema.keys())) > 60 else str(list(schema)),
)  # fmt: skip
def test_what_is_no_schema_is_refused_before_any_call(schema: Any) -> None:
    llm = ScriptedLLM()
    with pytest.raises(ConfigurationError):
        LLMMap(llm=llm).run([1], "{{ item }}", schema)
    assert llm.requests == []


def test_references_inside_a_schema_lead_where_they_say() -> None:
    schema = OutputSchema({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}})
    assert schema.parse("3") == 3
    with pytest.raises(InvalidOutputError):
        schema.parse('"3"')


OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    "answer",
    [
        '{"a": 1}',
        '  \n{"a": 1}\n',
        'Here is the JSON: {"a": 1}. Anything else?',
        '```json\n{"a": 1}\n```',
        'Sure!\n```\n{"a": 1}\n```\nDone.',
        'Not {this} but {"a": 1}',
        'First {"b": 2}, no: {"a": 1}',
        '\ufeff{"a": 1}',
        "```json\n{'a': 1}\n```\nor rather\n```json\n{\"a\": 1}\n```",
    ],
)
def test_the_json_in_an_answer_is_found(answer: str) -> None:
    assert OutputSchema(OBJECT).parse(answer) == {"a": 1}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("", "no JSON"),
        ("I cannot say.", "no JSON"),
        ('{"a": 1', "no JSON"),
        ('{"a": "1"}', "$.a"),
        ("{}", "'a' is a required property"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": 1e999}', "not a number"),
        ("[" * 100_000, "no JSON"),
        ('{"a": ' * 50_000, "no JSON"),
        ('{"a": ' + "1" * 5_000 + "}", "no JSON"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(answer: str, told: str) -> None:
    with pytest.raises(InvalidOutputError) as caught:
        OutputSchema(OBJECT).parse(answer)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 5_000


DOUBLING = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)} | {"d40": {"type": "integer"}}


@pytest.mark.parametrize(
    "schema", [{"$defs": DOUBLING, "$ref": "#/$defs/d0"}, {"type": "string", "pattern": "^(a|a)*(a|a)*(a|a)*$"}]
)
def test_a_check_without_end_is_stopped(schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnesis.operators.schema.MAX_SECONDS", 0.1)
    answer = 3 if "$ref" in schema else "a" * 60 + "b"
    with pytest.raises(InvalidOutputError, match="too long"):
        OutputSchema(schema).parse(json.dumps(answer))


def test_a_pattern_too_large_to_be_run_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="repeats too much"):
        OutputSchema({"properties": {"a": {"pattern": "((a{1000}){1000}){1000}"}}})


def test_what_is_told_about_an_answer_stays_short() -> None:
    schema = OutputSchema({"type": "array", "items": {"type": "integer"}})
    with pytest.raises(InvalidOutputError) as caught:
        schema.parse('["' + "x" * 5_000 + '"' + ', "y"' * 500 + "]")
    assert len(str(caught.value)) < 5_000


def test_a_model_class_reads_json_as_json() -> None:
    class Day(BaseModel):
        model_config = {"strict": True}
        day: date

    assert OutputSchema(Day).parse('{"day": "2024-02-29"}').day == date(2024, 2, 29)
    with pytest.raises(InvalidOutputError, match="day"):
        OutputSchema(Day).parse('{"day": 5}')


def test_later_changes_of_a_schema_do_not_reach_a_run() -> None:
    given_schema: dict[str, Any] = {"type": "object", "required": ["a"]}
    schema = OutputSchema(given_schema)
    given_schema["required"].append("b")
    assert schema.parse('{"a": 1}') == {"a": 1}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_json_value_comes_back_as_it_is(value: Any) -> None:
    import json

    assert OutputSchema({}).parse(json.dumps(value)) == value


@pytest.mark.parametrize(
    "schema",
    [
        Everything,
        Tree,
        OBJECT,
        {},
        {"type": "array", "minItems": 2, "items": {"enum": ["x", "y"]}},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"allOf": [{"properties": {"a": {"const": 4}}, "required": ["a"]}, {"required": ["b"]}], "type": "object"},
        {"type": ["integer", "null"], "maximum": -7},
        {"type": "number", "exclusiveMinimum": 2, "exclusiveMaximum": 3},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "minItems": 2},
    ],
)
def test_the_keyless_model_has_a_value_for_the_schema(schema: Any) -> None:
    checked = OutputSchema(schema)
    value = minimal_value(checked.json_schema)
    checked.restore(value)
    assert value == minimal_value(checked.json_schema)


def test_the_keyless_model_comes_to_an_end_with_a_schema_that_does_not() -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert minimal_value(endless)["a"]["a"]
    assert minimal_value({"$ref": "#"}) is not None or minimal_value({"$ref": "#"}) is None
    assert minimal_value({"allOf": [{"$ref": "#"}]}) is not None
