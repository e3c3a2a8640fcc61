"""The real engine in a workload: a `MnesisSession`, its own windows, a scripted summariser.

Every message carries the workload's token count, so that windows are as large as the peers'. A request's segments are
the messages of `session.window()`: identity is what is sent, tokens are what the engine counts.

A background fold takes as long as its model calls do. Here it lands before the next request but one after the answer that
set it off (`lag_requests` 1); a request that would not fit waits for it, as the engine makes it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.cache.score import Score, Segment
from benchmarks.cache.workload import Piece, Workload
from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession, TokenUsage
from mnesis.formats.openai import chat_message
from mnesis.ids import new_id
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import Message, MessagePart, TextPart, ToolPart, ToolResultPart
from mnesis.tokens import TokenEstimator

# Each counts as one token wherever it stands, with tiktoken's tables and without.
_TEXT = (
    "old new big red low far sun sea map key box car dog cat tree road time work home book line name hand part place"
    " case week world house point water room fact month night money story job word side kind head door law game end"
)
WORDS = _TEXT.split()
LEAF_TOKENS = 1_200
CONDENSED_TOKENS = 800
MESSAGE_OVERHEAD = 4
SUMMARY_SOURCE = "Summary: "


@dataclass(frozen=True, slots=True)
class Settings:
    """How the engine is set up. `usable_tokens` is the hard threshold: no request is larger.

    With `asked` the summariser answers at the length it was asked for; else a twelfth of what it read (a third of
    summaries), at least 1,200 (800) tokens, as far as it was allowed.
    """

    usable_tokens: int
    compaction: CompactionConfig
    lag_requests: int = 1
    asked: bool = False

    def config(self) -> MnesisConfig:
        """A model whose window leaves exactly `usable_tokens`."""
        output = self.usable_tokens // 4
        limits = {
            "context_limit": self.usable_tokens + output + self.compaction.compaction_output_budget,
            "max_output_tokens": output,
            "encoding": "o200k_base",
        }
        return MnesisConfig.model_validate({"compaction": self.compaction, "model_overrides": limits})


class Summariser:
    """Answers with words, as many as wanted; held back until `gate` is set. Keeps account of what it read and wrote."""

    def __init__(self, asked: bool) -> None:
        self.gate = asyncio.Event()
        self.read = self.written = 0
        self._asked = asked
        self._words = random.Random(7)
        self._count = TokenEstimator(encoding="o200k_base").estimate

    async def complete(self, request: LLMRequest) -> LLMReply:
        """A summary of a known number of tokens."""
        await self.gate.wait()
        record = request.messages[-1]["content"]
        source = self._count(record)
        most = request.max_output_tokens or source
        tokens = min(self._wanted(record, source), most, max(source // 2, 1))
        read = source + self._count(request.messages[0]["content"])
        self.read += read
        self.written += tokens
        text = " ".join(self._words.choices(WORDS, k=tokens))
        return LLMReply(text=text, usage=TokenUsage(input=read, output=tokens))

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMReply]:
        """The whole answer; summaries are never streamed."""
        yield await self.complete(request)

    def _wanted(self, record: str, source: int) -> int:
        if self._asked:
            return int(int(record.rsplit(" words.", 1)[0].rsplit(" ", 1)[1]) / 0.6)
        condensing = SUMMARY_SOURCE in record[:200]
        return max(CONDENSED_TOKENS, source // 3) if condensing else max(LEAF_TOKENS, source // 12)


@dataclass
class EngineRun:
    """One conversation with the engine; `add` and `ask` as the peers have them."""

    session: MnesisSession
    summariser: Summariser
    lag_requests: int
    score: Score
    serial: int = 0
    waited: int = 0

    async def add(self, pieces: Sequence[Piece]) -> None:
        """Append messages as an agent loop does: each step's call and output together."""
        if not pieces:
            return
        ends_turn = pieces[-1].kind == "assistant"
        await self.session.append(self._messages(pieces), ends_turn=ends_turn)

    async def ask(self) -> None:
        """One request, as large as the engine makes it."""
        await self._land_fold()
        window = await self.session.window()
        segments = [Segment(json.dumps(chat_message(m)), m.token_count) for m in window.messages]
        self.score.add([Segment("system", window.system_tokens), *segments])
        self.score.summariser_input, self.score.summariser_output = self.summariser.read, self.summariser.written

    async def _land_fold(self) -> None:
        session = self.session
        due = self.waited >= self.lag_requests or session.context_tokens >= session.budget.usable_tokens
        if not session.compaction_in_progress:
            self.waited = 0
        elif due:
            self.summariser.gate.set()
            while session.compaction_in_progress:  # noqa: ASYNC110 - no event tells of a sweep that found nothing
                await asyncio.sleep(0.001)
            self.waited = 0
        else:
            self.waited += 1
        if session.context_tokens >= session.budget.usable_tokens:
            self.summariser.gate.set()
        else:
            self.summariser.gate.clear()

    def _messages(self, pieces: Sequence[Piece]) -> list[Message]:
        made, call_id = [], ""
        for piece in pieces:
            self.serial += 1
            role = "assistant" if piece.kind == "call" else piece.kind
            part, call_id = self._part(piece, call_id)
            outputs = piece.tokens if piece.kind == "tool" else 0
            made.append(
                Message.model_validate(
                    {
                        "id": new_id("msg"),
                        "role": role,
                        "parts": (part,),
                        "token_count": piece.tokens,
                        "tool_tokens": outputs,
                    }
                )
            )
        return made

    def _part(self, piece: Piece, call_id: str) -> tuple[MessagePart, str]:
        text = words(piece.tokens - MESSAGE_OVERHEAD, self.serial)
        if piece.kind == "call":
            call_id = f"call_{self.serial}"
            return ToolPart(tool_name="read", tool_call_id=call_id, input={"path": text}), call_id
        if piece.kind == "tool":
            return ToolResultPart(tool_call_id=call_id, tool_name="read", output=words(piece.tokens, self.serial)), ""
        return TextPart(text=text), call_id


def words(tokens: int, serial: int) -> str:
    """A text of that many tokens (one at least)."""
    start = serial % len(WORDS)
    return " ".join(WORDS[(start + place) % len(WORDS)] for place in range(max(tokens, 1)))


@asynccontextmanager
async def engine_run(workload: Workload, settings: Settings) -> AsyncIterator[EngineRun]:
    """A fresh session of the workload in memory."""
    summariser = Summariser(settings.asked)
    async with (
        Engine(":memory:", config=settings.config(), llm=summariser) as engine,
        MnesisSession.open(
            model="openai/gpt-4o", engine=engine, system_prompt=words(workload.system_tokens - MESSAGE_OVERHEAD, 0)
        ) as session,
    ):
        run = EngineRun(session, summariser, settings.lag_requests, Score())
        yield run
        summariser.gate.set()
