"""A map run as a store keeps it: its items, who works on them, and what came of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnesis.models.usage import TokenUsage

ItemState = Literal["pending", "running", "done", "failed"]
"""`pending` waits for a worker; `running` is one worker's until its lease ends; `done` and `failed` are final."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run to begin, or to go on with. `fingerprint` stands for everything that decides the results besides the inputs
    (template, schema, model, options): a run of the same id with another one is another run."""

    id: str
    kind: str
    fingerprint: str
    model: str = ""
    created_at: int = 0


@dataclass(frozen=True, slots=True)
class MapRun:
    """A run and how far it is. `total` is None until all inputs are known. Sums are those of finished items."""

    id: str
    kind: str
    fingerprint: str
    model: str
    created_at: int
    total: int | None = None
    pending: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    attempts: int = 0
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0

    @property
    def stored(self) -> int:
        """Items that are stored, whatever their state."""
        return self.pending + self.running + self.done + self.failed

    @property
    def is_finished(self) -> bool:
        """Whether all inputs are known and none waits or runs."""
        return self.total is not None and self.done + self.failed == self.total


@dataclass(frozen=True, slots=True)
class RunItem:
    """One item. `input` and `outcome` are JSON texts. `claims` counts how often a worker took it; a worker that dies
    leaves it `running` until `lease_until` (milliseconds since 1970)."""

    index: int
    input: str
    state: ItemState = "pending"
    claims: int = 0
    attempts: int = 0
    worker: str | None = None
    lease_until: int | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """What came of an item: `done` or `failed`, with the JSON text that says it, and what it took."""

    index: int
    state: Literal["done", "failed"]
    outcome: str
    attempts: int = 1
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
