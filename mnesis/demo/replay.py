"""Replay of a conversation through a session without a model, and checks of the result."""

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
NO_MODEL_NOTE = "no model is called: the summaries are extracts of the messages they replace, chosen by rules (level 3)"


@dataclass(frozen=True, slots=True)
class WindowSnapshot:
    """The window at one moment, as the model would receive it."""

    turn: int
    messages: int
    summaries: int
    tokens: int
    first_lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """The context tokens after a turn, before and after the compactions that the turn triggered."""

    turn: int
    context_tokens: int
    settled_tokens: int
    compactions: tuple[CompactionResult, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """An original message reached from a summary in the context. `path` are the summary ids on the way down."""

    path: tuple[str, ...]
    seq: int
    text: str
    named_in_summaries: bool


@dataclass(frozen=True, slots=True)
class Check:
    """One guarantee, and whether it was kept."""

    name: str
    held: bool
    detail: str


@dataclass
class DemoReport:
    """The results of a replay."""

    session_id: str
    db_path: str
    turns: int
    characters: int
    budget: Budget
    samples: list[Sample] = field(default_factory=list)
    before: WindowSnapshot | None = None
    after: WindowSnapshot | None = None
    early_fact: FoundMessage | None = None
    checks: list[Check] = field(default_factory=list)
    elapsed_seconds: float = 0.0

    @property
    def compactions(self) -> list[CompactionResult]:
        """Every compaction of the replay, oldest first."""
        return [result for sample in self.samples for result in sample.compactions]

    @property
    def summariser(self) -> str:
        """The writers of the summaries, derived from their levels."""
        levels = {result.level_used for result in self.compactions} - {0, 3}
        return (
            f"summaries of levels {sorted(levels)} came from a mock of a model: MNESIS_MOCK_LLM is set"
            if levels
            else NO_MODEL_NOTE
        )

    @property
    def all_held(self) -> bool:
        """Whether every check held."""
        return all(check.held for check in self.checks)


def demo_config() -> MnesisConfig:
    """Return a configuration with a small window, which a few hundred turns overflow many times."""
    return MnesisConfig(
        model_overrides=ModelOverrides(context_limit=CONTEXT_LIMIT_TOKENS, max_output_tokens=2_000),
        compaction=CompactionConfig(
            compaction_output_budget=2_000, prune_protect_tokens=4_000, prune_minimum_tokens=1_000
        ),
    )


async def replay(turns: Sequence[DemoTurn], db_path: Path, on_turn: Callable[[int], None]) -> DemoReport:
    """Record every turn in a new session of the database, then check the result.

    `on_turn` is called with the number of each turn, from 1.
    """
    start_seconds = time.monotonic()
    async with (
        Engine(db_path, config=demo_config(), llm=NoModel()) as engine,
        MnesisSession.open(model=MODEL, system_prompt=SYSTEM_PROMPT, engine=engine) as session,
    ):
        await engine.store.update_session(session.id, title="mnesis demo")
        report = DemoReport(session.id, str(db_path), len(turns), _count_characters(turns), session.budget)
        max_window_tokens = await _record_turns(session, engine, turns, report, on_turn)
        report.early_fact = await find_original(session, EARLY_FACT_WORD)
        report.checks = [
            _check_window_fits(max_window_tokens, session.budget),
            *_check_log(turns, await session.messages()),
            await _check_reachable(session),
            *_check_fact_found(turns, report.early_fact),
            await _check_integrity(engine, session.id),
        ]
    report.elapsed_seconds = time.monotonic() - start_seconds
    return report


async def _record_turns(
    session: MnesisSession,
    engine: Engine,
    turns: Sequence[DemoTurn],
    report: DemoReport,
    on_turn: Callable[[int], None],
) -> int:
    """Record the turns one by one. Returns the tokens of the largest window."""
    known_count, max_window_tokens = 0, 0
    window = await session.window()
    for number, turn in enumerate(turns, start=1):
        await session.record(turn.user, turn.assistant)
        tokens, window_before = session.context_tokens, await session.window()
        await engine.wait_for_tasks()
        compactions = await session.compactions()
        new_compactions, known_count = tuple(compactions[known_count:]), len(compactions)
        window_after = await session.window() if new_compactions else window_before
        if any(result.summary_ids for result in new_compactions) and report.before is None:
            report.before, report.after = _snapshot(number, window_before), _snapshot(number, window_after)
        max_window_tokens = max(max_window_tokens, window_before.tokens, window_after.tokens, window.tokens)
        report.samples.append(Sample(number, tokens, session.context_tokens, new_compactions))
        on_turn(number)
    return max_window_tokens


def _snapshot(turn: int, window: Window) -> WindowSnapshot:
    return WindowSnapshot(
        turn=turn,
        messages=len(window.messages),
        summaries=sum(message.is_summary for message in window.messages),
        tokens=window.tokens,
        first_lines=tuple(f"{_role(message)}: {_first_line(message)}" for message in window.messages[:4]),
    )


def _role(message: Message) -> str:
    return "summary" if message.is_summary else message.role


def _first_line(message: Message) -> str:
    text = next((part.text for part in message.parts if isinstance(part, TextPart)), "")
    lines = [line for line in text.splitlines() if line.strip()]
    index = 1 if message.is_summary and len(lines) > 1 else 0
    return lines[index] if lines else "(tool calls)"


async def find_original(session: MnesisSession, word: str) -> FoundMessage | None:
    """Find the oldest message that contains `word`, descending from the summaries in the context.

    Returns None if no message contains it.
    """
    window = await session.window()
    is_named = any(word in message.text_content() for message in window.messages if message.is_summary)
    for top in (message.id for message in window.messages if message.is_summary):
        path = [top]
        while (seq_text := await _find_word(session, path[-1], word)) is not None:
            child = await _find_child_with(session, path[-1], word)
            if child is None:
                return FoundMessage(tuple(path), *seq_text, named_in_summaries=is_named)
            path.append(child)
    message = next((m for m in window.messages if word in m.text_content()), None)
    return FoundMessage((), message.seq, message.text_content(), is_named) if message else None


async def _find_child_with(session: MnesisSession, summary_id: str, word: str) -> str | None:
    for child in (await session.expand(summary_id, children=True)).summaries:
        if await _find_word(session, child.id, word) is not None:
            return child.id
    return None


async def _find_word(session: MnesisSession, summary_id: str, word: str) -> tuple[int, str] | None:
    async for message in original_messages(session, summary_id):
        if word in message.text_content():
            return message.seq, message.text_content()
    return None


async def original_messages(session: MnesisSession, summary_id: str) -> AsyncIterator[Message]:
    """Yield every message behind a summary, in order."""
    cursor: str | None = None
    while True:
        page = await session.expand(summary_id, cursor=cursor, limit=100)
        for message in page.messages:
            yield message
        cursor = page.next_cursor
        if cursor is None:
            return


def _check_window_fits(max_window_tokens: int, budget: Budget) -> Check:
    detail = f"the largest had {max_window_tokens:,} of {budget.usable_tokens:,} tokens"
    return Check("every window fits", max_window_tokens <= budget.usable_tokens, detail)


def _check_log(turns: Sequence[DemoTurn], log: Sequence[Message]) -> list[Check]:
    expected = _expected_messages(turns)
    actual = [(message.role, list(message.parts)) for message in log]
    differing = sum(a != b for a, b in zip(expected, actual, strict=False))
    expected_digest, actual_digest = digest(expected), digest(actual)
    return [
        Check("every message is stored", len(actual) == len(expected), f"{len(actual):,} of {len(expected):,}"),
        Check("every message is unchanged", differing == 0 and bool(actual), f"{differing:,} differ"),
        Check(
            "the log is the script, byte for byte",
            expected_digest == actual_digest,
            f"sha256 {actual_digest[:16]}… = {expected_digest[:16]}…",
        ),
    ]


def _expected_messages(turns: Sequence[DemoTurn]) -> list[tuple[str, list[MessagePart]]]:
    pairs: list[tuple[str, list[MessagePart]]] = []
    for turn in turns:
        pairs += [("user", [TextPart(text=turn.user)]), ("assistant", turn.assistant)]
    return pairs


def digest(messages: Sequence[tuple[str, list[MessagePart]]]) -> str:
    """Return the SHA-256 of the roles and parts of messages, in hexadecimal."""
    hasher = hashlib.sha256()
    for role, parts in messages:
        hasher.update(json.dumps([role, [part.model_dump() for part in parts]], sort_keys=True).encode())
    return hasher.hexdigest()


async def _check_reachable(session: MnesisSession) -> Check:
    """Check that the messages in the context, and those behind its summaries, are the whole log."""
    log = {message.seq: message async for message in session.iter_messages()}
    reachable_seqs: set[int] = set()
    for item in (await session.window()).messages:
        if not item.is_summary:
            reachable_seqs.add(item.seq)
            continue
        reachable_seqs |= {
            message.seq async for message in original_messages(session, item.id) if message == log[message.seq]
        }
    name = "every message can be reached from the context, unchanged"
    return Check(name, reachable_seqs == set(log), f"{len(reachable_seqs):,} of {len(log):,}")


def _check_fact_found(turns: Sequence[DemoTurn], found: FoundMessage | None) -> Iterator[Check]:
    """Check that the fact was found, if the turns contain it."""
    if not any(EARLY_FACT_WORD in turn.user for turn in turns):
        return
    held = found is not None and EARLY_FACT in found.text
    yield Check("a fact of turn 3 is found again", held, f"in message {found.seq}" if found else "not found")


async def _check_integrity(engine: Engine, session_id: str) -> Check:
    findings = [f for f in await engine.store.check(session_id=session_id) if f.severity != "ok"]
    detail = "; ".join(finding.detail for finding in findings) or "hashes, edges, covers and counts agree"
    return Check("the database is intact", not findings, detail)


def _count_characters(turns: Sequence[DemoTurn]) -> int:
    return sum(
        len(part.model_dump_json()) if part.type != "text" else len(part.text) for t in turns for part in t.assistant
    ) + sum(len(turn.user) for turn in turns)
