"""Fast copies of the values of frameworks. Pure functions, no I/O.

A plan holds a private value, and makes a new copy at each call. Immutable parts are shared; dicts, lists, pydantic
models and dataclasses are copied field by field, without validation.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import AnyUrl, BaseModel

from mnesis.models.unvalidated import set_extra, set_field_names, set_fields, set_private

Make = Callable[[], Any]

_IMMUTABLE = (
    *(type(None), bool, int, float, complex, str, bytes),
    *(date, time, timedelta, Decimal, UUID, AnyUrl, enum.Enum),
)
_IMMUTABLE_KINDS = frozenset(_IMMUTABLE)


def plan_copy(value: Any) -> Make | None:
    """Return a function that makes a copy of a value that no caller can change; None if the value is of another kind."""
    try:
        make = _plan(value)
    except TypeError:
        return None
    return make if make is not None else lambda: value


def _plan(value: Any) -> Make | None:
    """Return the function that makes a copy; None if the value may be shared. Raises TypeError for values of other
    kinds.
    """
    kind = type(value)
    # Asking pydantic's and enum's metaclasses takes several times as long as looking up the type.
    if kind in _IMMUTABLE_KINDS or isinstance(value, _IMMUTABLE):
        return None
    if kind is dict:
        return _plan_dict(value)
    if kind is list:
        return _plan_list(value)
    if kind is tuple:
        if all(_plan(item) is None for item in value):
            return None
        make = _plan_list(list(value))
        return lambda: tuple(make())
    if isinstance(value, BaseModel):
        return _plan_model(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not hasattr(kind, "__slots__"):
        return _plan_object(value)
    raise TypeError(f"{kind.__name__} may be changed in ways that a copy cannot follow")


def _plan_items(value: dict[Any, Any]) -> list[tuple[Any, Make]]:
    """Return the keys of a dict whose values must be copied, with the functions that copy them."""
    if any(_plan(key) is not None for key in value):
        raise TypeError("a key of a dict is mutable")
    return [(key, make) for key, item in value.items() if (make := _plan(item)) is not None]


def _plan_dict(value: dict[Any, Any]) -> Make:
    changeable = _plan_items(value)
    if not changeable:
        return value.copy

    def copy() -> dict[Any, Any]:
        result = value.copy()
        for key, make in changeable:
            result[key] = make()
        return result

    return copy


def _plan_list(value: list[Any]) -> Make:
    changeable = [(index, make) for index, item in enumerate(value) if (make := _plan(item)) is not None]
    if not changeable:
        return value.copy
    if len(changeable) == len(value):
        makes = [make for _, make in changeable]
        return lambda: [make() for make in makes]

    def copy() -> list[Any]:
        result = value.copy()
        for index, make in changeable:
            result[index] = make()
        return result

    return copy


def _plan_model(value: BaseModel) -> Make:
    if value.__pydantic_private__ is not None:
        raise TypeError("a model has private attributes")
    kind, fields, names = type(value), value.__dict__, value.__pydantic_fields_set__
    changeable = _plan_items(fields)
    extra = None if value.__pydantic_extra__ is None else _plan_dict(value.__pydantic_extra__)
    create = object.__new__

    def copy() -> BaseModel:
        # Reading a window spends most of its time here. The code is inlined, because a call takes as long as copying a
        # field.
        result, state = create(kind), fields.copy()
        for name, make in changeable:
            state[name] = make()
        set_fields(result, state)
        set_field_names(result, names.copy())
        set_extra(result, None if extra is None else extra())
        set_private(result, None)
        return result

    return copy


def _plan_object(value: Any) -> Make:
    kind, fields = type(value), _plan_dict(vars(value))

    def copy() -> Any:
        result = object.__new__(kind)
        object.__setattr__(result, "__dict__", fields())
        return result

    return copy
