"""When an agent's context is compacted and how much stays, in the words of LangChain's `SummarizationMiddleware`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnesis.errors import ConfigurationError

KINDS = ("fraction", "tokens", "messages")

ContextSize = tuple[Literal["fraction", "tokens", "messages"], float]
"""`("tokens", 4000)`, `("messages", 50)`, or `("fraction", 0.8)` of the model's window."""
Trigger = ContextSize | Mapping[str, float] | Sequence[ContextSize | Mapping[str, float]]
"""One size; a dict of sizes that must all be reached; or a list of either, of which one must be."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a context is: its tokens, its messages, the tokens the model can take."""

    tokens: int
    messages: int
    limit_tokens: int

    def of(self, kind: str) -> float:
        """The measure a trigger names."""
        if kind == "fraction":
            return self.tokens / self.limit_tokens
        return self.tokens if kind == "tokens" else self.messages


def clauses(trigger: Trigger | None) -> list[dict[str, float]]:
    """A trigger as a list of dicts: due when any of them is wholly reached. Raises `ConfigurationError`."""
    if trigger is None:
        return []
    if _is_size(trigger) or isinstance(trigger, Mapping):
        trigger = [trigger]  # type: ignore[list-item]  # one size or clause, checked here
    if not isinstance(trigger, Sequence) or isinstance(trigger, str):
        raise _unknown(trigger)
    return [_clause(item) for item in trigger]


def is_due(wanted: Sequence[Mapping[str, float]], size: Size) -> bool:
    """Whether a context of this size is to be compacted."""
    return any(all(size.of(kind) >= value for kind, value in clause.items()) for clause in wanted)


def checked_keep(keep: Any) -> ContextSize:
    """What is to be kept, as it was given. Raises `ConfigurationError`."""
    if not _is_size(keep):
        raise _unknown(keep)
    _clause(keep)
    return (keep[0], keep[1])


def keep_tokens(keep: ContextSize, token_counts: Sequence[int], limit_tokens: int) -> int:
    """`keep` in tokens, for a context whose messages have these counts, oldest first."""
    kind, value = keep
    if kind == "messages":
        return sum(token_counts[max(len(token_counts) - int(value), 0) :])
    return int(value * limit_tokens) if kind == "fraction" else int(value)


def _clause(item: Any) -> dict[str, float]:
    clause = dict([item]) if _is_size(item) else dict(item) if isinstance(item, Mapping) else {}
    if not clause:
        raise _unknown(item)
    for kind, value in clause.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if kind not in KINDS or not number or (kind == "fraction" and value > 1):
            raise _unknown(item)
    return clause


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _unknown(value: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{value!r} is no size of a context; give ('tokens', n), ('messages', n) or ('fraction', 0 to 1), for triggers also"
        " a dict of them or a list"
    )
