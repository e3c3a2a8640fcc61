"""How many of the cases of a large sample a run tries.

Random examples and killed processes are samples of far more cases. A run tries a quarter of the numbers that the tests name, which
finds what is broken in general; `MNESIS_TEST_SAMPLE=1 uv run pytest` tries all of them, and a larger number tries more.
"""

from __future__ import annotations

import os

FRACTION = float(os.environ.get("MNESIS_TEST_SAMPLE", "0.25"))
MIN_CASES = 5


def sampled(count: int, at_least: int = MIN_CASES) -> int:
    """Return how many of `count` cases to try: this run's fraction of them, but `at_least` as many as given here."""
    return max(round(count * FRACTION), min(count, at_least))
