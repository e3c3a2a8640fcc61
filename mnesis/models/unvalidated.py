"""Pydantic values from fields that are known to be valid, without validating them again.

Each window and each append creates dozens of messages from values that were validated before they were stored, and that
their hashes prove unchanged. `BaseModel.model_construct()` does the same, but takes longer than validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

T = TypeVar("T", bound=BaseModel)

_set_attribute = object.__setattr__


def create_unvalidated(kind: type[T], values: Mapping[str, Any], set_names: frozenset[str] | None = None) -> T:
    """Create a value from all fields of its class, in their order. `set_names` are the fields that do not count as
    defaults."""
    value = kind.__new__(kind)
    # The attributes that pydantic documents for each instance (docs.pydantic.dev, BaseModel) and `model_construct()` sets.
    _set_attribute(value, "__dict__", values)
    _set_attribute(value, "__pydantic_fields_set__", set(values if set_names is None else set_names))
    _set_attribute(value, "__pydantic_extra__", None)
    _set_attribute(value, "__pydantic_private__", None)
    return value
