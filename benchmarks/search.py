"""Cost of search as a log grows: building the index, its size, and one question.

    uv run python -m benchmarks.search

Messages are 30 words each, drawn by Zipf's law from a vocabulary of 20,000. A question is six words of one message, without the
hundred most frequent words, because stop words are ignored; a common question has six of the next hundred words. "Bare" is what
FTS5 alone takes for the same words, any of which may match, ranked by `bm25()`, the best ten: without messages, excerpts or
neighbours. Times are processor time, also of the database thread, so that other programs matter little. They depend on the
machine; the ratios and the growth are of interest.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.tables import format_table
from mnesis import Engine, MnesisSession
from mnesis.models.message import Message, Role, text_message

SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (100, 1_000)
WORDS_PER_MESSAGE = 30
WORDS_PER_QUESTION = 6
VOCABULARY_WORDS = 20_000
STOP_WORDS = 100
QUESTIONS = 200
BATCH_MESSAGES = 500


def make_messages(count: int, seed: int = 1) -> list[list[int]]:
    """Return the words of `count` messages as ranks in the vocabulary. The same seed gives the same messages."""
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(VOCABULARY_WORDS)))
    return [rng.choices(range(VOCABULARY_WORDS), cum_weights=weights, k=WORDS_PER_MESSAGE) for _ in range(count)]


def make_questions(messages: list[list[int]], seed: int = 2) -> Iterator[str]:
    """Yield questions: words of random messages."""
    rng = random.Random(seed)
    while True:
        content_words = [rank for rank in rng.choice(messages) if rank >= STOP_WORDS]
        yield spell(rng.sample(content_words, min(WORDS_PER_QUESTION, len(content_words))))


def spell(ranks: list[int]) -> str:
    """Return made-up words, one per rank."""
    return " ".join(f"w{rank:x}x" for rank in ranks)


def _message(number: int, ranks: list[int]) -> Message:
    role: Role = "assistant" if number % 2 else "user"
    return text_message(role, spell(ranks), id=f"m{number}", token_count=2 * WORDS_PER_MESSAGE)


def make_common_questions(seed: int = 3) -> Iterator[str]:
    """Yield questions of words that occur in a large part of the messages."""
    rng = random.Random(seed)
    while True:
        yield spell(rng.sample(range(STOP_WORDS, 2 * STOP_WORDS), WORDS_PER_QUESTION))


def time_bare_queries(messages: list[list[int]], questions: Iterable[str]) -> list[float]:
    """Return the processor seconds that FTS5 alone takes for each question."""
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    connection.executemany("INSERT INTO words (text) VALUES (?)", ((spell(ranks),) for ranks in messages))
    statement = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words) LIMIT 10"
    seconds = []
    for question in questions:
        started = time.process_time()
        connection.execute(statement, (" OR ".join(question.split()),)).fetchall()
        seconds.append(time.process_time() - started)
    connection.close()
    return seconds


async def create_log(path: Path, messages: list[list[int]]) -> None:
    """Create a database with one session of these messages."""
    async with Engine(path) as engine, MnesisSession.open(model=None, session_id="log", engine=engine) as session:
        for start in range(0, len(messages), BATCH_MESSAGES):
            batch = enumerate(messages[start : start + BATCH_MESSAGES], start)
            await session.append([_message(number, ranks) for number, ranks in batch])


async def time_searches(path: Path, questions: Iterable[str]) -> list[float]:
    """Return the processor seconds of each search. The first one builds the index if there is none."""
    seconds = []
    async with Engine(path) as engine, MnesisSession.open(model=None, session_id="log", engine=engine) as session:
        for question in questions:
            started = time.process_time()
            await session.search(question)
            seconds.append(time.process_time() - started)
    return seconds


def measure(path: Path, count: int) -> dict[str, float]:
    """Measure a log of `count` messages."""
    messages = make_messages(count)
    asyncio.run(create_log(path, messages))
    log_bytes = path.stat().st_size
    questions = list(itertools.islice(make_questions(messages), QUESTIONS + 1))
    common_questions = list(itertools.islice(make_common_questions(), QUESTIONS))
    indexing, *searches = asyncio.run(time_searches(path, questions))
    common_searches = asyncio.run(time_searches(path, common_questions))
    bare_ms = 1_000 * statistics.median(time_bare_queries(messages, questions[1:]))
    common_bare_ms = 1_000 * statistics.median(time_bare_queries(messages, common_questions))
    return {
        "messages": count,
        "indexing_seconds": indexing,
        "index_share": path.stat().st_size / log_bytes - 1,
        "search_ms_median": 1_000 * statistics.median(searches),
        "times_bare": 1_000 * statistics.median(searches) / bare_ms,
        "common_ms_median": 1_000 * statistics.median(common_searches),
        "common_times_bare": 1_000 * statistics.median(common_searches) / common_bare_ms,
        "search_ms_95": 1_000 * statistics.quantiles(searches, n=20)[-1],
    }


def run(sizes: tuple[int, ...]) -> list[dict[str, float]]:
    """Measure logs of these sizes."""
    with tempfile.TemporaryDirectory() as directory:
        return [measure(Path(directory) / f"{count}.db", count) for count in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run whose figures mean little")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    rows = run(QUICK_SIZES if options.quick else SIZES)
    if options.json:
        print(json.dumps(rows))
        return
    head = (
        "messages",
        "indexing once, s",
        "index / database",
        "search, ms (median)",
        "ms (95 of 100)",
        "/ bare",
        "common words, ms",
        "/ bare",
    )
    print(
        format_table(
            head,
            [
                (
                    f"{row['messages']:,}",
                    f"{row['indexing_seconds']:.2f}",
                    f"{row['index_share']:.2f}",
                    f"{row['search_ms_median']:.1f}",
                    f"{row['search_ms_95']:.1f}",
                    f"{row['times_bare']:.1f}",
                    f"{row['common_ms_median']:.1f}",
                    f"{row['common_times_bare']:.1f}",
                )
                for row in rows
            ],
        )
    )


if __name__ == "__main__":
    main()
