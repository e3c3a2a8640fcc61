"""The configuration classes, under a second path: `mnesis.models.config` beside `mnesis.config`."""

from mnesis.config import (
    CompactionConfig,
    FileConfig,
    MnesisConfig,
    ModelOverrides,
    OperatorConfig,
    RecallConfig,
    RetryConfig,
    SessionConfig,
    StoreConfig,
)

__all__ = [
    "CompactionConfig",
    "FileConfig",
    "MnesisConfig",
    "ModelOverrides",
    "OperatorConfig",
    "RecallConfig",
    "RetryConfig",
    "SessionConfig",
    "StoreConfig",
]
