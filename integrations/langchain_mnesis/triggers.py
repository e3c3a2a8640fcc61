"""When to compact an agent's context and how much to keep. Pure functions, no I/O.

The values have the form of those of LangChain's `SummarizationMiddleware`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnesis.errors import ConfigurationError

UNITS = ("fraction", "tokens", "messages")

ContextSize = tuple[Literal["fraction", "tokens", "messages"], float]
"""`("tokens", 4000)`, `("messages", 50)`, or `("fraction", 0.8)` of the model's input limit."""
Trigger = ContextSize | Mapping[str, float] | Sequence[ContextSize | Mapping[str, float]]
"""A size, a dict of sizes that must all be reached, or a list of these of which one must be reached."""


@dataclass(frozen=True, slots=True)
class ContextMeasure:
    """The size of a context in tokens and messages, and the input limit of its model in tokens."""

    tokens: int
    messages: int
    limit_tokens: int

    def in_unit(self, unit: str) -> float:
        """Return the size in one of `UNITS`."""
        if unit == "fraction":
            return self.tokens / self.limit_tokens
        return self.tokens if unit == "tokens" else self.messages


def parse_trigger(trigger: Trigger | None) -> list[dict[str, float]]:
    """Parse a trigger into a list of dicts. Compaction is due if all sizes of one dict are reached.

    Raises `ConfigurationError` if the trigger is invalid.
    """
    if trigger is None:
        return []
    if _is_size(trigger) or isinstance(trigger, Mapping):
        trigger = [trigger]  # type: ignore[list-item]  # one size or clause, checked here
    if not isinstance(trigger, Sequence) or isinstance(trigger, str):
        raise _invalid_size(trigger)
    return [_parse_clause(item) for item in trigger]


def is_due(triggers: Sequence[Mapping[str, float]], measure: ContextMeasure) -> bool:
    """Return whether a context of this size is due for compaction."""
    return any(all(measure.in_unit(unit) >= value for unit, value in clause.items()) for clause in triggers)


def validate_keep(keep: Any) -> ContextSize:
    """Return a size to keep unchanged.

    Raises `ConfigurationError` if it is invalid.
    """
    if not _is_size(keep):
        raise _invalid_size(keep)
    _parse_clause(keep)
    return (keep[0], keep[1])


def warn_if_impossible(triggers: Sequence[Mapping[str, float]], keep: ContextSize) -> None:
    """Warn about a trigger that is still reached after each compaction, because `keep` retains that much."""
    unit, value = keep
    for clause in triggers:
        if set(clause) == {unit} and value >= clause[unit]:
            warnings.warn(
                f"trigger=({unit!r}, {clause[unit]:g}) is still reached after a compaction that keeps {value:g}"
                f" {unit}; pass a smaller keep= or a larger trigger=",
                stacklevel=3,
            )


def keep_tokens(keep: ContextSize, token_counts: Sequence[int], limit_tokens: int) -> int:
    """Convert `keep` to tokens. `token_counts` are the counts of the context's messages, oldest first."""
    unit, value = keep
    if unit == "messages":
        return sum(token_counts[max(len(token_counts) - int(value), 0) :])
    return int(value * limit_tokens) if unit == "fraction" else int(value)


def _parse_clause(item: Any) -> dict[str, float]:
    clause = dict([item]) if _is_size(item) else dict(item) if isinstance(item, Mapping) else {}
    if not clause:
        raise _invalid_size(item)
    for unit, value in clause.items():
        is_positive_number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if unit not in UNITS or not is_positive_number or (unit == "fraction" and value > 1):
            raise _invalid_size(item)
    return clause


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _invalid_size(value: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{value!r} is not a context size; pass ('tokens', n), ('messages', n) or ('fraction', 0 to 1), or for a trigger"
        " also a dict or a list of these"
    )
