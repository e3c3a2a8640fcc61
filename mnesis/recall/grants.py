"""Grants, which limit the originals that a model may retrieve, their tokens, and the time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from mnesis.errors import RecallDeniedError
from mnesis.ids import now_ms

DEFAULT_GRANT_TOKENS = 8_000
DEFAULT_RESULT_TOKENS = 2_000
MIN_RESULT_TOKENS = 200
"""With fewer tokens left, a result would be little more than its fence, so the use is denied."""

RecallToolName = Literal["lcm_grep", "lcm_describe", "lcm_expand", "lcm_read_file", "lcm_search_file"]


@dataclass(frozen=True, slots=True)
class GrantUse:
    """One use of a grant: the tool, its target, the tokens of the result, and the reason if it was denied (None: allowed).

    `used_at` is in milliseconds since 1970.
    """

    tool: str
    target: str
    tokens: int
    used_at: int
    denial: str | None = None


@dataclass
class Grant:
    """Permission to retrieve originals. All tools created with one grant share its budget.

    `tokens` limits all results together (None: no limit), `result_tokens` limits each result. `depth` is the number of
    summary levels that one expansion may descend: 1 expands a condensed summary into its child summaries, None expands it
    into the originals at once. `summary_ids` limits the grant to the originals of these summaries (None: the whole
    session). The grant expires after `seconds` (None: never) or when it is revoked. `uses` records every use, including
    denied ones.
    """

    tokens: int | None = DEFAULT_GRANT_TOKENS
    result_tokens: int = DEFAULT_RESULT_TOKENS
    depth: int | None = 1
    summary_ids: frozenset[str] | None = None
    seconds: float | None = None
    uses: list[GrantUse] = field(default_factory=list, init=False)
    revoked: bool = field(default=False, init=False)
    _issued_at: float = field(default_factory=time.monotonic, init=False, repr=False)

    @classmethod
    def unlimited(cls) -> Grant:
        """Return a grant without a total limit or depth limit, for sub-agents whose context is discarded afterwards."""
        return cls(tokens=None, result_tokens=4 * DEFAULT_RESULT_TOKENS, depth=None)

    @property
    def spent_tokens(self) -> int:
        """Tokens of all results so far."""
        return sum(use.tokens for use in self.uses)

    def revoke(self) -> None:
        """Deny all further uses. Calling it again has no effect."""
        self.revoked = True

    def remaining(self, tool: RecallToolName, target: str) -> int:
        """Return the number of tokens that the next result may have.

        Raises `RecallDeniedError`, and records the denial, if the grant is revoked, expired or used up.
        """
        remaining_tokens = self.result_tokens
        if self.tokens is not None:
            remaining_tokens = min(remaining_tokens, self.tokens - self.spent_tokens)
        reason = None
        if self.revoked:
            reason = "the grant was revoked"
        elif self.seconds is not None and time.monotonic() - self._issued_at >= self.seconds:
            reason = f"the grant ended after {self.seconds:g} seconds"
        elif remaining_tokens < MIN_RESULT_TOKENS:
            reason = (
                f"the grant's {self.tokens:,} tokens are used up; answer with what is known, or say what is missing"
            )
        if reason is not None:
            raise self.deny(tool, target, reason)
        return remaining_tokens

    def deny(self, tool: str, target: str, reason: str) -> RecallDeniedError:
        """Record a denied use, and return the error for the caller to raise."""
        self.uses.append(GrantUse(tool, target, 0, now_ms(), reason))
        return RecallDeniedError(f"{tool}({target!r}): {reason}")

    def record_use(self, tool: str, target: str, tokens: int) -> None:
        """Record an allowed use and the tokens of its result."""
        self.uses.append(GrantUse(tool, target, tokens, now_ms()))
