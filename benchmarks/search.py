"""What searching costs as a log grows: making the index, its size, and a question.

    uv run python -m benchmarks.search

Messages are 30 words each, drawn by Zipf's law from a vocabulary of 20,000. A question is six words of one of them, none of
the hundred most frequent, as a question's stop words are left out. Times are of the machine; what is of interest is how
they grow.
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

from benchmarks.tables import table
from mnesis import Engine, MnesisSession
from mnesis.models.message import Message, Role, text_message

SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (100, 1_000)
WORDS_PER_MESSAGE = 30
WORDS_PER_QUESTION = 6
VOCABULARY = 20_000
STOP_WORDS = 100
QUESTIONS = 200
MESSAGES_AT_ONCE = 500


def texts(count: int, seed: int = 1) -> list[list[int]]:
    """The words of so many messages, as their ranks in the vocabulary; the same every time."""
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(VOCABULARY)))
    return [rng.choices(range(VOCABULARY), cum_weights=weights, k=WORDS_PER_MESSAGE) for _ in range(count)]


def questions(messages: list[list[int]], seed: int = 2) -> Iterator[str]:
    """Words of messages drawn at random."""
    rng = random.Random(seed)
    while True:
        telling = [rank for rank in rng.choice(messages) if rank >= STOP_WORDS]
        yield spelled(rng.sample(telling, min(WORDS_PER_QUESTION, len(telling))))


def spelled(ranks: list[int]) -> str:
    """Made-up words, one for each rank."""
    return " ".join(f"w{rank:x}x" for rank in ranks)


def _message(number: int, ranks: list[int]) -> Message:
    role: Role = "assistant" if number % 2 else "user"
    return text_message(role, spelled(ranks), id=f"m{number}", token_count=2 * WORDS_PER_MESSAGE)


async def fill(path: Path, said: list[list[int]]) -> None:
    """A database with one session of these messages."""
    async with Engine(path) as engine, MnesisSession.open(model=None, session_id="log", engine=engine) as session:
        for start in range(0, len(said), MESSAGES_AT_ONCE):
            stretch = enumerate(said[start : start + MESSAGES_AT_ONCE], start)
            await session.append([_message(number, ranks) for number, ranks in stretch])


async def ask(path: Path, said: list[list[int]]) -> list[float]:
    """Seconds of each search; the first one makes the index."""
    seconds = []
    async with Engine(path) as engine, MnesisSession.open(model=None, session_id="log", engine=engine) as session:
        for question in itertools.islice(questions(said), QUESTIONS + 1):
            started = time.perf_counter()
            await session.search(question)
            seconds.append(time.perf_counter() - started)
    return seconds


def measure(path: Path, count: int) -> dict[str, float]:
    """The figures of a log of so many messages."""
    said = texts(count)
    asyncio.run(fill(path, said))
    log_bytes = path.stat().st_size
    indexing, *searches = asyncio.run(ask(path, said))
    return {
        "messages": count,
        "indexing_seconds": indexing,
        "index_share": path.stat().st_size / log_bytes - 1,
        "search_ms_median": 1_000 * statistics.median(searches),
        "search_ms_95": 1_000 * statistics.quantiles(searches, n=20)[-1],
    }


def run(sizes: tuple[int, ...]) -> list[dict[str, float]]:
    """The figures of logs of these sizes."""
    with tempfile.TemporaryDirectory() as directory:
        return [measure(Path(directory) / f"{count}.db", count) for count in sizes]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run whose figures mean little")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    given = parser.parse_args()
    rows = run(QUICK_SIZES if given.quick else SIZES)
    if given.json:
        print(json.dumps(rows))
        return
    head = ("messages", "indexing once, s", "index / database", "search, ms (median)", "ms (95 of 100)")
    print(
        table(
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
