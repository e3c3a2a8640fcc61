"""Anthropic's prompt cache: the rendered prompt, the entries, and the price of the input.

The cache follows the documentation (`CACHE_GUIDE` in `anthropic_subject`): explicit and automatic marks, a prefix
hash over tools, system and messages, a look-back of 20 positions, a minimum length for each model, 5 minutes or 1 hour measured
from the start of the request that wrote or last read the entry.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.providers.anthropic_subject import THINKING_TYPES, block_ids
from tests.support.providers.strict_server import Json, blocks_of, count_tokens, dump

# CACHE_GUIDE, "20-block lookback window". The documentation page counts a run of consecutive tool_use blocks, and a run of
# consecutive tool_result blocks, as one position (platform.claude.com, prompt caching; quoted by two public repositories).
LOOK_BACK_POSITIONS = 20
LIFETIME_SECONDS = {"5m": 300, "1h": 3600}
READ_FACTOR = 0.1  # of the input price; CACHE_GUIDE, "Economics"
WRITE_FACTORS = {"5m": 1.25, "1h": 2.0}
# CACHE_GUIDE, "Minimum cacheable prefix"; the first match counts.
MIN_CACHEABLE_TOKENS = (
    (r"opus-5|fable-5-1|mythos-5-1", 512),
    (r"opus-4-7|mythos-preview|haiku-3|3-5-haiku|3-haiku", 2048),
    (r"opus-4-[56]|haiku-4-5", 4096),
    (r"", 1024),
)
# CACHE_GUIDE, "Thinking blocks and the messages cache": these keep the thinking of earlier turns in the prompt.
KEEPS_THINKING = re.compile(r"opus-4-[5-9]|opus-5|sonnet-4-[6-9]|sonnet-5|fable|mythos")


@dataclass
class Prompt:
    """The rendered prompt: for each block its kind, prefix hash, tokens up to its end, and cache mark."""

    kinds: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    ttls: dict[int, str] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.ends[-1] if self.ends else 0

    def add(self, salt: str, block: Json) -> None:
        text = dump({name: value for name, value in block.items() if name != "cache_control"})
        earlier = self.hashes[-1] if self.hashes else ""
        self.hashes.append(hashlib.sha256(f"{earlier}\n{salt}\n{text}".encode()).hexdigest())
        self.ends.append(self.tokens + count_tokens(text))
        self.kinds.append(str(block.get("type")))
        if mark := block.get("cache_control"):
            self.ttls[len(self.ends) - 1] = mark.get("ttl", "5m")


def render(body: Json, turns: list[tuple[str, list[Json]]]) -> Prompt:
    """Render tools, system and messages, each tier with the parameters that invalidate it."""
    prompt = Prompt()
    for tool in body.get("tools") or []:
        prompt.add(f"tools {body.get('model')}", tool)
    for block in blocks_of(body.get("system")):
        prompt.add(f"system {body.get('model')}", block)
    has_image = any(block.get("type") == "image" for _, blocks in turns for block in blocks)
    settings = dump([body.get("tool_choice"), body.get("thinking"), body.get("output_config"), has_image])
    for role, block in _visible(body, turns):
        prompt.add(f"messages {body.get('model')} {settings} {role}", block)
    _mark_automatically(body, prompt)
    return prompt


def _visible(body: Json, turns: list[tuple[str, list[Json]]]) -> Iterator[tuple[str, Json]]:
    """Yield the blocks that the model sees: the API removes thinking that the model does not use."""
    is_on = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    user_turns = [
        i for i, (role, blocks) in enumerate(turns) if role == "user" and not block_ids(blocks, "tool_result", "type")
    ]
    keeps_all = bool(KEEPS_THINKING.search(str(body.get("model"))))
    for index, (role, blocks) in enumerate(turns):
        keeps = is_on and (keeps_all or index > (user_turns[-1] if user_turns else -1))
        yield from ((role, block) for block in blocks if keeps or block.get("type") not in THINKING_TYPES)


def _mark_automatically(body: Json, prompt: Prompt) -> None:
    """Place the mark of a top-level `cache_control` on the last block that can carry one."""
    if not (automatic := body.get("cache_control")):
        return
    for index in range(len(prompt.kinds) - 1, -1, -1):
        if prompt.kinds[index] not in THINKING_TYPES:
            prompt.ttls.setdefault(index, automatic.get("ttl", "5m"))
            return


class PromptCache:
    """Entries by prefix hash, written at marks and found by looking back from marks.

    That a request also refreshes the entries at its shorter marks is an assumption; the sources speak of reads only.
    """

    def __init__(self) -> None:
        self._expiries: dict[str, float] = {}
        self._lifetimes: dict[str, int] = {}

    def use(self, prompt: Prompt, min_tokens: int, now: float) -> Json:
        """Read and write as one request does. Returns Anthropic's usage fields for the input."""
        hit = max((index for mark in prompt.ttls if (index := self._find(prompt, mark, now)) is not None), default=None)
        read = 0 if hit is None else prompt.ends[hit]
        if hit is not None:
            self._refresh(prompt.hashes[hit], now)
        write_tokens, end = {"5m": 0, "1h": 0}, read
        for mark, ttl in sorted(prompt.ttls.items()):
            if prompt.ends[mark] <= end:
                self._refresh(prompt.hashes[mark], now)
                continue
            if prompt.ends[mark] < min_tokens:
                continue
            self._write(prompt.hashes[mark], LIFETIME_SECONDS[ttl], now)
            write_tokens[ttl] += prompt.ends[mark] - end
            end = prompt.ends[mark]
        return {
            "input_tokens": prompt.tokens - end,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": sum(write_tokens.values()),
            "cache_creation": {f"ephemeral_{ttl}_input_tokens": tokens for ttl, tokens in write_tokens.items()},
        }

    def _write(self, prefix: str, lifetime_seconds: int, now: float) -> None:
        self._expiries[prefix], self._lifetimes[prefix] = now + lifetime_seconds, lifetime_seconds

    def _refresh(self, prefix: str, now: float) -> None:
        """Start the lifetime of a live entry again, as a read does."""
        if self._expiries.get(prefix, -1.0) > now:
            self._write(prefix, self._lifetimes[prefix], now)

    def _find(self, prompt: Prompt, mark: int, now: float) -> int | None:
        """Look back over 20 positions, the mark's own included. A run of tool calls or of results is one position."""
        positions, previous = 0, ""
        for index in range(mark, -1, -1):
            kind = prompt.kinds[index]
            if not (kind == previous and kind in ("tool_use", "tool_result")):
                positions += 1
            if positions > LOOK_BACK_POSITIONS:
                return None
            if self._expiries.get(prompt.hashes[index], -1.0) > now:
                return index
            previous = kind
        return None


def min_cacheable_tokens(model: str) -> int:
    return next(tokens for pattern, tokens in MIN_CACHEABLE_TOKENS if re.search(pattern, model))


def input_cost(usage: Json, token_price: float) -> float:
    """Price the input of one usage report: reads at a tenth, writes with their premium."""
    written = usage["cache_creation"]
    weighted = usage["input_tokens"] + READ_FACTOR * usage["cache_read_input_tokens"]
    weighted += sum(factor * written[f"ephemeral_{ttl}_input_tokens"] for ttl, factor in WRITE_FACTORS.items())
    return float(weighted * token_price)
