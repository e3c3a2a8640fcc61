"""Cost of search as a log grows: building the index, its size, and one question.

    uv run python -m benchmarks.search

Messages are 30 words each, drawn by Zipf's law from a vocabulary of 20,000. A question is six words of one message, without the
hundred most frequent words, because stop words are ignored. Times depend on the machine; their growth is of interest.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
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


async def create_log(path: Path, messages: list[list[int]]) -> None:
    """Create a database with one session of these messages."""
    async with Engine(path) as engine, MnesisSession.open(model=None, session_id="log", engine=engine) as session:
        for start in range(0, len(messages), BATCH_MESSAGES):
            batch = enumerate(messages[start : start + BATCH_MESSAGES], start)
            await session.append([_message(number, ranks) for number, ranks in batch])


async def time_searches(path: Path, messages: list[list[int]]) -> list[float]:
    """Return the seconds of each search. The first one builds the index."""
    seconds = []
    async with Engine(path) as engine, MnesisSession.open(model=None, session_id="log", engine=engine) as session:
        for question in itertools.islice(make_questions(messages), QUESTIONS + 1):
            started = time.perf_counter()
            await session.search(question)
            seconds.append(time.perf_counter() - started)
    return seconds


def measure(path: Path, count: int) -> dict[str, float]:
    """Measure a log of `count` messages."""
    messages = make_messages(count)
    asyncio.run(create_log(path, messages))
    log_bytes = path.stat().st_size
    indexing, *searches = asyncio.run(time_searches(path, messages))
    return {
        "messages": count,
        "indexing_seconds": indexing,
        "index_share": path.stat().st_size / log_bytes - 1,
        "search_ms_median": 1_000 * statistics.median(searches),
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
    head = ("messages", "indexing once, s", "index / database", "search, ms (median)", "ms (95 of 100)")
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
                )
                for row in rows
            ],
        )
    )


if __name__ == "__main__":
    main()
