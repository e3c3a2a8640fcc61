"""The real engine on a workload: a `MnesisSession`, its own windows, a scripted summariser.

Every message has the workload's token count, so that windows are as large as the peers'. A request's segments are the
messages of `session.window()`: identity is the bytes sent, tokens are the engine's count.

A background fold takes as long as its model calls. Here it completes before the next request but one after the answer that
triggered it (`lag_requests` 1). A request that does not fit waits for it, as the engine requires.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.cache.cache_score import Score, Segment
from benchmarks.cache.workload import Piece, Workload
from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession, TokenUsage
from mnesis.formats.openai import chat_message
from mnesis.ids import new_id
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.models.message import Message, MessagePart, TextPart, ToolPart, ToolResultPart
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


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the engine. `usable_tokens` is the hard threshold: no request is larger.

    With `uses_requested_length` the summariser answers at the requested length. Otherwise a summary has a twelfth of the
    tokens it read (a third for summaries of summaries), at least 1,200 (800), within the allowed maximum.
    """

    usable_tokens: int
    compaction: CompactionConfig
    lag_requests: int = 1
    uses_requested_length: bool = False

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
        return MnesisConfig.model_validate({"compaction": self.compaction, "model_overrides": limits})


class Summariser:
    """A model that answers with a chosen number of words once `gate` is set. Counts the tokens it read and wrote."""

    def __init__(self, uses_requested_length: bool) -> None:
        self.gate = asyncio.Event()
        self.read = self.written = 0
        self._uses_requested_length = uses_requested_length
        self._words = random.Random(7)
        self._count = TokenEstimator(encoding="o200k_base").estimate

    async def complete(self, request: LLMRequest) -> LLMReply:
        """Return a summary with a known number of tokens."""
        await self.gate.wait()
        record = request.messages[-1]["content"]
        source = self._count(record)
        tokens = min(self._target_tokens(record, source), _asked_tokens(record), max(source // 2, 1))
        read = source + self._count(request.messages[0]["content"])
        self.read += read
        self.written += tokens
        text = " ".join(self._words.choices(WORDS, k=tokens))
        return LLMReply(text=text, usage=TokenUsage(input=read, output=tokens))

    async def stream(self, request: LLMRequest) -> AsyncIterator[LLMReply]:
        """Yield the whole answer at once; summaries are never streamed."""
        yield await self.complete(request)

    def _target_tokens(self, record: str, source: int) -> int:
        if self._uses_requested_length:
            return _asked_tokens(record)
        condensing = SUMMARY_PREFIX in record[:200]
        return max(CONDENSED_TOKENS, source // 3) if condensing else max(LEAF_TOKENS, source // 12)


def _asked_tokens(record: str) -> int:
    """Return the length that the engine asks for. It asks in words, at 0.6 words per token."""
    return int(int(record.rsplit(" words.", 1)[0].rsplit(" ", 1)[1]) / 0.6)


@dataclass
class EngineRun:
    """One conversation with the engine, with the same `add` and `ask` as the peers."""

    session: MnesisSession
    summariser: Summariser
    lag_requests: int
    score: Score
    serial: int = 0
    requests_waited: int = 0

    async def add(self, pieces: Sequence[Piece]) -> None:
        """Append messages as an agent loop does: each step's call together with its output."""
        if not pieces:
            return
        ends_turn = pieces[-1].kind == "assistant"
        await self.session.append(self._messages(pieces), ends_turn=ends_turn)

    async def ask(self) -> None:
        """Make one request with the engine's window."""
        await self._finish_fold_if_due()
        window = await self.session.window()
        segments = [Segment(json.dumps(chat_message(m)), m.token_count) for m in window.messages]
        self.score.add([Segment("system", window.system_tokens), *segments])
        self.score.summariser_input, self.score.summariser_output = self.summariser.read, self.summariser.written

    async def _finish_fold_if_due(self) -> None:
        session = self.session
        due = self.requests_waited >= self.lag_requests or session.context_tokens >= session.budget.usable_tokens
        if not session.compaction_in_progress:
            self.requests_waited = 0
        elif due:
            self.summariser.gate.set()
            while session.compaction_in_progress:  # noqa: ASYNC110 - no event reports a sweep that found nothing
                await asyncio.sleep(0.001)
            self.requests_waited = 0
        else:
            self.requests_waited += 1
        if session.context_tokens >= session.budget.usable_tokens:
            self.summariser.gate.set()
        else:
            self.summariser.gate.clear()

    def _messages(self, pieces: Sequence[Piece]) -> list[Message]:
        messages, call_id = [], ""
        for piece in pieces:
            self.serial += 1
            role = "assistant" if piece.kind == "call" else piece.kind
            part, call_id = self._part(piece, call_id)
            outputs = piece.tokens if piece.kind == "tool" else 0
            messages.append(
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
        return messages

    def _part(self, piece: Piece, call_id: str) -> tuple[MessagePart, str]:
        text = make_text(piece.tokens - MESSAGE_OVERHEAD_TOKENS, self.serial)
        if piece.kind == "call":
            call_id = f"call_{self.serial}"
            return ToolPart(tool_name="read", tool_call_id=call_id, input={"path": text}), call_id
        if piece.kind == "tool":
            return ToolResultPart(
                tool_call_id=call_id, tool_name="read", output=make_text(piece.tokens, self.serial)
            ), ""
        return TextPart(text=text), call_id


def make_text(tokens: int, serial: int) -> str:
    """Return a text of `tokens` tokens, at least one."""
    start = serial % len(WORDS)
    return " ".join(WORDS[(start + place) % len(WORDS)] for place in range(max(tokens, 1)))


@asynccontextmanager
async def engine_run(workload: Workload, settings: Settings) -> AsyncIterator[EngineRun]:
    """Open a new in-memory session for a workload."""
    summariser = Summariser(settings.uses_requested_length)
    async with (
        Engine(":memory:", config=settings.config(), llm=summariser) as engine,
        MnesisSession.open(
            model="openai/gpt-4o",
            engine=engine,
            system_prompt=make_text(workload.system_tokens - MESSAGE_OVERHEAD_TOKENS, 0),
        ) as session,
    ):
        run = EngineRun(session, summariser, settings.lag_requests, Score())
        yield run
        summariser.gate.set()
