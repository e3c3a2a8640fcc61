"""The check of summaries holds spans, not messages, so that a million messages need no more memory than their summaries."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mnesis.store.chain import compress_seqs
from mnesis.store.covers import add_seq, merge_spans
from mnesis.store.record_heads import RecordHeads, compute_record_head
from mnesis.store.sqlite.check_reachability import SummaryGraph, reachability_findings


def test_a_leaf_of_consecutive_messages_is_held_as_one_span() -> None:
    graph = SummaryGraph.from_rows([(1, "leaf", 1, 100_000, 100_000, 9)], ((1, seq) for seq in range(1, 100_001)), ())
    assert graph.messages == {1: [(1, 100_000)]}
    assert reachability_findings("s", 100_000, graph, [(1, 100_000, 1)], []) == []


def test_children_with_hidden_messages_between_them_are_counted_once() -> None:
    summaries = [(1, "a", 1, 4, 3, 9), (2, "b", 6, 8, 3, 9), (3, "both", 1, 8, 6, 9), (4, "around", 1, 8, 7, 9)]
    edges = [(1, 1), (1, 2), (1, 4), (2, 8), (2, 6), (2, 7), (4, 5)]
    graph = SummaryGraph.from_rows(summaries, edges, [(3, 1), (3, 2), (4, 3), (4, 1)])
    reached = graph.reachable_messages()
    assert reached[3] == [(1, 2), (4, 4), (6, 8)]
    assert reached[4] == [(1, 2), (4, 8)]
    assert reachability_findings("s", 8, graph, [(1, 8, 4)], [(3, 3)]) == []
    (finding,) = reachability_findings("s", 8, graph, [(1, 8, 3)], [(3, 3)])
    assert finding.detail.endswith("1 messages from 5 on cannot be reached from the context")


@given(st.lists(st.integers(-20, 20), unique=True))
def test_spans_of_any_order_are_the_compressed_seqs(seqs: list[int]) -> None:
    spans: list[tuple[int, int]] = []
    for seq in seqs:
        add_seq(spans, seq)
    assert [end for span in merge_spans(spans) for end in span] == compress_seqs(seqs)


def test_the_hash_of_summaries_is_computed_without_holding_their_messages() -> None:
    count = 100_000
    rows: dict[str, Iterable[tuple[Any, ...]]] = {
        "check_edges": ((1, seq) for seq in range(1, count + 1)),
        "check_child_ids": (),
        "check_inherited": (),
        "check_summary_rows": [(1, "leaf", 1, count, 9, count, b"hash")],
    }
    expected = RecordHeads()
    expected.add_summary(1, ("leaf", 1, count, 9, count, b"hash"), range(1, count + 1), [])
    tracemalloc.start()
    try:
        assert compute_record_head(rows.__getitem__, "summaries") == expected.summaries
        assert tracemalloc.get_traced_memory()[1] < count
    finally:
        tracemalloc.stop()
