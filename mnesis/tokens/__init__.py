"""Token counts of texts and messages, and the limits of models. No network access."""

from mnesis.tokens.estimator import (
    FILE_OVERHEAD_TOKENS,
    FILE_REF_OVERHEAD_TOKENS,
    MESSAGE_OVERHEAD_TOKENS,
    TOOL_OVERHEAD_TOKENS,
    ModelTokenCounter,
    TokenCounter,
    TokenEstimator,
    message_tokens,
    parts_tokens,
)
from mnesis.tokens.images import image_tokens

__all__ = [
    "FILE_OVERHEAD_TOKENS",
    "FILE_REF_OVERHEAD_TOKENS",
    "MESSAGE_OVERHEAD_TOKENS",
    "TOOL_OVERHEAD_TOKENS",
    "ModelTokenCounter",
    "TokenCounter",
    "TokenEstimator",
    "image_tokens",
    "message_tokens",
    "parts_tokens",
]
