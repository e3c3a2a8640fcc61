"""The named statements of `queries.sql`, read once, on first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from mnesis.store.statements import Statement, parse_statements


@cache
def sql(name: str) -> str:
    """Return the text of a statement."""
    return statements()[name].sql


@cache
def statements() -> Mapping[str, Statement]:
    """Return every statement of the store, by name."""
    return parse_statements(files("mnesis.store.sqlite").joinpath("queries.sql").read_text(encoding="utf-8"))
