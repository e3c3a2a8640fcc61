"""A stored map run: its items, the workers that hold them, and the outcome of each item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnesis.models.usage import TokenUsage

ItemState = Literal["pending", "running", "done", "failed"]
"""`pending` waits for a worker; `running` belongs to one worker until its lease ends; `done` and `failed` are final."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A run to begin or to continue.

    `fingerprint` identifies everything except the inputs that determines the results: template, schema, model and
    options. The same run id with another fingerprint is an error. `plan` contains what a worker on another machine
    needs to process items: a JSON text, stored with a new run ("" for none).
    """

    id: str
    kind: str
    fingerprint: str
    model: str = ""
    created_at: int = 0
    plan: str = ""


@dataclass(frozen=True, slots=True)
class MapRun:
    """A run and its progress. `total` is None until all inputs are known. Sums cover finished items only."""

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
    def item_count(self) -> int:
        """The number of stored items in any state."""
        return self.pending + self.running + self.done + self.failed

    @property
    def is_finished(self) -> bool:
        """Whether all inputs are known and no item is pending or running."""
        return self.total is not None and self.done + self.failed == self.total


@dataclass(frozen=True, slots=True)
class RunItem:
    """One item of a run. `input` and `outcome` are JSON texts.

    `claims` is the number of times that a worker claimed the item. If the worker dies, the item stays `running` until
    `lease_until` (milliseconds since 1970).
    """

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
    """The outcome of an item: its final state, its JSON text, and the attempts, tokens and cost (US dollars)."""

    index: int
    state: Literal["done", "failed"]
    outcome: str
    attempts: int = 1
    usage: TokenUsage = TokenUsage()
    cost: float = 0.0
