"""The settings of a map run, validated before the first item is read."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mnesis.config import ConfigOrDict, MnesisConfig, OperatorConfig, parse_config
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.operators.map_progress import ProgressOption
from mnesis.operators.options import MapOptions, ResultOrder
from mnesis.validation import check_integer, check_seconds

MAX_CONCURRENCY = 128

LEASE_SECONDS = 30.0
"""The default lease: long enough for a stalled process to recover, because a worker renews its leases three times in
this time."""

MAX_CLAIMS = 3


@dataclass(frozen=True, slots=True)
class MapSettings:
    """How a map runs. Raises `ConfigurationError` when created with a value that cannot work.

    `prefetch_items` is the number of items that are claimed before a slot is free for them. None means `concurrency`.
    """

    concurrency: int
    run_id: str | None = None
    order: ResultOrder = "input"
    progress: ProgressOption = False
    output_path: str | os.PathLike[str] | None = None
    retry_failed: bool = False
    lease_seconds: float = LEASE_SECONDS
    max_claims: int = MAX_CLAIMS
    prefetch_items: int | None = None
    max_concurrency: int = MAX_CONCURRENCY

    def __post_init__(self) -> None:
        check_integer("concurrency", self.concurrency, minimum=1, maximum=self.max_concurrency)
        check_integer("max_claims", self.max_claims, minimum=1, maximum=1_000)
        check_seconds("lease_seconds", self.lease_seconds)
        if self.order not in ("completion", "input"):
            raise ConfigurationError(f"order must be 'completion' or 'input', not {self.order!r}")
        if self.run_id is not None and not (isinstance(self.run_id, str) and self.run_id.strip()):
            raise ConfigurationError(
                f"run_id must be a non-empty string, not {self.run_id!r}; leave it out to have one generated"
            )
        if not (isinstance(self.progress, bool) or callable(self.progress)):
            raise ConfigurationError(
                f"progress must be True, False or a function (completed, total), not {self.progress!r}"
            )

    @classmethod
    def from_options(
        cls,
        options: MapOptions,
        *,
        default_concurrency: int,
        max_concurrency: int = MAX_CONCURRENCY,
        prefetch_items: int | None = None,
    ) -> MapSettings:
        """Build the settings from the keyword options of a run."""
        concurrency = options.get("concurrency")
        return cls(
            concurrency=default_concurrency if concurrency is None else concurrency,
            run_id=options.get("run_id"),
            order=options.get("order", "input"),
            progress=options.get("progress", False),
            output_path=options.get("output_path"),
            retry_failed=options.get("retry_failed", False),
            lease_seconds=options.get("lease_seconds", LEASE_SECONDS),
            max_claims=options.get("max_claims", MAX_CLAIMS),
            prefetch_items=prefetch_items,
            max_concurrency=max_concurrency,
        )


def operator_config(config: OperatorConfig | ConfigOrDict | None, engine: Engine | None) -> OperatorConfig:
    """Return the limits of maps: from `config`, else from the engine, else the defaults.

    Raises `ConfigurationError` for an argument of another type.
    """
    if engine is not None and not isinstance(engine, Engine):
        raise ConfigurationError(f"engine must be an Engine, not {engine!r:.100}")
    if config is None and engine is not None:
        return engine.config.operators
    if isinstance(config, OperatorConfig):
        return config
    return (parse_config(config) or MnesisConfig()).operators
