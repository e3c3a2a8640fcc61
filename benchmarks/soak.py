"""`python -m benchmarks.soak`: many sessions for a long time, with everything that users do to them.

Each session records and sends turns, searches, compacts in the background, is cancelled now and then, is closed and opened again,
and is purged after some turns, so that a correct engine stays as large as it is. Samples of memory, handles, threads, tasks,
latency and file sizes show whether it does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tables import format_table
from mnesis import CompactionConfig, Engine, MnesisConfig, MnesisSession
from mnesis.testing import ScriptedLLM
from mnesis.tokens.estimator import TokenEstimator

DEFAULT_MINUTES = 30.0
SAMPLES = 40
TURNS_PER_SESSION = 60
WORDS = ["ledger", "harbour", "valve", "comma", "parser", "bread", "talk", "river", "stone", "lamp"]
CONFIG = MnesisConfig(
    model_overrides={"context_limit": 8_192, "max_output_tokens": 512},
    compaction=CompactionConfig(compaction_output_budget=1_000),
)
LIMITS = {
    "resident MB": 1.10,
    "handles": 1.0,
    "threads": 1.25,
    "tasks": 1.25,
    "record() ms, median": 1.5,
    "record() ms, 95 %": 2.0,
    "database MB": 1.25,
    "write-ahead log MB": 2.0,
}
"""How much larger the last quarter may be than the second. The first one warms up; latency depends on other load."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process is like at one moment. Latencies are those since the sample before."""

    seconds: float
    turns: int
    resident_mb: float
    handles: int
    threads: int
    tasks: int
    median_ms: float
    p95_ms: float
    database_mb: float
    wal_mb: float


@dataclass
class Soak:
    """A running soak: its engine, its clock and what was measured."""

    engine: Engine
    path: Path
    ends_at: float
    turns: int = 0
    lost: int = 0
    latencies: list[float] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.ends_at


async def use_sessions(soak: Soak, number: int) -> None:
    """Use one session after another until the time is up."""
    chance, generation = random.Random(number), 0
    while not soak.is_over:
        session_id = f"soak-{number}-{generation}"
        generation += 1
        acknowledged: list[str] = []
        while not soak.is_over and len(acknowledged) < TURNS_PER_SESSION:
            await use_session(soak, session_id, acknowledged, chance)
        stored = {message.text_content() for message in await soak.engine.store.messages(session_id)}
        soak.lost += sum(text not in stored for text in acknowledged)
        await soak.engine.purge(session_id)


async def use_session(soak: Soak, session_id: str, acknowledged: list[str], chance: random.Random) -> None:
    """Open a session, use it for some turns, and close it."""
    llm = ScriptedLLM("Summary: " + " ".join(WORDS))
    async with MnesisSession.open(
        model="openai/gpt-4o", session_id=session_id, engine=soak.engine, config=CONFIG, llm=llm
    ) as session:
        session.subscribe_all(_fail)
        for _ in range(chance.randrange(5, 15)):
            text = f"turn {len(acknowledged)} of {session_id}: {' '.join(chance.choices(WORDS, k=60))}"
            started = time.perf_counter()
            await session.record(text, f"answer: {' '.join(chance.choices(WORDS, k=120))}")
            soak.latencies.append(time.perf_counter() - started)
            acknowledged.append(text)
            soak.turns += 1
            if chance.random() < 0.1:
                await session.search(chance.choice(WORDS))
            if chance.random() < 0.1:
                await session.send(chance.choice(WORDS))
            if chance.random() < 0.05:
                await cancel_a_turn(session, chance)
            if soak.is_over:
                return
            await asyncio.sleep(0)


async def cancel_a_turn(session: MnesisSession, chance: random.Random) -> None:
    """Start a turn and cancel it at some moment."""
    task = asyncio.create_task(session.send("a question that is given up"))
    for _ in range(chance.randrange(20)):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _fail(event: object, payload: object) -> None:
    raise RuntimeError("a handler that always fails")


