"""The real engine on a workload: `MnesisSession.send()` with tools and a scripted model, its own windows and cache marks.

A request's segments are its tool definitions and messages, as the model receives them. Identity is the bytes sent without
marks, tokens are the engine's count. The model reports what Claude's cache would have done. The clock is the workload's. A
background fold completes before the next turn; one that a request must wait for completes before that request. Tool outputs
stay in the log, however long, so that the peers see the same conversation.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cache.cache_score import Score
from benchmarks.cache.provider_cache import CLAUDE, Segment
from benchmarks.cache.workload import STEP_SECONDS, Piece, Turn, Workload
from mnesis import CompactionConfig, Engine, FileConfig, MnesisConfig, MnesisSession, RecallConfig, TokenUsage
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import ToolPart
from mnesis.tokens import TokenEstimator

# Each word is one token in any position, with tiktoken's tables and without.
_TEXT = (
    "old new big red low far sun sea map key box car dog cat tree road time work home book line name hand part place"
    " case week world house point water room fact month night money story job word side kind head door law game end"
)
WORDS = _TEXT.split()
LEAF_TOKENS = 1_200
CONDENSED_TOKENS = 800
MESSAGE_OVERHEAD_TOKENS = 4
SUMMARY_PREFIX = "Summary: "
EPOCH_SECONDS = 1_750_000_000.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the engine. `usable_tokens` is the hard threshold: no request is larger, tools included."""

    usable_tokens: int
    compaction: CompactionConfig

    def config(self) -> MnesisConfig:
        """Return a configuration with exactly `usable_tokens` usable tokens."""
        output = self.usable_tokens // 4
        limits = {
            # Reserves above three eighths of the window are scaled down to it.
            "context_limit": min(
                self.usable_tokens + output + self.compaction.compaction_output_budget, int(self.usable_tokens / 0.625)
            ),
            "max_output_tokens": output,
            "encoding": "o200k_base",
        }
        return MnesisConfig.model_validate(
            {
                "compaction": self.compaction,
                "model_overrides": limits,
                "file": FileConfig(inline_threshold=1_000_000),
                "recall": RecallConfig(tools=False),
            }
        )


