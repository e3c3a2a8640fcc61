"""Replays a conversation through a session without any model, and checks what came of it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnesis.config import CompactionConfig, MnesisConfig, ModelOverrides
from mnesis.demo.conversation import EARLY_FACT, EARLY_FACT_WORD, SYSTEM_PROMPT, DemoTurn
from mnesis.engine.engine import Engine
from mnesis.llm.no_model import NoModel
from mnesis.models.context import Budget, Window
from mnesis.models.message import Message, MessagePart, TextPart
from mnesis.models.results import CompactionResult
from mnesis.session.session import MnesisSession

MODEL = "demo/no-model"
CONTEXT_LIMIT_TOKENS = 24_000
NO_MODEL = "no model is called: the summaries are extracts, picked by rules from what they stand for (level 3)"


@dataclass(frozen=True, slots=True)
class View:
    """What the model would be sent at one moment."""

    turn: int
    messages: int
    summaries: int
    tokens: int
    first_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """The context after a turn, before and after a compaction that the turn set off."""

    turn: int
    context_tokens: int
    settled_tokens: int
    compactions: tuple[CompactionResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """An old message reached from a summary in the context: the summaries on the way down, and the message."""

    path: tuple[str, ...]
    seq: int
    text: str
    named_in_summaries: bool


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and whether it held."""

    name: str
    held: bool
    detail: str


@dataclass
class DemoReport:
    """Everything a replay showed."""

    session_id: str
    db_path: str
    turns: int
    characters: int
    budget: Budget
    samples: list[Sample] = field(default_factory=list)
    before: View | None = None
    after: View | None = None
    found: Found | None = None
    checks: list[Check] = field(default_factory=list)
    elapsed_seconds: float = 0.0

    @property
    def compactions(self) -> list[CompactionResult]:
        """Every compaction of the replay, oldest first."""
        return [result for sample in self.samples for result in sample.compactions]

    @property
    def summariser(self) -> str:
        """Who wrote the summaries, as their levels tell."""
        levels = {result.level_used for result in self.compactions} - {0, 3}
        return (
            f"summaries of levels {sorted(levels)} came from a mock of a model: MNESIS_MOCK_LLM is set"
            if levels
            else NO_MODEL
        )

    @property
    def all_held(self) -> bool:
        """Whether every check held."""
        return all(check.held for check in self.checks)


def demo_config() -> MnesisConfig:
    """A small window, so that a conversation of a few hundred turns overflows it many times."""
    return MnesisConfig(
        model_overrides=ModelOverrides(context_limit=CONTEXT_LIMIT_TOKENS, max_output_tokens=2_000),
        compaction=CompactionConfig(
            compaction_output_budget=2_000, prune_protect_tokens=4_000, prune_minimum_tokens=1_000
        ),
    )


async def replay(turns: Sequence[DemoTurn], db_path: Path, on_turn: Callable[[int], None]) -> DemoReport:
    """Record every turn into a new session of the database, then check the outcome. `on_turn` hears of each turn."""
    started = time.monotonic()
    async with (
        Engine(db_path, config=demo_config(), llm=NoModel()) as engine,
        MnesisSession.open(model=MODEL, system_prompt=SYSTEM_PROMPT, engine=engine) as session,
    ):
        await engine.store.update_session(session.id, title="mnesis demo")
        report = DemoReport(session.id, str(db_path), len(turns), _characters(turns), session.budget)
        largest = await _record_all(session, engine, turns, report, on_turn)
        report.found = await find_original(session, EARLY_FACT_WORD)
        report.checks = [
            _fits(largest, session.budget),
            *_same_log(turns, await session.messages()),
            await _all_reachable(session),
            *_fact_found(turns, report.found),
            await _intact(engine, session.id),
        ]
    report.elapsed_seconds = time.monotonic() - started
    return report


async def _record_all(
    session: MnesisSession,
    engine: Engine,
    turns: Sequence[DemoTurn],
    report: DemoReport,
    on_turn: Callable[[int], None],
) -> int:
    """Record the turns one by one; returns the tokens of the largest window seen."""
    known, largest = 0, 0
    window = await session.window()
    for number, turn in enumerate(turns, start=1):
        await session.record(turn.user, turn.assistant)
        tokens, full = session.context_tokens, await session.window()
        await engine.finish()
        done = await session.compactions()
        new, known = tuple(done[known:]), len(done)
        settled = await session.window() if new else full
        if any(result.summary_ids for result in new) and report.before is None:
            report.before, report.after = _view(number, full), _view(number, settled)
        largest = max(largest, full.tokens, settled.tokens, window.tokens)
        report.samples.append(Sample(number, tokens, session.context_tokens, new))
        on_turn(number)
    return largest


def _view(turn: int, window: Window) -> View:
    return View(
        turn=turn,
        messages=len(window.messages),
        summaries=sum(message.is_summary for message in window.messages),
        tokens=window.tokens,
        first_lines=tuple(f"{_role(message)}: {_first_line(message)}" for message in window.messages[:4]),
    )


