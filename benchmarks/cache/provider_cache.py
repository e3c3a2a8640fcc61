"""The prompt caches of providers, and price lists. Sizes are counted in segments: one message, or the tool definitions.

Claude: only marked prefixes are cached, at most four marks, from a minimum length on. A mark finds an entry at itself or up to 20
blocks before it. An entry lives five minutes after its last use (platform.claude.com, prompt caching). OpenAI and Gemini: the
longest prefix shared with the previous request, from a minimum length on, in steps of 128 tokens at OpenAI; here it lives as
long as mnesis assumes (`mnesis.models.dialects`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from mnesis.models.dialects import PromptCache, find_dialect

MAX_MARKS = 4
LOOK_BACK_BLOCKS = 20
OPENAI_STEP_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Segment:
    """One message of a request: equal identities mean equal bytes. `is_marked` means that it ends with a cache mark."""

    identity: Hashable
    tokens: int
    is_marked: bool = False


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What a cache did for one request: tokens read, written, and neither."""

    read: int
    written: int
    uncached: int


@dataclass
class MarkedCache:
    """A cache of marked prefixes."""

    min_tokens: int
    lifetime_seconds: float
    _expiries: dict[int, float] = field(default_factory=dict)

    def use(self, segments: Sequence[Segment], now: float) -> CacheUse:
        """Read and write as one request at `now` does."""
        ends, keys = _prefixes(segments)
        marks = [index for index, segment in enumerate(segments) if segment.is_marked]
        if len(marks) > MAX_MARKS:
            raise ValueError(f"{len(marks)} marks; the provider accepts {MAX_MARKS}")
        hit = -1
        for mark in marks:
            for index in range(mark, max(mark - LOOK_BACK_BLOCKS, -1), -1):
                if self._expiries.get(keys[index], -1.0) >= now:
                    hit = max(hit, index)
                    break
        read = ends[hit] if hit >= 0 else 0
        kept = [mark for mark in marks if ends[mark] >= self.min_tokens]
        for index in [*kept, *([hit] if hit >= 0 else [])]:
            self._expiries[keys[index]] = now + self.lifetime_seconds
        end = max([read, *(ends[mark] for mark in kept)])
        return CacheUse(read, end - read, (ends[-1] if ends else 0) - end)


@dataclass
class PrefixCache:
    """A cache of the longest prefix shared with the previous request."""

    min_tokens: int
    lifetime_seconds: float
    step_tokens: int = 1
    _previous: list[int] = field(default_factory=list)
    _expiry: float = -1.0

    def use(self, segments: Sequence[Segment], now: float) -> CacheUse:
        """Read and write as one request at `now` does."""
        ends, keys = _prefixes(segments)
        shared = 0
        if self._expiry >= now:
            for old, new, end in zip(self._previous, keys, ends, strict=False):
                if old != new:
                    break
                shared = end
        read = shared // self.step_tokens * self.step_tokens if shared >= self.min_tokens else 0
        self._previous, self._expiry = keys, now + self.lifetime_seconds
        return CacheUse(read, 0, (ends[-1] if ends else 0) - read)


def _prefixes(segments: Sequence[Segment]) -> tuple[list[int], list[int]]:
    """Return the tokens up to the end of each segment, and a key of all that precedes it."""
    ends, keys, total, key = [], [], 0, 0
    for segment in segments:
        total, key = total + segment.tokens, hash((key, segment.identity))
        ends.append(total)
        keys.append(key)
    return ends, keys


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices in US dollars per million tokens, from litellm's table, and how the provider's cache works."""

    name: str
    model: str
    input: float
    cache_read: float
    cache_write: float
    summary_input: float
    summary_output: float

    def new_cache(self) -> MarkedCache | PrefixCache:
        """Return an empty cache of this provider."""
        cache = find_dialect(self.model).cache
        if cache is None:
            raise ValueError(f"{self.model} has no cache")
        return new_cache(cache, self.model)


def new_cache(cache: PromptCache, model: str) -> MarkedCache | PrefixCache:
    """Return an empty cache as the dialect table describes it, with its default lifetime."""
    lifetime = next(iter(cache.lifetimes_seconds.values()))
    if cache.max_marks:
        return MarkedCache(cache.min_tokens_for(model), lifetime)
    step = OPENAI_STEP_TOKENS if model.startswith("openai/") else 1
    return PrefixCache(cache.min_tokens_for(model), lifetime, step)


CLAUDE = PriceList("Claude Sonnet 4.5, Haiku 4.5", "anthropic/claude-sonnet-4-5", 3.0, 0.3, 3.75, 1.0, 5.0)
PRICE_LISTS = (
    CLAUDE,
    PriceList("GPT-5, GPT-5 mini", "openai/gpt-5", 1.25, 0.125, 1.25, 0.25, 2.0),
    PriceList("Gemini 2.5 Pro, Flash", "gemini/gemini-2.5-pro", 1.25, 0.125, 1.25, 0.3, 2.5),
)
"""The model of the conversation, and the one that summarizes."""
