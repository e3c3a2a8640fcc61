"""One row of the table: a cost, the base it is compared with, and the limit of their ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `measured` and `base` are in `unit`.

    The limit is an upper bound of their ratio. With kind "at least" it is a lower bound; with "difference" it is an upper
    bound of the difference, in `unit`.
    """

    name: str
    measured: float
    base: float
    unit: str
    limit: float
    kind: Literal["at most", "at least", "difference"] = "at most"

    @property
    def value(self) -> float:
        """The ratio, or the difference, that is compared with the limit."""
        return self.measured - self.base if self.kind == "difference" else self.measured / self.base

    @property
    def ok(self) -> bool:
        return self.value >= self.limit if self.kind == "at least" else self.value <= self.limit

    def cells(self) -> list[str]:
        """Return the cells of the printed row."""
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
