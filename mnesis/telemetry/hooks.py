"""Observations of operations: the functions that the code of mnesis calls, which cost almost nothing without an
observer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol

Operation = Literal["turn", "model call", "tool", "compaction", "search", "map item", "store"]


class Observation:
    """One observed operation, as a context manager. This class observes nothing."""

    __slots__ = ()

    is_recorded = False

    def __enter__(self) -> Observation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def begin(self) -> Observation:
        """Begin without becoming the current operation, for generators. `finish()` ends it."""
        return self

    def finish(self, error: BaseException | None = None) -> None:
        """End an operation that `begin()` started."""

    def current(self) -> Observation:
        """Return a context manager in which this operation is the current one."""
        return NOT_OBSERVED

    def set(self, **facts: Any) -> None:
        """Add facts about the operation."""


class Observer(Protocol):
    """Records operations."""

    def start(self, operation: Operation, facts: dict[str, Any]) -> Observation:
        """Return the observation of an operation that is about to begin."""
        ...


NOT_OBSERVED = Observation()
_observer: Observer | None = None


def set_observer(observer: Observer | None) -> None:
    """Let `observer` record every operation of this process from now on. None ends that."""
    global _observer
    _observer = observer


def observe(operation: Operation, /, **facts: Any) -> Observation:
    """Return the observation of an operation: `with observe("tool", name=…) as observation: …`."""
    return NOT_OBSERVED if _observer is None else _observer.start(operation, facts)


def observe_store(system: str, transaction: Callable[..., Any]) -> Observation:
    """Return the observation of a transaction of a store, called by the name of its function."""
    if _observer is None:
        return NOT_OBSERVED
    while isinstance(transaction, partial):
        transaction = transaction.func
    name = getattr(transaction, "__name__", type(transaction).__name__).strip("_<>")
    return _observer.start("store", {"system": system, "operation": name})
