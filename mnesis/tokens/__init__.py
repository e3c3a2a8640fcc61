"""How many tokens text takes and how many a model accepts. No network."""

from mnesis.tokens.estimator import (
    FILE_OVERHEAD,
    FILE_REF_OVERHEAD,
    IMAGE_TOKENS,
    MESSAGE_OVERHEAD,
    TOOL_OVERHEAD,
    TokenEstimator,
    message_tokens,
    parts_tokens,
)

__all__ = [
    "FILE_OVERHEAD",
    "FILE_REF_OVERHEAD",
    "IMAGE_TOKENS",
    "MESSAGE_OVERHEAD",
    "TOOL_OVERHEAD",
    "TokenEstimator",
    "message_tokens",
    "parts_tokens",
]
