"""The benchmarks run, and what they compute is what they say."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cache.cache_score import Score, Segment
from benchmarks.cache.peers import FullHistory, SummaryRewrittenEachTurn, TrimmedEachTurn
from benchmarks.cache.run_strategy import run_strategy
from benchmarks.cache.workload import WORKLOADS
from benchmarks.store.benchmark_row import Row
from benchmarks.tables import format_table

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> object:
    done = subprocess.run(
        [sys.executable, "-m", *arguments, "--quick", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_store_benchmark_prints_every_row() -> None:
    rows = run("benchmarks.store")
    names = [row["name"].split(" ")[0] for row in rows]
    assert names[:7] == ["database", "record()", "context_for_next_turn()", "load()", "compact()", "record()", "50"]
    assert names[-1] == "import"
    assert all(row["measured"] > 0 and row["base"] > 0 for row in rows)


def test_the_cache_benchmark_prints_peers_and_engine_for_both_workloads() -> None:
    report = run("benchmarks.cache")
    for name, workload in WORKLOADS.items():
        rows = {row["strategy"]: row for row in report[name]}
        engines = [row for strategy, row in rows.items() if strategy.startswith("mnesis")]
        assert len(engines) == 3
        assert len({row["requests"] for row in rows.values()}) == 1
        assert rows["trimmed each turn"]["peak_tokens"] <= workload.request_tokens
        assert all(row["peak_tokens"] <= workload.request_tokens for row in engines[1:])
        assert all(row["folds"] > 0 for row in engines)
        assert all(row["million_cost"] < rows["trimmed each turn"]["million_cost"] for row in engines)


def test_the_search_benchmark_prints_a_row_for_each_size() -> None:
    rows = run("benchmarks.search")
    assert [row["messages"] for row in rows] == [100, 1_000]
    assert all(row["index_share"] > 0 and row["search_ms_median"] <= row["search_ms_95"] for row in rows)


def test_a_common_prefix_is_reused_and_its_loss_is_a_break() -> None:
    score = Score()
    first, second = Segment("a", 3_000), Segment("b", 5_000)
    score.add([first])
    score.add([first, second])
    score.add([first, Segment("c", 1_000)])
    assert (score.requests, score.tokens, score.reused_tokens, score.breaks, score.max_request_tokens) == (
        3,
        15_000,
        6_000,
        1,
        8_000,
    )
    assert score.cost == pytest.approx(0.1 * 6_000 + 1.25 * 9_000)


def test_a_prefix_too_short_for_the_cache_is_not_reused() -> None:
    score = Score()
    for tail in ("b", "c"):
        score.add([Segment("a", 1_000), Segment(tail, 10)])
    assert score.reused_tokens == 0


def test_the_summariser_is_part_of_the_bill() -> None:
    assert Score(summariser_input=1_000, summariser_output=100).cost == pytest.approx(0.25 * (1_000 + 5 * 100))


def test_workloads_are_the_same_for_every_strategy() -> None:
    for workload in WORKLOADS.values():
        assert list(workload.steps(3, 20)) == list(workload.steps(3, 20))
        assert list(workload.steps(3, 20)) != list(workload.steps(4, 20))


def test_sizes_follow_the_seeded_distributions() -> None:
    rng = random.Random(0)
    expected = [int(rng.lognormvariate(3.9, 0.6)), int(rng.lognormvariate(5.4, 0.5))]
    step = next(WORKLOADS["chat"].steps(0))
    assert [step.input_pieces[0].tokens, step.output_pieces[0].tokens] == expected


@pytest.mark.parametrize("kind", [TrimmedEachTurn, SummaryRewrittenEachTurn])
async def test_trimming_peers_fill_their_room_and_never_pass_it(kind: type[FullHistory]) -> None:
    workload = WORKLOADS["chat"]
    peer = kind(workload)
    await run_strategy(workload.steps(0, 200), peer)
    assert 0.9 * workload.request_tokens < peer.score.max_request_tokens <= workload.request_tokens
    assert peer.score.breaks > 0


def test_rows_know_their_limits() -> None:
    assert Row("a", 3.0, 2.0, "ms", 1.5).ok
    assert not Row("a", 3.1, 2.0, "ms", 1.5).ok
    assert not Row("a", 3.0, 10.0, "turns/s", 0.4, "at least").ok
    assert Row("a", 120.0, 101.0, "MB", 20.0, "difference").ok
    assert Row("a", 3.1, 2.0, "ms", 1.5).cells()[-1] == "over"


def test_tables_align_their_columns() -> None:
    assert format_table(("a", "bb"), [("long name", "1")]) == "a          bb\n---------  --\nlong name   1"
