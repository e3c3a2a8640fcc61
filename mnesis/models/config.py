"""The configuration classes of `mnesis.config`, under a second import path."""

from mnesis.config import (
    CompactionConfig,
    FileConfig,
    MnesisConfig,
    ModelOverrides,
    OperatorConfig,
    RecallConfig,
    RetentionConfig,
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
    "RetentionConfig",
    "RetryConfig",
    "SessionConfig",
    "StoreConfig",
]
