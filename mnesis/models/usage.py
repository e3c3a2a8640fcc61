"""Token usage as providers report it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TokenUsage(BaseModel):
    """Tokens of one model call, or of many added up.

    `input` are the tokens read at full price; those read from the provider's cache (`cache_read`) and those written to
    it (`cache_write`) are counted beside them, not among them. `total` is what the provider called the total, 0 if it
    said nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: int = Field(default=0, ge=0)
    output: int = Field(default=0, ge=0)
    cache_read: int = Field(default=0, ge=0)
    cache_write: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)

    def effective_total(self) -> int:
        """`total` where it was reported, else the sum of the four counts."""
        return self.total or self.input + self.output + self.cache_read + self.cache_write

    @property
    def request_tokens(self) -> int:
        """Tokens of the request: input, cache reads and cache writes together."""
        named = self.input + self.cache_read + self.cache_write
        return named or max(self.total - self.output, 0)

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            total=self.effective_total() + other.effective_total(),
        )