def resident_mb() -> float:
    """Return the resident memory of this process, or 0 where /proc does not exist."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def take_sample(soak: Soak, started: float, tasks: int) -> Sample:
    """Measure the process, and begin a new list of latencies."""
    latencies, soak.latencies = sorted(soak.latencies) or [0.0], []
    handles = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    wal = Path(f"{soak.path}-wal")
    return Sample(
        seconds=time.monotonic() - started,
        turns=soak.turns,
        resident_mb=resident_mb(),
        handles=handles,
        threads=threading.active_count(),
        tasks=tasks,
        median_ms=statistics.median(latencies) * 1000,
        p95_ms=latencies[int(len(latencies) * 0.95)] * 1000,
        database_mb=soak.path.stat().st_size / 1e6,
        wal_mb=wal.stat().st_size / 1e6 if wal.exists() else 0.0,
    )


async def sample_until_over(soak: Soak, interval_seconds: float) -> None:
    """Take samples until the time is up."""
    started = time.monotonic()
    while not soak.is_over:
        await asyncio.sleep(interval_seconds)
        soak.samples.append(await asyncio.to_thread(take_sample, soak, started, len(asyncio.all_tasks())))


async def run(minutes: float, sessions: int, directory: Path) -> tuple[Soak, list[tuple[str, float]]]:
    """Run the soak. Returns it, and the resident memory after each stage of its start."""
    stages = [("Python and mnesis", resident_mb())]
    TokenEstimator().estimate("warm", model="openai/gpt-4o")
    stages.append(("token tables", resident_mb()))
    path = directory / "soak.db"
    async with Engine(path, config=CONFIG) as engine:
        stages.append(("open database", resident_mb()))
        soak = Soak(engine, path, time.monotonic() + minutes * 60)
        sampler = asyncio.create_task(sample_until_over(soak, minutes * 60 / SAMPLES))
        await asyncio.gather(*(use_sessions(soak, number) for number in range(sessions)))
        await sampler
        stages.append((f"{sessions} sessions in use", resident_mb()))
        findings = [finding for finding in await engine.store.check() if finding.severity == "error"]
        soak.lost += len(findings)
    return soak, stages


def growth_rows(samples: list[Sample]) -> list[dict[str, Any]]:
    """Compare the medians of the second and of the last quarter."""
    quarter = max(len(samples) // 4, 1)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    columns: dict[str, Callable[[Sample], float]] = {
        "resident MB": lambda sample: sample.resident_mb,
        "handles": lambda sample: sample.handles,
        "threads": lambda sample: sample.threads,
        "tasks": lambda sample: sample.tasks,
        "record() ms, median": lambda sample: sample.median_ms,
        "record() ms, 95 %": lambda sample: sample.p95_ms,
        "database MB": lambda sample: sample.database_mb,
        "write-ahead log MB": lambda sample: sample.wal_mb,
    }
    rows = []
    for name, value_of in columns.items():
        before, after = (statistics.median(value_of(each) for each in part) for part in (second, last))
        rows.append(
            {
                "measure": name,
                "second quarter": round(before, 2),
                "last quarter": round(after, 2),
                "growth": round(after / before, 2) if before else 1.0,
                "limit": LIMITS[name],
            }
        )
    return rows


def main() -> None:
    """Parse the arguments, run, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.getLogger("mnesis").setLevel(logging.CRITICAL)  # the handlers fail on purpose
    minutes, sessions = (0.05, 3) if options.quick else (options.minutes, options.sessions)
    with tempfile.TemporaryDirectory(prefix="mnesis-soak-") as directory:
        soak, stages = asyncio.run(run(minutes, sessions, Path(directory)))
    rows = growth_rows(soak.samples)
    if options.json:
        samples = [asdict(sample) for sample in soak.samples]
        print(
            json.dumps({"turns": soak.turns, "lost": soak.lost, "growth": rows, "samples": samples, "stages": stages})
        )
        return
    print(f"{soak.turns:,} turns in {minutes:g} minutes, {sessions} sessions at once, {soak.lost} lost or damaged\n")
    print(format_table(list(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    print("\nResident memory after each stage of the start:")
    print(format_table(["stage", "MB"], [[name, f"{mb:.0f}"] for name, mb in stages]))


if __name__ == "__main__":
    main()
