"""The benchmarks run, and what they compute is what they say."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from benchmarks.cache.cache_score import Score
from benchmarks.cache.peers import FullHistory, SummaryRewrittenEachTurn, TrimmedEachTurn
from benchmarks.cache.provider_cache import PRICE_LISTS, CacheUse, MarkedCache, PrefixCache, Segment
from benchmarks.cache.run_strategy import run_strategy
from benchmarks.cache.workload import WORKLOADS
from benchmarks.store.benchmark_row import Row
from benchmarks.tables import format_table
from tests.support.warm_python import run_python

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> object:
    done = run_python(["-m", *arguments, "--quick", "--json"], cwd=ROOT, has_mnesis=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_store_benchmark_prints_every_row() -> None:
    rows = run("benchmarks.store")
    names = [row["name"].split(" ")[0] for row in rows]
    assert names[:5] == ["database", "record()", "record()", "append", "doctor"]
    assert names[5:10] == ["context_for_next_turn()", "load()", "compact()", "record()", "50"]
    assert names[-1] == "import"
    assert all(row["measured"] > 0 and row["base"] > 0 for row in rows)


def test_the_cache_benchmark_prints_peers_and_engine_for_each_workload() -> None:
    report = run("benchmarks.cache")
    assert set(report) == set(WORKLOADS)
    for name, workload in WORKLOADS.items():
        rows = {row["strategy"]: row for row in report[name]}
        engines = [row for strategy, row in rows.items() if strategy.startswith("mnesis")]
        assert len(engines) == (1 if name == "chat" else 2)
        assert len({row["requests"] for row in rows.values()}) == 1
        assert rows["trimmed each turn"]["peak_tokens"] <= workload.request_tokens
        assert engines[0]["level3_folds"] == 0
        assert all(set(row["dollars"]) == {prices.name for prices in PRICE_LISTS} for row in rows.values())
    engine, trimmed = report["agent"][3], report["agent"][1]
    assert engine["million_cost"] < trimmed["million_cost"]
    with_clock, without = report["chat with pauses"][3:]
    assert with_clock["million_cost"] < without["million_cost"]


def test_the_search_benchmark_prints_a_row_for_each_size() -> None:
    rows = run("benchmarks.search")
    assert [row["messages"] for row in rows] == [100, 1_000]
    assert all(row["index_share"] > 0 and row["search_ms_median"] <= row["search_ms_95"] for row in rows)


def test_the_client_benchmark_compares_each_call_with_what_it_builds_on() -> None:
    rows = {row["name"]: row for row in run("benchmarks.clients")}
    assert len(rows) == 2 + 2 * 4
    assert rows["send(), OpenAICompatibleLLM"]["base"] == "call, OpenAICompatibleLLM"
    assert rows["stream, litellm"]["base"] == "stream, aiohttp alone"
    assert all(row["ms"] > 0 for row in rows.values())


def marked(*tokens: int) -> list[Segment]:
    """Segments of these sizes; the last one is marked."""
    return [Segment(index, size, is_marked=index == len(tokens) - 1) for index, size in enumerate(tokens)]


def test_a_mark_writes_what_precedes_it_and_the_next_request_reads_it() -> None:
    cache = MarkedCache(min_tokens=1_024, lifetime_seconds=300)
    assert cache.use([*marked(3_000, 500), Segment("after", 7)], 0) == CacheUse(read=0, written=3_500, uncached=7)
    longer = [*marked(3_000, 500)[:1], Segment(1, 500), Segment(2, 40, is_marked=True)]
    assert cache.use(longer, 299) == CacheUse(read=3_500, written=40, uncached=0)
    assert cache.use(longer, 600) == CacheUse(read=0, written=3_540, uncached=0)


def test_a_mark_finds_an_entry_at_most_twenty_blocks_back() -> None:
    for more, read in [(19, 2_000), (20, 0)]:
        cache = MarkedCache(min_tokens=1_024, lifetime_seconds=300)
        cache.use(marked(1_500, 500), 0)
        blocks = [Segment(2 + number, 1, is_marked=number == more - 1) for number in range(more)]
        assert cache.use([Segment(0, 1_500), Segment(1, 500), *blocks], 1).read == read


def test_a_prefix_below_the_minimum_length_is_not_cached() -> None:
    cache = MarkedCache(min_tokens=1_024, lifetime_seconds=300)
    for _ in range(2):
        assert cache.use(marked(1_000), 0) == CacheUse(0, 0, 1_000)
    with pytest.raises(ValueError, match="5 marks"):
        cache.use([Segment(number, 1, is_marked=True) for number in range(5)], 0)


def test_an_automatic_cache_reads_the_prefix_of_the_previous_request() -> None:
    cache = PrefixCache(min_tokens=1_024, lifetime_seconds=300, step_tokens=128)
    cache.use(marked(2_000, 100), 0)
    assert cache.use([Segment(0, 2_000), Segment("other", 50)], 300) == CacheUse(1_920, 0, 130)
    assert cache.use([Segment(0, 2_000)], 601).read == 0


def test_a_lost_prefix_is_a_break_and_everything_has_its_price() -> None:
    score = Score(summariser_input=1_000, summariser_output=100)
    score.add(marked(3_000, 5_000))
    score.add([Segment(0, 3_000, is_marked=True), Segment("new", 10)])
    assert (score.requests, score.tokens, score.reused_tokens, score.breaks) == (2, 11_010, 0, 1)
    assert score.cost == pytest.approx(1.25 * 11_000 + 10 + 0.25 * (1_000 + 5 * 100))
    dollars = (11_000 * 3.75 + 10 * 3.0 + 1_000 * 1.0 + 100 * 5.0) / 1e6
    assert score.total_dollars(PRICE_LISTS[0]) == pytest.approx(dollars)


def test_workloads_are_the_same_for_every_strategy() -> None:
    for workload in WORKLOADS.values():
        assert list(workload.make_turns(3, 20)) == list(workload.make_turns(3, 20))
        assert list(workload.make_turns(3, 20)) != list(workload.make_turns(4, 20))


def test_pauses_follow_the_stated_distribution() -> None:
    pauses = [turn.pause_seconds for seed in range(10) for turn in WORKLOADS["chat with pauses"].make_turns(seed)]
    assert statistics.median(pauses) == pytest.approx(120, rel=0.1)
    assert sum(pause > 300 for pause in pauses) / len(pauses) == pytest.approx(0.27, abs=0.02)
    assert sum(pause > 3_600 for pause in pauses) / len(pauses) == pytest.approx(0.012, abs=0.005)


@pytest.mark.parametrize("kind", [TrimmedEachTurn, SummaryRewrittenEachTurn])
async def test_trimming_peers_fill_their_room_and_never_pass_it(kind: type[FullHistory]) -> None:
    workload = WORKLOADS["chat"]
    peer = kind(workload)
    await run_strategy(workload.make_turns(0, 200), peer)
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


def test_the_soak_loses_nothing_and_measures_everything() -> None:
    result = run("benchmarks.soak")
    assert isinstance(result, dict)
    assert result["lost"] == 0
    assert result["turns"] > 0
    assert {row["measure"] for row in result["growth"]} >= {"resident MB", "handles", "threads", "database MB"}
    assert next(stage for stage, _ in result["stages"]) == "Python and mnesis"


def test_the_peers_benchmark_measures_each_store_it_is_asked_for() -> None:
    arguments = ["--sizes", "10", "--rounds", "2", "--only", "one hop,mnesis,Agents"]
    done = run_python(["-m", "benchmarks.peers", *arguments], cwd=ROOT, has_mnesis=True)
    assert done.returncode == 0, done.stderr
    head, _, *rows = done.stdout.splitlines()
    assert head.split("  ")[0] == "ms, processor / wall"
    assert [row.split("  ")[0] for row in rows] == ["aiosqlite, one hop", "mnesis", "OpenAI Agents SQLiteSession"]
    assert all(row.count(" / ") == 4 for row in rows)
