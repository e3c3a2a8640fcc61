"""Recall on every kind of log, in one table.

    python -m benchmarks.recall locomo.json tau.json swe.json notes.json

Files have the shape of LoCoMo's (see benchmarks/locomo.py); a turn may also have a `role`. Each log is appended to a session and
compacted without a model. Questions go to `search()` unchanged. Reported, in per cent, on the questions that are not for fitting:

- recall@5, @10 and @20 of the evidence messages, for mnesis, for mnesis with vectors, and for plain BM25 over the same words;
- the evidence in a request: what `window(message=question)` adds with automatic recall, what BM25 brings if its hits fill the
  same number of tokens, and what the newest messages of that size hold;
- whether a scripted agent sees the evidence after 1, 2 or 4 tool calls: `lcm_grep` with the question's words, then `lcm_expand` of
  the first three hits.

No model is used. mnesis is measured with and without vectors. A file of chats is also measured with every message padded to about
2,000 characters.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.recall.agent import count_calls, shows
from benchmarks.recall.bm25 import Bm25
from benchmarks.recall.sets import Log, Query, RecallSet, load_sets
from benchmarks.tables import format_table
from mnesis import CompactionConfig, MnesisConfig, MnesisSession
from mnesis.config import ModelOverrides, RecallConfig
from mnesis.formats.text import message_text
from mnesis.tokens import TokenEstimator

DEPTHS = (5, 10, 20)
AGENT_CALLS = (1, 2, 4)
METHODS = {"mnesis": None, "with vectors": "wordllama"}
"""What is measured of mnesis: the value of `RecallConfig.vectors`."""
RECALL_TOKENS = 4_000
Values = dict[tuple[str, str], list[float]]
"""Values per question, by method and measure."""


async def measure_log(log: Log, database: Path, values: Values, *, fit: bool) -> None:
    """Measure one log on its questions for fitting or for reporting."""
    queries = [query for query in log.queries if query.reported != fit]
    if not queries:
        return
    texts = {message.id: message_text(message) for message in log.messages}
    for method, vectors in METHODS.items():
        await _measure_method(method, log, queries, database.with_suffix(f".{vectors}.db"), values)
    bm25 = Bm25(log.messages)
    for query in queries:
        baseline = bm25.search(query.text, 50)
        _add_depths(values, "BM25", query, baseline)
        _add(values, "BM25", "request", query, fill(baseline, texts))
        _add(values, "recency", "request", query, fill([m.id for m in reversed(log.messages)], texts))
    bm25.close()


async def _measure_method(method: str, log: Log, queries: Sequence[Query], database: Path, values: Values) -> None:
    """Measure mnesis on one log, with or without vectors."""
    texts = {message.id: message_text(message) for message in log.messages}
    arguments = {"model": None, "system_prompt": "", "db_path": database, "config": make_config(METHODS[method])}
    async with MnesisSession.open(**arguments) as session:
        for start in range(0, len(log.messages), 200):
            await session.append(list(log.messages[start : start + 200]))
        rankings = []
        for query in queries:
            started = time.perf_counter()
            rankings.append([hit.message_id for hit in await session.search(query.text, limit=max(DEPTHS))])
            values[method, "ms"].append(1_000 * (time.perf_counter() - started))
        await session.compact()
        plain_ids = {message.id for message in (await session.window()).messages}
        for query, ranking in zip(queries, rankings, strict=True):
            _add_depths(values, method, query, ranking)
            window = await session.window(message=query.text)
            block = "\n".join(message_text(m) for m in window.messages if m.id not in plain_ids)
            used_ids = [i for i in query.evidence if i in plain_ids or shows(block, i, texts[i], query)]
            _add(values, method, "request", query, used_ids)
            calls = await count_calls(session, query, texts)
            for limit in AGENT_CALLS:
                values[method, f"calls {limit}"].append(float(calls is not None and calls <= limit))


def make_config(vectors: str | None) -> MnesisConfig:
    """Return a configuration with automatic recall whose window holds the folded log."""
    return MnesisConfig(
        compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
        model_overrides=ModelOverrides(context_limit=400_000, max_output_tokens=256),
        recall=RecallConfig(enabled=True, max_tokens=RECALL_TOKENS, vectors=vectors),
    )


def fill(ids: Sequence[str], texts: dict[str, str]) -> list[str]:
    """Return the first ids whose texts fit `RECALL_TOKENS`."""
    count, available_tokens, kept = TokenEstimator().estimate, RECALL_TOKENS, []
    for each in ids:
        tokens = count(texts[each]) + 4
        if tokens <= available_tokens:
            available_tokens -= tokens
            kept.append(each)
        elif available_tokens < 100:
            break
    return kept


def _add_depths(values: Values, method: str, query: Query, ranking: Sequence[str]) -> None:
    for depth in DEPTHS:
        _add(values, method, f"@{depth}", query, ranking[:depth])


def _add(values: Values, method: str, measure: str, query: Query, ids: Sequence[str]) -> None:
    values[method, measure].append(len(query.evidence.intersection(ids)) / len(query.evidence))


async def measure(recall_set: RecallSet, *, fit: bool) -> Values:
    """Measure every log of a set."""
    values: Values = defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        for number, log in enumerate(recall_set.logs):
            await measure_log(log, Path(directory) / f"{number}.db", values, fit=fit)
    return values


def rows(recall_set: RecallSet, values: Values) -> Iterator[list[str]]:
    """Yield the rows of a set, one per method."""
    count = len(values["mnesis", "@5"])
    for method in (*METHODS, "BM25", "recency"):
        measures = (*(f"@{depth}" for depth in DEPTHS), "request", *(f"calls {limit}" for limit in AGENT_CALLS))
        cells = [_percent(values[method, measure]) for measure in measures]
        milliseconds = values[method, "ms"]
        timing = f"{statistics.median(milliseconds):.1f}" if milliseconds else ""
        yield [f"{recall_set.name} ({count})" if method == "mnesis" else "", method, *cells, timing]


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f}" if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recall", description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path, nargs="+", help="data sets, JSON files")
    parser.add_argument("--fit", action="store_true", help="measure the questions for fitting instead")
    options = parser.parse_args()
    table = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for recall_set in load_sets(options.data):
            table.extend(rows(recall_set, asyncio.run(measure(recall_set, fit=options.fit))))
    calls = (f"{limit} call{'s' * (limit > 1)}" for limit in AGENT_CALLS)
    head = ["set (questions)", "method", *(f"@{depth}" for depth in DEPTHS), "request", *calls, "search, ms"]
    print(format_table(head, table))


if __name__ == "__main__":
    main()
