"""The settings of a map run, validated before the first item is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from mnesis.errors import ConfigurationError
from mnesis.operators.map_progress import Progress
from mnesis.validation import check_integer, check_seconds

Order = Literal["completion", "input"]

MAX_CONCURRENCY = 128

LEASE_SECONDS = 30.0

MAX_CLAIMS = 3


@dataclass(frozen=True, slots=True)
class MapSettings:
    """How a run goes. Making it checks it: `ConfigurationError` for what cannot work.

    `kind` is "llm" or "agentic"; `fingerprint` stands for everything besides the inputs that decides the results.
    `ahead` is how many items are claimed before there is a slot for them (None: as many as there are slots).
    """

    kind: str
    fingerprint: str
    model: str
    concurrency: int
    run_id: str | None = None
    order: Order = "completion"
    progress: Progress = False
    output_path: str | os.PathLike[str] | None = None
    retry_failed: bool = False
    lease_seconds: float = LEASE_SECONDS
    max_claims: int = MAX_CLAIMS
    ahead: int | None = None

    def __post_init__(self) -> None:
        check_integer("concurrency", self.concurrency, least=1, most=MAX_CONCURRENCY)
        check_integer("max_claims", self.max_claims, least=1, most=1_000)
        check_seconds("lease_seconds", self.lease_seconds)
        if self.order not in ("completion", "input"):
            raise ConfigurationError(f"order is 'completion' or 'input', not {self.order!r}")
        if self.run_id is not None and not (isinstance(self.run_id, str) and self.run_id.strip()):
            raise ConfigurationError(f"run_id is a name, not {self.run_id!r}; leave it out to have one made")
        if not (isinstance(self.progress, bool) or callable(self.progress)):
            raise ConfigurationError(f"progress is True, False or a function (completed, total), not {self.progress!r}")