class ScriptedModel:
    """The conversation's model and its summariser. Scores each request.

    A summary has a twelfth of the tokens it read (a third for summaries of summaries), at least 1,200 (800), within the
    allowed maximum.
    """

    accepts_cache_marks = True

    def __init__(self, score: Score) -> None:
        self.score = score
        self.replies: list[LLMReply] = []
        self._words = random.Random(7)
        self._count = TokenEstimator(encoding="o200k_base").estimate
        self._sizes: dict[str, int] = {}

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Return the next scripted reply, or a summary with a known number of tokens."""
        if request.purpose == "summary":
            return self._summarize(request)
        definitions = json.dumps(list(request.tools))
        tools = [Segment(definitions, self._size(definitions))]
        segments = [*(tools if request.tools else []), *(self._segment(message) for message in request.messages)]
        use = self.score.add(segments)
        self.score.seconds += STEP_SECONDS
        reply = self.replies.pop(0)
        usage = TokenUsage(
            input=use.uncached, cache_read=use.read, cache_write=use.written, output=self._size(str(reply))
        )
        return LLMReply(text=reply.text, tool_calls=reply.tool_calls, usage=usage)

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMReply]:
        """Yield the whole answer at once."""
        yield await self.complete(request)

    def _summarize(self, request: LLMRequest) -> LLMReply:
        prompt = json.dumps(list(request.messages))
        read = self._count(prompt)
        condensing = SUMMARY_PREFIX in str(request.messages[-1]["content"])[:400]
        target = max(CONDENSED_TOKENS, read // 3) if condensing else max(LEAF_TOKENS, read // 12)
        tokens = min(target, _requested_tokens(prompt), max(read // 2, 1))
        self.score.summariser_input += read
        self.score.summariser_output += tokens
        text = " ".join(self._words.choices(WORDS, k=tokens))
        return LLMReply(text=text, usage=TokenUsage(input=read, output=tokens))

    def _segment(self, message: Mapping[str, Any]) -> Segment:
        plain = _without_marks(message)
        arguments = [call["function"]["arguments"] for call in plain.get("tool_calls") or ()]
        tokens = sum(self._size(text) for text in [str(plain["content"] or ""), *arguments]) + MESSAGE_OVERHEAD_TOKENS
        return Segment(json.dumps(plain), tokens, is_marked="cache_control" in json.dumps(message))

    def _size(self, text: str) -> int:
        if text not in self._sizes:
            self._sizes[text] = self._count(text)
        return self._sizes[text]


def _requested_tokens(prompt: str) -> int:
    """Return the largest number of tokens that the prompt allows: it asks for words, of which each is a token here."""
    return int(re.findall(r"([\d,]+) words", prompt)[-1].replace(",", ""))


def _without_marks(value: Any) -> Any:
    """Return a message without marks. A text of one block is the same as the block."""
    if isinstance(value, list):
        blocks = [_without_marks(each) for each in value]
        is_text = len(blocks) == 1 and isinstance(blocks[0], dict) and set(blocks[0]) == {"type", "text"}
        return blocks[0]["text"] if is_text else blocks
    if isinstance(value, Mapping):
        return {key: _without_marks(each) for key, each in value.items() if key != "cache_control"}
    return value


@dataclass
class EngineRun:
    """One conversation with the engine, with the same `run_turn` as the peers."""

    session: MnesisSession
    model: ScriptedModel
    tools: Sequence[Callable[..., Any]]
    score: Score
    outputs: list[str] = field(default_factory=list)
    serial: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000_000)))

    async def run_turn(self, turn: Turn) -> None:
        """Send the user's message, and let the scripted model call tools and answer."""
        self.score.seconds += turn.pause_seconds
        for call, output in turn.steps:
            number = next(self.serial)
            part = ToolPart(
                tool_name="read", tool_call_id=f"call_{number}", input={"path": make_text(call.tokens, number)}
            )
            self.model.replies.append(LLMReply(tool_calls=(part,)))
            self.outputs.append(make_text(output.tokens, number))
        self.model.replies.append(LLMReply(text=self._text(turn.answer)))
        await self.session.send(self._text(turn.user), tools=list(self.tools))
        while self.session.compaction_in_progress:  # noqa: ASYNC110 - no event reports a sweep that found nothing
            await asyncio.sleep(0.001)

    def _text(self, piece: Piece) -> str:
        return make_text(piece.tokens - MESSAGE_OVERHEAD_TOKENS, next(self.serial))


def make_text(tokens: int, serial: int) -> str:
    """Return a text of `tokens` tokens, at least one."""
    start = serial % len(WORDS)
    return " ".join(WORDS[(start + place) % len(WORDS)] for place in range(max(tokens, 1)))


def make_tools(run_outputs: list[str], tokens: int) -> list[Callable[..., Any]]:
    """Return a tool that returns the scripted outputs, and whose description has about `tokens` tokens. None for 0."""
    if not tokens:
        return []

    def read(path: str) -> str:
        return run_outputs.pop(0)

    read.__doc__ = make_text(tokens - 40, 1)
    return [read]


@asynccontextmanager
async def engine_run(workload: Workload, settings: Settings) -> AsyncIterator[EngineRun]:
    """Open a new in-memory session for a workload."""
    score = Score()
    model = ScriptedModel(score)
    outputs: list[str] = []
    clock = lambda: EPOCH_SECONDS + score.seconds  # noqa: E731 - a closure, named for what it is
    async with (
        Engine(":memory:", config=settings.config(), llm=model, clock=clock) as engine,
        MnesisSession.open(
            model=CLAUDE.model,
            engine=engine,
            system_prompt=make_text(workload.system_tokens - MESSAGE_OVERHEAD_TOKENS, 0),
        ) as session,
    ):
        yield EngineRun(session, model, make_tools(outputs, workload.tool_tokens), score, outputs)
