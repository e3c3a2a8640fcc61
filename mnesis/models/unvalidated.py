"""Pydantic values from fields that are known to be valid, without validating them again.

Each window and each append creates dozens of messages from values that were validated before they were stored, and that
their hashes prove unchanged. `BaseModel.model_construct()` does the same, but takes longer than validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)

# The slots of every pydantic model, the attributes that pydantic documents for each instance (docs.pydantic.dev, BaseModel) and
# `model_construct()` sets. Setting them by name takes a third longer.
set_fields = BaseModel.__dict__["__dict__"].__set__
set_field_names = BaseModel.__dict__["__pydantic_fields_set__"].__set__
set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
set_private = BaseModel.__dict__["__pydantic_private__"].__set__


def create_unvalidated(kind: type[T], values: Mapping[str, Any], set_names: frozenset[str] | None = None) -> T:
    """Create a value from all fields of its class, in their order. `set_names` are the fields that do not count as
    defaults.
    """
    value = object.__new__(kind)
    set_fields(value, values)
    set_field_names(value, set(values if set_names is None else set_names))
    set_extra(value, None)
    set_private(value, None)
    return value
