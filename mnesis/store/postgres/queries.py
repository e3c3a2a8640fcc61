"""The named statements of `queries.sql`, for one schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from mnesis.store.statements import parse_statements


@cache
def statements(schema: str) -> Mapping[str, bytes]:
    """Return every statement of the store for the tables of a schema, by name."""
    text = files("mnesis.store.postgres").joinpath("queries.sql").read_text(encoding="utf-8")
    return {name: each.sql.replace("{schema}", schema).encode() for name, each in parse_statements(text).items()}
