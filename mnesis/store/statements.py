"""Named SQL statements in a file. Each begins with a line "-- name: purpose"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with its name and purpose."""

    name: str
    purpose: str
    sql: str


def parse_statements(text: str) -> Mapping[str, Statement]:
    """Return the statements of a file, by name."""
    blocks = [block.strip() for block in text.split("\n-- ")[1:]]
    return {statement.name: statement for statement in map(_parse, blocks)}


def _parse(block: str) -> Statement:
    head, _, body = block.partition("\n")
    name, _, purpose = head.partition(": ")
    return Statement(name, purpose, body.strip().removesuffix(";"))
