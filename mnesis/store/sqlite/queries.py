"""The named statements of `queries.sql`, read once, on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with its name and purpose."""

    name: str
    purpose: str
    sql: str


def sql(name: str) -> str:
    """Return the text of a statement."""
    return statements()[name].sql


@cache
def statements() -> Mapping[str, Statement]:
    """Return every statement of the store, by name."""
    text = files("mnesis.store.sqlite").joinpath("queries.sql").read_text(encoding="utf-8")
    blocks = [block.strip() for block in text.split("\n-- ")[1:]]
    return {statement.name: statement for statement in map(_parse, blocks)}


def _parse(block: str) -> Statement:
    head, _, body = block.partition("\n")
    name, _, purpose = head.partition(": ")
    return Statement(name, purpose, body.strip().removesuffix(";"))
