"""One row of the table: a cost, what it is measured against, and the limit of their ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """`measured` and `base` are in `unit`. `kind` "at least" means the ratio must not be below its limit.

    With `difference` it is the difference that must keep the limit, in `unit`.
    """

    name: str
    measured: float
    base: float
    unit: str
    limit: float
    kind: Literal["at most", "at least", "difference"] = "at most"

    @property
    def value(self) -> float:
        """What is compared with the limit."""
        return self.measured - self.base if self.kind == "difference" else self.measured / self.base

    @property
    def ok(self) -> bool:
        return self.value >= self.limit if self.kind == "at least" else self.value <= self.limit

    def cells(self) -> list[str]:
        """The row as it is printed."""
        suffix = f" {self.unit}" if self.kind == "difference" else "×"
        sign = "≥" if self.kind == "at least" else "≤"
        return [
            self.name,
            f"{self.measured:,.3f} {self.unit}",
            f"{self.base:,.3f} {self.unit}",
            f"{self.value:.2f}{suffix}",
            f"{sign} {self.limit:g}{suffix}",
            "ok" if self.ok else "over",
        ]


HEAD = ("what", "cost", "against", "ratio", "limit", "")
