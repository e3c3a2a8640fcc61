"""Circuit breakers: a model that keeps failing is not called for a while.

The states are those of the pattern (M. Nygard, "Release It!"): closed, calls go through; open, they do not; half open,
one call tests whether the model works again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from mnesis.llm.base import LLM
from mnesis.llm.function import CallableLLM
from mnesis.llm.litellm import LiteLLM
from mnesis.llm.resolve import SwitchedLLM

BreakerState = Literal["closed", "open", "half_open"]
Clock = Callable[[], float]
"""Returns seconds that only increase."""

MAX_BREAKERS = 1_000
"""Models and clients that one process remembers. Those that were used least recently are forgotten."""


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """The state of a breaker, the failures in a row, and the seconds until the next try."""

    state: BreakerState = "closed"
    failures: int = 0
    retry_after_seconds: float = 0.0


@dataclass
class CircuitBreaker:
    """The breaker of one model. Safe to use from several threads.

    It opens after `max_failures` failures in a row, and lets one call through after `open_seconds`. That call closes it, or
    opens it again.
    """

    max_failures: int = 3
    open_seconds: float = 300.0
    clock: Clock = time.monotonic
    _failures: int = field(default=0, init=False)
    _retry_time: float | None = field(default=None, init=False)
    _is_probing: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def status(self) -> BreakerStatus:
        """Return whether calls go through now and, if not, when the next one does."""
        with self._lock:
            if self._retry_time is None:
                return BreakerStatus("closed", self._failures)
            seconds = max(self._retry_time - self.clock(), 0.0)
            return BreakerStatus("half_open" if self._is_probing else "open", self._failures, seconds)

    def try_acquire(self) -> bool:
        """Return whether a call may be made now. The caller reports the outcome of its call."""
        with self._lock:
            if self._retry_time is None:
                return True
            now = self.clock()
            if now < self._retry_time:
                return False
            # If the caller never reports (it was cancelled), another call may try after the same time.
            self._retry_time, self._is_probing = now + self.open_seconds, True
            return True

    def note_success(self) -> None:
        """Report that a call succeeded. Closes the breaker."""
        with self._lock:
            self._retry_time, self._failures, self._is_probing = None, 0, False

    def note_failure(self, *, is_final: bool = False) -> None:
        """Report that a call failed. A final failure opens the breaker at once."""
        with self._lock:
            self._failures += 1
            is_open = self._retry_time is not None and not self._is_probing
            if not is_open and (is_final or self._is_probing or self._failures >= self.max_failures):
                self._retry_time, self._is_probing = self.clock() + self.open_seconds, False


class CircuitBreakers:
    """The breakers of all models that a process calls through one database. Its fields are the settings of new
    breakers.
    """

    def __init__(self) -> None:
        self._breakers: dict[Hashable, tuple[CircuitBreaker, object]] = {}
        self._lock = threading.Lock()

    def find(self, model: str, llm: LLM, endpoint: str = "", **settings: Any) -> CircuitBreaker:
        """Return the breaker of a model, a new one with these settings if it was not called yet.

        Clients for litellm share a breaker for each model and endpoint. Every other client has its own.
        """
        client: object = llm.inner if isinstance(llm, SwitchedLLM) else llm
        if isinstance(client, CallableLLM):
            client = client.function
        key = (model, endpoint, None if isinstance(client, LiteLLM) else id(client))
        with self._lock:
            # Kept together with its client, so that no other object can have the same id.
            known = self._breakers.pop(key, None)
            breaker = known[0] if known else CircuitBreaker(**settings)
            self._breakers[key] = (breaker, client)
            while len(self._breakers) > MAX_BREAKERS:
                del self._breakers[next(iter(self._breakers))]
            return breaker
