"""The check that every message can be reached from the active context. Pure functions, no I/O.

Messages are represented as spans, so that the memory of the check grows with the summaries and not with the log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mnesis.models.finding import Finding
from mnesis.store.covers import Span, add_seq, merge_spans, subtract
from mnesis.store.sqlite.fixes import SALVAGE_CONTEXT


@dataclass(frozen=True, slots=True)
class SummaryGraph:
    """The summaries of a session and their edges, by primary key."""

    names: dict[int, str]
    spans: dict[int, Span]
    counts: dict[int, int]
    messages: dict[int, list[Span]] = field(default_factory=lambda: defaultdict(list))
    children: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def from_rows(
        cls,
        summaries: Iterable[tuple[int, str, int, int, int, int]],
        edges: Iterable[tuple[int, int]],
        children: Iterable[tuple[int, int]],
    ) -> SummaryGraph:
        """Build the graph from rows (pk, id, first, last, message count, tokens), (summary, seq) and (parent, child).

        Edges in ascending order take the least memory.
        """
        rows = list(summaries)
        graph = cls(
            names={pk: str(name) for pk, name, *_ in rows},
            spans={pk: (first, last) for pk, _, first, last, *_ in rows},
            counts={pk: count for pk, _, _, _, count, _ in rows},
        )
        for summary_pk, seq in edges:
            add_seq(graph.messages[summary_pk], seq)
        for parent, child in children:
            graph.children[parent].add(child)
        return graph

    def reachable_messages(self) -> dict[int, list[Span] | None]:
        """Return the seqs that each summary covers, as spans in order; None for summaries in a cycle."""
        reached: dict[int, list[Span] | None] = {}
        waiting = set(self.names)
        while ready := {pk for pk in waiting if self.children.get(pk, set()) <= reached.keys()}:
            for pk in ready:
                below = [span for child in self.children.get(pk, ()) for span in reached[child] or ()]
                reached[pk] = merge_spans([*self.messages.get(pk, ()), *below])
            waiting -= ready
        return {**reached, **dict.fromkeys(waiting)}


def reachability_findings(
    session: str,
    last_seq: int,
    graph: SummaryGraph,
    covers: Sequence[tuple[int, int, int | None]],
    hidden: Sequence[Span],
) -> list[Finding]:
    """Find faults in the summaries of a session and in the covers that show them."""
    reachable = graph.reachable_messages()
    findings = [
        Finding("error", "summaries", f"session {session!r}: {fault}", SALVAGE_CONTEXT, (graph.names[pk],))
        for pk, covered in reachable.items()
        if (fault := _describe_fault(graph, pk, covered))
    ]
    previous_last = 0
    for first, last, summary_pk in covers:
        if first <= previous_last or last > last_seq:
            detail = f"session {session!r}: the cover of {first} to {last} overlaps another or lies outside the log"
            findings.append(Finding("error", "covers", detail, SALVAGE_CONTEXT))
        previous_last = last
        covered = (reachable.get(summary_pk) or []) if summary_pk is not None else []
        lost = subtract([(first, last)], [*covered, *hidden])
        if lost:
            count = sum(end - start + 1 for start, end in lost)
            detail = f"session {session!r}: {count} messages from {lost[0][0]} on cannot be reached from the context"
            findings.append(Finding("error", "covers", detail, SALVAGE_CONTEXT))
    return findings


def _describe_fault(graph: SummaryGraph, pk: int, covered: list[Span] | None) -> str:
    name, (first, last), count = graph.names[pk], graph.spans[pk], graph.counts[pk]
    if covered is None:
        return f"summary {name!r} covers itself"
    reached_count = sum(end - start + 1 for start, end in covered)
    if reached_count != count:
        return f"summary {name!r} covers {count} messages; {reached_count} can be reached"
    if covered and not first <= covered[0][0] <= covered[-1][1] <= last:
        return f"summary {name!r} leads to messages outside {first} to {last}"
    return ""
