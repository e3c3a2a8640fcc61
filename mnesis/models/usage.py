"""Token usage as reported by providers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mnesis.models.unvalidated import create_unvalidated


class TokenUsage(BaseModel):
    """The tokens of one model call, or the sum over several calls.

    `input` counts only tokens at full price. Tokens read from the provider's cache (`cache_read`) and written to it
    (`cache_write`) are counted separately. `total` is the total that the provider reported, or 0 if it reported none.
    `reasoning` is the part of `output` that was spent on reasoning, or 0 if the provider does not report it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: int = Field(default=0, ge=0)
    output: int = Field(default=0, ge=0)
    cache_read: int = Field(default=0, ge=0)
    cache_write: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)
    reasoning: int = Field(default=0, ge=0)

    def effective_total(self) -> int:
        """Return `total` if it was reported, otherwise the sum of the four counts."""
        return self.total or self.input + self.output + self.cache_read + self.cache_write

    @property
    def cached_fraction(self) -> float:
        """The part of the request that was read from the provider's cache, from 0 to 1."""
        return self.cache_read / self.request_tokens if self.request_tokens else 0.0

    @property
    def cached_tokens(self) -> int:
        """The tokens of the request that are in the provider's cache after it: those it read and those it wrote."""
        return self.cache_read + self.cache_write

    @property
    def request_tokens(self) -> int:
        """The tokens of the request: input, cache reads and cache writes."""
        counted = self.input + self.cache_read + self.cache_write
        return counted or max(self.total - self.output, 0)

    def __add__(self, other: TokenUsage) -> TokenUsage:
        # Sums of valid counts are valid, and each append makes one.
        return create_unvalidated(
            TokenUsage,
            {
                "input": self.input + other.input,
                "output": self.output + other.output,
                "cache_read": self.cache_read + other.cache_read,
                "cache_write": self.cache_write + other.cache_write,
                "total": self.effective_total() + other.effective_total(),
                "reasoning": self.reasoning + other.reasoning,
            },
        )
