"""Whether every message can still be reached from the active context. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mnesis.models.finding import Finding
from mnesis.store.covers import Span, contains

FIX = "restore the database from a backup; the messages themselves are in the log"


@dataclass(frozen=True, slots=True)
class Graph:
    """The summaries of a session and their edges, by key of their rows."""

    names: dict[int, str]
    spans: dict[int, Span]
    counts: dict[int, int]
    messages: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    children: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(
        cls,
        summaries: Iterable[tuple[int, bytes, int, int, int, int]],
        edges: Iterable[tuple[int, int]],
        children: Iterable[tuple[int, int]],
    ) -> Graph:
        """From rows: (pk, id, first, last, message count, tokens), (summary, seq), (parent, child)."""
        rows = list(summaries)
        graph = cls(
            names={pk: name.decode(errors="replace") for pk, name, *_ in rows},
            spans={pk: (first, last) for pk, _, first, last, *_ in rows},
            counts={pk: count for pk, _, _, _, count, _ in rows},
        )
        for summary_pk, seq in edges:
            graph.messages[summary_pk].add(seq)
        for parent, child in children:
            graph.children[parent].add(child)
        return graph

    def reach(self) -> dict[int, set[int] | None]:
        """The messages behind each summary; None for those that stand on themselves."""
        reached: dict[int, set[int] | None] = {}
        waiting = set(self.names)
        while ready := {pk for pk in waiting if self.children.get(pk, set()) <= reached.keys()}:
            for pk in ready:
                behind = [reached[child] or set() for child in self.children.get(pk, ())]
                reached[pk] = set(self.messages.get(pk, ())).union(*behind)
            waiting -= ready
        return {**reached, **dict.fromkeys(waiting)}


def reach_findings(
    session: str,
    last_seq: int,
    graph: Graph,
    covers: Sequence[tuple[int, int, int | None]],
    hidden: Sequence[Span],
) -> list[Finding]:
    """What is wrong with the summaries of a session and with the covers that show them."""
    reach = graph.reach()
    findings = [
        Finding("error", "summaries", f"session {session!r}: {complaint}", FIX, (graph.names[pk],))
        for pk, behind in reach.items()
        if (complaint := _complaint(graph, pk, behind))
    ]
    previous_last = 0
    for first, last, summary_pk in covers:
        if first <= previous_last or last > last_seq:
            detail = f"session {session!r}: the cover of {first} to {last} overlaps another or lies outside the log"
            findings.append(Finding("error", "covers", detail, FIX))
        previous_last = last
        behind = (reach.get(summary_pk) or set()) if summary_pk is not None else set()
        lost = [seq for seq in range(first, last + 1) if seq not in behind and not contains(hidden, seq)]
        if lost:
            detail = f"session {session!r}: {len(lost)} messages from {lost[0]} on cannot be reached from the context"
            findings.append(Finding("error", "covers", detail, FIX))
    return findings


def _complaint(graph: Graph, pk: int, behind: set[int] | None) -> str:
    name, (first, last), count = graph.names[pk], graph.spans[pk], graph.counts[pk]
    if behind is None:
        return f"summary {name!r} stands for itself"
    if len(behind) != count:
        return f"summary {name!r} stands for {count} messages; {len(behind)} can be reached"
    if behind and not first <= min(behind) <= max(behind) <= last:
        return f"summary {name!r} leads to messages outside {first} to {last}"
    return ""
