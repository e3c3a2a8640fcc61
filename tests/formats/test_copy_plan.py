"""Copies of planned values: equal, independent of each other, and refused for values that a copy cannot follow."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

from mnesis.formats.copy_plan import plan_copy
from tests.support.samples import sampled

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=12,
)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = "x"
    data: dict[str, Any] = {}
    items: list[Any] = []


class Private(BaseModel):
    _count: int = PrivateAttr(default=0)


@dataclass
class Plain:
    at: datetime
    parts: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    parts: list[int]


class OwnDict(dict[str, int]):
    pass


def containers(value: object) -> set[int]:
    """Return the identities of everything in a value that can be changed."""
    if isinstance(value, Open | Plain):
        return {id(value)} | containers(vars(value)) | containers(getattr(value, "__pydantic_extra__", None))
    if isinstance(value, dict):
        return {id(value)}.union(*(containers(item) for item in value.values()))
    if isinstance(value, list | tuple):
        return ({id(value)} if isinstance(value, list) else set()).union(*(containers(item) for item in value))
    return set()


@settings(max_examples=sampled(40))
@given(JSON)
def test_copies_are_equal_and_share_nothing_that_can_change(data: Any) -> None:
    model = Open(data={"a": data}, items=[data], more=data)
    value = [model, {"m": model}, Plain(datetime(2026, 1, 2, tzinfo=UTC), [data, (data,)])]
    before = copy.deepcopy(value)
    make = plan_copy(value)
    assert make is not None
    first, second = make(), make()
    assert first == second == before
    assert first[0].model_fields_set == model.model_fields_set
    assert not containers(first) & (containers(second) | containers(value))
    first[0].data["a"] = "changed"
    first[0].__pydantic_extra__["more"] = "changed"
    first[0].name = "changed"
    first[2].parts.append("changed")
    assert make() == before


@pytest.mark.parametrize(
    "value", [Private(), Slotted([1]), OwnDict(a=1), {1, 2}, object(), bytearray(b"x"), {"deep": [Private()]}, Open]
)
def test_values_that_a_copy_cannot_follow_are_refused(value: object) -> None:
    assert plan_copy(value) is None
    assert plan_copy([value]) is None


def test_immutable_values_are_shared() -> None:
    value = (datetime(2026, 1, 1, tzinfo=UTC), "text", b"x", 1.5, None)
    make = plan_copy(value)
    assert make is not None
    assert make() is value
