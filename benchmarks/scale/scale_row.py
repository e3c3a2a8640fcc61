"""One row: the cost of one thing at a small and at a large size, and the memory that it peaked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEAD = ("what", "unit", "at", "cost", "at", "cost", "ratio", "peak, MB", "peak, MB")


@dataclass(frozen=True, slots=True)
class ScaleRow:
    """A measurement at two sizes. Peaks are in megabytes, and None for what does not run in a process of its own."""

    name: str
    unit: str
    small_size: int
    small_cost: float
    large_size: int
    large_cost: float
    small_peak_mb: float | None = None
    large_peak_mb: float | None = None

    @property
    def ratio(self) -> float:
        """The cost at the large size, in those at the small one."""
        return self.large_cost / self.small_cost

    def cells(self) -> Sequence[str]:
        """Return the cells of the printed row."""
        peaks = ("" if peak is None else f"{peak:,.0f}" for peak in (self.small_peak_mb, self.large_peak_mb))
        small, large = f"{self.small_cost:,.3g}", f"{self.large_cost:,.3g}"
        return (
            self.name,
            self.unit,
            f"{self.small_size:,}",
            small,
            f"{self.large_size:,}",
            large,
            f"{self.ratio:.2f}",
            *peaks,
        )
