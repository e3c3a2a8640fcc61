"""A finding of an integrity check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of an integrity check. `fix` says what to do."""

    severity: Literal["ok", "warning", "error"]
    check: str
    detail: str
    fix: str = ""
    ids: tuple[str, ...] = field(default=())
