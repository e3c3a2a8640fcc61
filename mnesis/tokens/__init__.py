"""Token counts of texts and messages, and the limits of models. No network access."""

from mnesis.tokens.estimator import (
    FILE_OVERHEAD_TOKENS,
    FILE_REF_OVERHEAD_TOKENS,
    IMAGE_TOKENS,
    MESSAGE_OVERHEAD_TOKENS,
    TOOL_OVERHEAD_TOKENS,
    TokenCounter,
    TokenEstimator,
    message_tokens,
    parts_tokens,
)

__all__ = [
    "FILE_OVERHEAD_TOKENS",
    "FILE_REF_OVERHEAD_TOKENS",
    "IMAGE_TOKENS",
    "MESSAGE_OVERHEAD_TOKENS",
    "TOOL_OVERHEAD_TOKENS",
    "TokenCounter",
    "TokenEstimator",
    "message_tokens",
    "parts_tokens",
]
