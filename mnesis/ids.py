"""New ids, and the wall clock.

Ids identify things; they never order them. The time in an id only keeps new ids close together in an index.
"""

from __future__ import annotations

import os
import secrets
import time


def new_id(prefix: str) -> str:
    """Return a new id such as `msg_19a9f3c5d2e7b1…`: the prefix, the time in milliseconds and 64 random bits."""
    return f"{prefix}_{now_ms():x}{os.urandom(8).hex()}"


SHORT_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: five bits per character, without i, l, o and u, which are easy to misread."""


def short_id(prefix: str) -> str:
    """Return a short random id such as `sum_7f3k9q2m4x`, for ids that a model reads: every character costs tokens.

    Its 50 random bits cannot be guessed, so text that was written earlier cannot contain it.
    """
    return f"{prefix}_{''.join(secrets.choice(SHORT_ALPHABET) for _ in range(10))}"


def now_ms() -> int:
    """Return the wall clock in milliseconds since 1970. It is for display only; `seq` gives the order."""
    return time.time_ns() // 1_000_000