def _role(message: Message) -> str:
    return "summary" if message.is_summary else message.role


def _first_line(message: Message) -> str:
    said = next((part.text for part in message.parts if isinstance(part, TextPart)), "")
    lines = [line for line in said.splitlines() if line.strip()]
    shown = 1 if message.is_summary and len(lines) > 1 else 0
    return lines[shown] if lines else "(tool calls)"


async def find_original(session: MnesisSession, word: str) -> Found | None:
    """The oldest original message with `word` behind the summaries of the context: down through the children, then read."""
    window = await session.window()
    named = any(word in message.text_content() for message in window.messages if message.is_summary)
    for top in (message.id for message in window.messages if message.is_summary):
        path = [top]
        while (seq_text := await _original(session, path[-1], word)) is not None:
            child = await _child_with(session, path[-1], word)
            if child is None:
                return Found(tuple(path), *seq_text, named_in_summaries=named)
            path.append(child)
    message = next((m for m in window.messages if word in m.text_content()), None)
    return Found((), message.seq, message.text_content(), named) if message else None


async def _child_with(session: MnesisSession, summary_id: str, word: str) -> str | None:
    for child in (await session.expand(summary_id, children=True)).summaries:
        if await _original(session, child.id, word) is not None:
            return child.id
    return None


async def _original(session: MnesisSession, summary_id: str, word: str) -> tuple[int, str] | None:
    async for message in originals(session, summary_id):
        if word in message.text_content():
            return message.seq, message.text_content()
    return None


async def originals(session: MnesisSession, summary_id: str) -> AsyncIterator[Message]:
    """Every message behind a summary, in order."""
    cursor: str | None = None
    while True:
        page = await session.expand(summary_id, cursor=cursor, limit=100)
        for message in page.messages:
            yield message
        cursor = page.next_cursor
        if cursor is None:
            return


def _fits(largest: int, budget: Budget) -> Check:
    detail = f"the largest had {largest:,} of {budget.usable_tokens:,} tokens"
    return Check("every window fits", largest <= budget.usable_tokens, detail)


def _same_log(turns: Sequence[DemoTurn], log: Sequence[Message]) -> list[Check]:
    expected = _script(turns)
    found = [(message.role, list(message.parts)) for message in log]
    differing = sum(a != b for a, b in zip(expected, found, strict=False))
    told, kept = digest(expected), digest(found)
    return [
        Check("every message is there", len(found) == len(expected), f"{len(found):,} of {len(expected):,}"),
        Check("every message is as it was", differing == 0 and bool(found), f"{differing:,} differ"),
        Check("the log is the script, byte for byte", told == kept, f"sha256 {kept[:16]}… = {told[:16]}…"),
    ]


def _script(turns: Sequence[DemoTurn]) -> list[tuple[str, list[MessagePart]]]:
    pairs: list[tuple[str, list[MessagePart]]] = []
    for turn in turns:
        pairs += [("user", [TextPart(text=turn.user)]), ("assistant", turn.assistant)]
    return pairs


def digest(messages: Sequence[tuple[str, list[MessagePart]]]) -> str:
    """The SHA-256 over roles and parts of messages, in hexadecimal."""
    whole = hashlib.sha256()
    for role, parts in messages:
        whole.update(json.dumps([role, [part.model_dump() for part in parts]], sort_keys=True).encode())
    return whole.hexdigest()


async def _all_reachable(session: MnesisSession) -> Check:
    """What stands in the context, and what its summaries stand for, is the whole log."""
    log = {message.seq: message async for message in session.iter_messages()}
    reached: set[int] = set()
    for item in (await session.window()).messages:
        if not item.is_summary:
            reached.add(item.seq)
            continue
        reached |= {message.seq async for message in originals(session, item.id) if message == log[message.seq]}
    name = "every message can be reached from the context, exact"
    return Check(name, reached == set(log), f"{len(reached):,} of {len(log):,}")


def _fact_found(turns: Sequence[DemoTurn], found: Found | None) -> Iterator[Check]:
    """Whether the fact was found, where it was said at all."""
    if not any(EARLY_FACT_WORD in turn.user for turn in turns):
        return
    held = found is not None and EARLY_FACT in found.text
    yield Check("a fact of turn 3 is found again", held, f"in message {found.seq}" if found else "not found")


async def _intact(engine: Engine, session_id: str) -> Check:
    findings = [f for f in await engine.store.check(session_id=session_id) if f.severity != "ok"]
    detail = "; ".join(finding.detail for finding in findings) or "hashes, edges, covers and counts agree"
    return Check("the database is intact", not findings, detail)


def _characters(turns: Sequence[DemoTurn]) -> int:
    return sum(
        len(part.model_dump_json()) if part.type != "text" else len(part.text) for t in turns for part in t.assistant
    ) + sum(len(turn.user) for turn in turns)
