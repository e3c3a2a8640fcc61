"""New ids: a prefix that says the kind, the time in milliseconds, 64 random bits. Ids name things; they never order them.

The time comes first only so that new ids fall close together in an index.
"""

from __future__ import annotations

import os
import secrets
import time


def new_id(prefix: str) -> str:
    """A fresh id such as `msg_19a9f3c5d2e7b1…`. Prefixes in use: sess, msg."""
    return f"{prefix}_{now_ms():x}{os.urandom(8).hex()}"


SHORT_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def short_id(prefix: str) -> str:
    """A short random id such as `sum_7f3k9q2m4x` (50 random bits) for things a model reads: every character costs tokens.

    Nobody can guess it before it is made, so text written earlier cannot imitate it."""
    return f"{prefix}_{''.join(secrets.choice(SHORT_ALPHABET) for _ in range(10))}"


def now_ms() -> int:
    """Wall clock in milliseconds since 1970. For people; order is `seq`."""
    return time.time_ns() // 1_000_000
