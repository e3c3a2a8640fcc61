"""Recall of the original turns that answer questions about long conversations, without a model.

    python -m benchmarks.locomo path/to/locomo.json

Each conversation is recorded turn by turn with `record()` (a turn without a reply with `append()`). The questions are
passed to `search()` unchanged, before and after a level-3 compaction to about a fifth of the tokens. The two speakers are the
two roles, and their names precede their words, as in a transcript. The date of a sitting is the time of its messages.
Reported per category and for all but the adversarial questions:

- recall@5, @10 and @20: the share of a question's evidence turns among the first hits, averaged over questions;
- whether folding changed any ranking (it must not);
- the share of the gold answers' words that the compacted context still contains, compared with cuts of the same size: head
  and tail, and random turns; and the same for level 3 alone at exactly a fifth;
- the share of questions whose complete evidence is in the request with automatic recall on;
- milliseconds per search, and the size of the index.

The data set (Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM Agents", ACL 2024) is CC BY-NC 4.0 and
is not part of this project.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.tables import format_table
from mnesis import CompactionConfig, MnesisConfig, MnesisSession
from mnesis.compaction.extract import extract
from mnesis.compaction.transcript import passages
from mnesis.config import ModelOverrides, RecallConfig
from mnesis.formats.text import message_text
from mnesis.models.message import text_message
from mnesis.models.summary import Summary
from mnesis.search.analysis import STOP_WORDS
from mnesis.tokens import TokenEstimator

CATEGORIES = {4: "single-hop", 1: "multi-hop", 2: "temporal", 3: "open-domain", 5: "adversarial"}
ADVERSARIAL = 5
DEPTHS = (5, 10, 20)
TARGET_FRACTION = 0.2
WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Turn:
    id: str
    speaker: str
    text: str
    at: int


@dataclass(frozen=True)
class Question:
    text: str
    category: int
    evidence: frozenset[str]
    answer: str


@dataclass
class Conversation:
    name: str
    speakers: tuple[str, str]
    turns: list[Turn]
    questions: list[Question]


@dataclass
class Figures:
    recall: dict[tuple[int, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    changed_rankings: int = 0
    milliseconds: list[float] = field(default_factory=list)
    kept_words: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    present_evidence: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    context_fractions: list[float] = field(default_factory=list)
    unreachable: int = 0
    index_bytes: int = 0
    log_bytes: int = 0


def load(path: Path) -> list[Conversation]:
    """Load the conversations of a file, with the questions whose evidence exists."""
    return [_conversation(sample) for sample in json.loads(path.read_text("utf-8"))]


def _conversation(sample: dict[str, Any]) -> Conversation:
    talk, turns = sample["conversation"], []
    number = 1
    while f"session_{number}_date_time" in talk:
        at = _parse_time(talk[f"session_{number}_date_time"])
        for index, turn in enumerate(talk.get(f"session_{number}", [])):
            shared = " ".join(filter(None, (turn.get("query"), turn.get("blip_caption"))))
            text = f"{turn['text']} [shares: {shared}]" if shared else turn["text"]
            turns.append(Turn(turn["dia_id"], turn["speaker"], text, at + index * 1_000))
        number += 1
    known = {turn.id for turn in turns}
    questions = [_question(each, known) for each in sample["qa"]]
    speakers = (talk["speaker_a"], talk["speaker_b"])
    return Conversation(sample["sample_id"], speakers, turns, [q for q in questions if q.evidence])


def _parse_time(text: str) -> int:
    return int(datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp() * 1000)


def _question(entry: dict[str, Any], known: set[str]) -> Question:
    named = (
        re.fullmatch(r"D:?(\d+):(\d+)", piece) for item in entry["evidence"] for piece in re.split(r"[;,\s]+", item)
    )
    evidence = {f"D{int(match[1])}:{int(match[2])}" for match in named if match} & known
    return Question(entry["question"], entry["category"], frozenset(evidence), str(entry.get("answer", "")))


async def ingest(session: MnesisSession, talk: Conversation) -> None:
    """Record the conversation: the first speaker is the user, the second the assistant."""
    first, turns, place = talk.speakers[0], talk.turns, 0
    while place < len(turns):
        turn = turns[place]
        after = turns[place + 1] if place + 1 < len(turns) else None
        if after is not None and turn.speaker == first and after.speaker != first:
            ids = {"user_message_id": turn.id, "assistant_message_id": after.id}
            await session.record(_turn_text(turn), _turn_text(after), created_at=turn.at, **ids)
            place += 2
        else:
            role = "user" if turn.speaker == first else "assistant"
            await session.append([text_message(role, _turn_text(turn), id=turn.id, created_at=turn.at)])
            place += 1


def _turn_text(turn: Turn) -> str:
    return f"{turn.speaker}: {turn.text}"


async def measure(talk: Conversation, directory: Path, figures: Figures) -> None:
    count = TokenEstimator().estimate
    total = sum(count(_turn_text(turn)) + 4 for turn in talk.turns)
    database = directory / f"{talk.name}.db"
    session_arguments = {
        "model": None,
        "session_id": talk.name,
        "system_prompt": "",
        "db_path": database,
        "config": make_config(total),
    }
    async with MnesisSession.open(**session_arguments) as s:
        await ingest(s, talk)
    log_bytes = database.stat().st_size
    async with MnesisSession.open(**session_arguments) as s:
        await s.search("the first search makes the index")
    figures.log_bytes += log_bytes
    figures.index_bytes += database.stat().st_size - log_bytes
    async with MnesisSession.open(**session_arguments) as s:
        before = [await _search_ids(s, question, figures) for question in talk.questions]
        await s.compact()
        after = [await _search_ids(s, question, None) for question in talk.questions]
        figures.changed_rankings += sum(a != b for a, b in zip(before, after, strict=True))
        for question, hits in zip(talk.questions, before, strict=True):
            for depth in DEPTHS:
                recall = len(question.evidence.intersection(hits[:depth])) / len(question.evidence)
                figures.recall[question.category, depth].append(recall)
        await _measure_context(s, talk, total, count, figures)
        await _count_unreachable(s, talk, figures)


def make_config(total: int) -> MnesisConfig:
    """Return a configuration whose window holds the whole conversation, and whose summaries may take a fifth of it."""
    limit = total * 4
    return MnesisConfig(
        compaction=CompactionConfig(
            auto=False, compaction_output_budget=1_000, low_water_fraction=0.2, summary_fraction=0.5
        ),
        model_overrides=ModelOverrides(context_limit=limit, max_output_tokens=256),
        recall=RecallConfig(enabled=True, max_tokens=1_500),
    )


async def _search_ids(session: MnesisSession, question: Question, figures: Figures | None) -> list[str]:
    started = time.perf_counter()
    hits = await session.search(question.text, limit=max(DEPTHS))
    if figures is not None:
        figures.milliseconds.append((time.perf_counter() - started) * 1000)
    return [hit.message_id for hit in hits]


async def _measure_context(
    session: MnesisSession, talk: Conversation, total: int, count: Any, figures: Figures
) -> None:
    """Measure what remains in the context after folding, and what recall brings back."""
    plain = await session.window()
    text = "\n".join(message_text(message) for message in plain.messages)
    context_tokens = plain.tokens
    figures.context_fractions.append(context_tokens / total)
    turn_texts = [_turn_text(turn) for turn in talk.turns]
    fifth_tokens = int(total * TARGET_FRACTION)
    texts = {
        "level 3, the whole context": text,
        "level 3 alone at 20 %": extract(passages(await session.messages()), max_tokens=fifth_tokens, count=count),
        "head and tail": _head_and_tail(turn_texts, context_tokens, count),
        "random turns": _random_turns(turn_texts, context_tokens, count),
        "everything": "\n".join(turn_texts),
    }
    words_by_text = {name: set(WORD.findall(each.lower())) for name, each in texts.items()}
    for question in talk.questions:
        answer = [word for word in WORD.findall(question.answer.lower()) if word not in STOP_WORDS]
        if question.category == ADVERSARIAL:
            continue
        for name, words in words_by_text.items():
            if answer:
                figures.kept_words[name].append(sum(word in words for word in answer) / len(answer))
        await _measure_presence(session, question, figures)


async def _measure_presence(session: MnesisSession, question: Question, figures: Figures) -> None:
    plain, with_recall = await session.window(), await session.window(message=question.text)
    visible_ids = {m.id for m in plain.messages}
    block = "".join(message_text(m) for m in with_recall.messages if m.id not in visible_ids)
    recalled = {turn for turn in question.evidence if f"[{turn} · " in block}
    for name, present in (
        ("without recall", question.evidence & visible_ids),
        ("with recall", question.evidence & (visible_ids | recalled)),
    ):
        figures.present_evidence[f"{name}, all of it"].append(float(present == question.evidence))
        figures.present_evidence[f"{name}, some of it"].append(float(bool(present)))


def _head_and_tail(texts: Sequence[str], max_tokens: int, count: Any) -> str:
    head, tail = _take_until_full(texts, max_tokens // 2, count), _take_until_full(texts[::-1], max_tokens // 2, count)
    return "\n".join([*head, *tail])


def _random_turns(texts: Sequence[str], max_tokens: int, count: Any) -> str:
    return "\n".join(_take_until_full(random.Random(0).sample(list(texts), len(texts)), max_tokens, count))


def _take_until_full(texts: Sequence[str], available_tokens: int, count: Any) -> list[str]:
    kept = []
    for text in texts:
        available_tokens -= count(text)
        if available_tokens < 0:
            break
        kept.append(text)
    return kept


async def _count_unreachable(session: MnesisSession, talk: Conversation, figures: Figures) -> None:
    """Count the turns that do not come back verbatim from the context or the summary that covers them."""
    text_by_id = {message.id: message_text(message) for message in (await session.window()).messages}
    summaries: list[Summary] = [s for s in await session.summaries() if s.id in text_by_id]
    for summary in summaries:
        cursor: str | None = None
        while True:
            page = await session.expand(summary.id, cursor=cursor)
            text_by_id.update({message.id: message_text(message) for message in page.messages})
            cursor = page.next_cursor
            if cursor is None:
                break
    figures.unreachable += sum(text_by_id.get(turn.id) != _turn_text(turn) for turn in talk.turns)


def report(figures: Figures) -> str:
    """Format the figures as text."""
    rows = [[name, *_recalls(figures, [number])] for number, name in CATEGORIES.items()]
    rows.append(["all but adversarial", *_recalls(figures, [n for n in CATEGORIES if n != ADVERSARIAL])])
    times = sorted(figures.milliseconds)
    lines = [
        format_table(["recall of evidence turns, %", "@5", "@10", "@20", "questions"], rows),
        f"rankings that folding changed: {figures.changed_rankings}",
        f"turns that cannot be reached from the folded context: {figures.unreachable}",
        "",
        f"the folded context has {100 * statistics.mean(figures.context_fractions):.1f} % of the conversation's tokens",
        format_table(
            ["answer words kept, %", ""], [[name, _percent(values)] for name, values in figures.kept_words.items()]
        ),
        "",
        format_table(
            ["evidence in the request, %", ""],
            [[name, _percent(values)] for name, values in figures.present_evidence.items()],
        ),
        "",
        f"a search takes {statistics.median(times):.2f} ms (median), {times[len(times) * 95 // 100]:.2f} ms (95 of 100)",
        f"the index takes {figures.index_bytes:,} bytes, the log {figures.log_bytes:,}",
    ]
    return "\n".join(lines)


def _recalls(figures: Figures, categories: Sequence[int]) -> list[str]:
    values = {depth: [v for c in categories for v in figures.recall[c, depth]] for depth in DEPTHS}
    return [*(_percent(values[depth]) for depth in DEPTHS), str(len(values[DEPTHS[0]]))]


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f}" if values else "-"


async def run(path: Path) -> Figures:
    """Measure every conversation of a file."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as directory:
        for talk in load(path):
            await measure(talk, Path(directory), figures)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locomo", description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path, nargs="?", help="the data set, a JSON file")
    parser.add_argument("--data", type=Path, dest="named", help="the same")
    options = parser.parse_args()
    path = options.named or options.data
    if path is None:
        parser.error("pass the path of the data set's file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(report(asyncio.run(run(path))))


if __name__ == "__main__":
    main()
