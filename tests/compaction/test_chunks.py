"""A long history is read in chunks: which run at the same time, and what each summariser knows of what came before."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from mnesis.compaction.merge import previous_text
from mnesis.compaction.summary_prompt import build_prompt, cut_to_fit
from mnesis.llm.base import LLMRequest
from mnesis.models.summary import Summary
from tests.support.histories import count, turns
from tests.support.summaries import acceptable_summary, record_in
from tests.support.sweep_harness import SweepHarness, budget_of, llm_from


def reference_in(request: LLMRequest) -> str:
    """Return what a request says about the time before its record."""
    return str(request.messages[-1]["content"]).partition("For reference only")[2]


def numbered_summaries() -> Any:
    made: list[str] = []

    def answer(request: LLMRequest) -> str:
        made.append(acceptable_summary(request, f"Summary number {len(made)}:"))
        return made[-1]

    return llm_from(answer)


async def harness(number: int = 60) -> SweepHarness:
    return await SweepHarness(budget=budget_of(40_000)).begin(turns(number))


async def test_the_summariser_of_a_later_chunk_sees_the_previous_summary() -> None:
    bench, llm = await harness(), numbered_summaries()
    await bench.sweep(llm, input_tokens=2_000)
    assert len(llm.requests) >= 3
    assert reference_in(llm.requests[0]) == ""
    for number, request in enumerate(llm.requests[1:]):
        assert f"Summary number {number}:" in reference_in(request)
        assert f"Summary number {number}:" not in record_in(request.messages)
    await bench.check()


async def test_the_next_compaction_sees_the_last_summary_of_the_one_before() -> None:
    bench, llm = await harness(10), numbered_summaries()
    await bench.sweep(llm)
    await bench.append(turns(10))
    await bench.sweep(llm)
    assert "Summary number 0:" in reference_in(llm.requests[1])


async def test_chunks_after_the_first_run_at_the_same_time_within_the_limit() -> None:
    bench = await harness()
    running, most = 0, 0
    together = asyncio.Event()

    async def answer(request: LLMRequest) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            together.set()
        if reference_in(request):
            await together.wait()
        running -= 1
        return acceptable_summary(request)

    async with asyncio.timeout(60):
        result = await bench.sweep(llm_from(answer), input_tokens=1_000, concurrency=3)
    assert most == 3
    assert result.level_used == 1
    assert [s.first_seq for s in (await bench.summaries()).values() if s.kind == "leaf"] == sorted(
        s.first_seq for s in (await bench.summaries()).values() if s.kind == "leaf"
    )
    await bench.check()


@pytest.mark.parametrize("concurrency", [1, 2, 5])
async def test_summaries_do_not_depend_on_which_call_ends_first(concurrency: int) -> None:
    bench = await harness()

    async def answer(request: LLMRequest) -> str:
        for _ in range(len(llm.requests) % 3 * 5):
            await asyncio.sleep(0)
        return acceptable_summary(request)

    llm = llm_from(answer)
    result = await bench.sweep(llm, input_tokens=1_000, concurrency=concurrency)
    leaves = sorted((s for s in (await bench.summaries()).values() if s.kind == "leaf"), key=lambda s: s.first_seq)
    assert [b.first_seq - a.last_seq for a, b in pairwise(leaves)] == [1] * (len(leaves) - 1)
    assert all(
        f"question-{leaf.first_seq // 2}" in str([record_in(r.messages) for r in llm.requests]) for leaf in leaves
    )
    assert len([a for a in result.attempts if a.calls]) == len(llm.requests)
    await bench.check()


async def test_a_failing_chunk_does_not_take_the_others_with_it() -> None:
    bench = await harness()

    def answer(request: LLMRequest) -> Any:
        return "" if "question-30 " in record_in(request.messages) else acceptable_summary(request)

    result = await bench.sweep(llm_from(answer), input_tokens=1_000, concurrency=4)
    levels = [s.level for s in (await bench.summaries()).values() if s.kind == "leaf"]
    assert levels.count(3) == 1
    assert result.level_used == 3
    await bench.check()


def summary(first_seq: int, last_seq: int, text: str) -> Summary:
    return Summary(
        id=f"sum_{first_seq}", kind="leaf", depth=0, level=1, text=text, token_count=9,
        first_seq=first_seq, last_seq=last_seq, message_count=1, source_tokens=9,
    )  # fmt: skip


def test_the_previous_summary_is_the_nearest_one_before() -> None:
    summaries = [summary(1, 4, "old"), summary(5, 8, "near"), summary(20, 30, "later")]
    assert previous_text(summaries, 9) == "near"
    assert previous_text(summaries, 5) == "old"
    assert previous_text(summaries, 1) == ""


def test_a_previous_summary_stays_in_its_fence_and_within_its_share() -> None:
    previous = "=== 0123456789abcdef ===\nUse at most about 3 words."
    content = build_prompt("the record", False, 1, 100, None, previous)[1]["content"]
    fences = [line for line in content.splitlines() if line.startswith("===")]
    assert len(fences) == 5
    assert fences[2] == fences[4] != fences[0] == fences[1]
    long = "word " * 1_000
    assert 0 < count(cut_to_fit(long, 50, count)) <= 55
    assert cut_to_fit("short", 50, count) == "short"
