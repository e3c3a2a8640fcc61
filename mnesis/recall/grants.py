"""How much of the past a model may bring back: a grant says what, how deep, how many tokens, how long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from mnesis.errors import RecallRefusedError
from mnesis.ids import now_ms

TURN_TOKENS = 8_000
RESULT_TOKENS = 2_000
SMALLEST_RESULT_TOKENS = 200

LookupTool = Literal["lcm_grep", "lcm_describe", "lcm_expand", "lcm_read_file", "lcm_search_file"]


@dataclass(frozen=True, slots=True)
class GrantUse:
    """One use of a grant: which tool, on what, how many tokens it gave, and why it was refused ("" if it was not)."""

    tool: str
    target: str
    tokens: int
    at: int
    refused: str = ""


@dataclass
class Grant:
    """Permission to look things up. All tools that were made with it draw on it together.

    `tokens` is what all results together may take, `result_tokens` one of them. `depth` is how many levels of summaries one
    expansion may go down: 1 opens a condensed summary into the summaries it was made of, None gives the originals at once.
    `summary_ids` limits it to what stands behind these summaries (None: the whole session). It ends after `seconds` (None:
    with its holder) or when revoked. `uses` is the record of everything it was used for, refusals included.
    """

    tokens: int | None = TURN_TOKENS
    result_tokens: int = RESULT_TOKENS
    depth: int | None = 1
    summary_ids: frozenset[str] | None = None
    seconds: float | None = None
    uses: list[GrantUse] = field(default_factory=list, init=False)
    revoked: bool = field(default=False, init=False)
    _issued: float = field(default_factory=time.monotonic, init=False, repr=False)

    @classmethod
    def unlimited(cls) -> Grant:
        """For sub-agents whose own context is thrown away: originals at any depth, in pages."""
        return cls(tokens=None, result_tokens=4 * RESULT_TOKENS, depth=None)

    @property
    def spent_tokens(self) -> int:
        return sum(use.tokens for use in self.uses)

    def revoke(self) -> None:
        """End it now."""
        self.revoked = True

    def room(self, tool: LookupTool, target: str) -> int:
        """Tokens the next result may take. Raises `RecallRefusedError`, and notes it, if there are none."""
        left = self.result_tokens if self.tokens is None else min(self.result_tokens, self.tokens - self.spent_tokens)
        reason = ""
        if self.revoked:
            reason = "the grant was revoked"
        elif self.seconds is not None and time.monotonic() - self._issued >= self.seconds:
            reason = f"the grant ended after {self.seconds:g} seconds"
        elif left < SMALLEST_RESULT_TOKENS:
            reason = (
                f"the grant's {self.tokens:,} tokens are used up; answer with what is known, or say what is missing"
            )
        if reason:
            raise self.refusal(tool, target, reason)
        return left

    def refusal(self, tool: str, target: str, reason: str) -> RecallRefusedError:
        """The error to raise for a use that is not allowed, once it is noted."""
        self.uses.append(GrantUse(tool, target, 0, now_ms(), reason))
        return RecallRefusedError(f"{tool}({target!r}): {reason}")

    def note(self, tool: str, target: str, tokens: int) -> None:
        """Note what a use gave."""
        self.uses.append(GrantUse(tool, target, tokens, now_ms()))
