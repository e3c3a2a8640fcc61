"""New ids: a prefix that says the kind, then a ULID. Ids name things; they never order them."""

from __future__ import annotations

import time

from ulid import ULID


def new_id(prefix: str) -> str:
    """A fresh id such as `msg_01JD…`. Prefixes in use: sess, msg, sum, cmp."""
    return f"{prefix}_{ULID()}"


def now_ms() -> int:
    """Wall clock in milliseconds since 1970. For people; order is `seq`."""
    return time.time_ns() // 1_000_000
