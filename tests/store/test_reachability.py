"""The check of summaries holds spans, not messages, so that a million messages need no more memory than their summaries."""

from __future__ import annotations

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
