"""The results of integrity checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of an integrity check. `fix` says what to do."""

    severity: Literal["ok", "warning", "error"]
    check: str
    detail: str
    fix: str = ""
    ids: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class LogHead:
    """The head of a session's log: a hash that covers its first `message_count` messages, in order.

    Store it outside the database; `verify(heads=…)` then proves that none of these messages was changed, removed or
    reordered. `hash` is in hexadecimal.
    """

    session_id: str
    message_count: int
    hash: str

    def __str__(self) -> str:
        return f"{self.session_id}={self.hash}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`: the head of each session, and the records that do not agree with their hashes."""

    heads: tuple[LogHead, ...]
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether all records are unchanged."""
        return not any(finding.severity == "error" for finding in self.findings)
