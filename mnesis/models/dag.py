"""The summaries of a session and what each was made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from mnesis.display import plots
from mnesis.display.panel import Node, Panel, Tree, span
from mnesis.display.shown import Shown
from mnesis.display.text import one_line
from mnesis.models.summary import Summary
from mnesis.models.tables import PREVIEW_CHARS

if TYPE_CHECKING:
    from mnesis.display.plots import Axes


@dataclass(frozen=True, slots=True, repr=False)
class SummaryNode:
    """A summary, whether it stands in the context now, and the summaries it was made of, oldest first."""

    summary: Summary
    in_context: bool
    children: tuple[SummaryNode, ...] = ()

    @property
    def preview(self) -> str:
        """The beginning of its text, on one line."""
        return one_line(self.summary.text, PREVIEW_CHARS)

    @property
    def label(self) -> str:
        """Kind, level, span of the log and sizes, on one line."""
        s = self.summary
        return f"{s.kind}, level {s.level}, {span(s.first_seq, s.last_seq)}, {s.source_tokens:,} → {s.token_count:,} tokens"

    def __repr__(self) -> str:
        return f"<SummaryNode {self.summary.id!r}: {self.label}>"


@dataclass(frozen=True, slots=True, repr=False)
class SummaryDag(Shown, Sequence[SummaryNode]):
    """Every summary of a session, children before parents, a sequence. `str()` draws the tree as text."""

    session_id: str
    nodes: tuple[SummaryNode, ...]

    @classmethod
    def of(cls, session_id: str, summaries: Iterable[Summary], standing_ids: Collection[str | None]) -> SummaryDag:
        """Of summaries as a store gives them, children before parents; `standing_ids` are those the context shows."""
        nodes: dict[str, SummaryNode] = {}
        for summary in summaries:
            children = tuple(nodes[child] for child in summary.child_ids if child in nodes)
            nodes[summary.id] = SummaryNode(summary, summary.id in standing_ids, children)
        return cls(session_id, tuple(nodes.values()))

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[SummaryNode]:
        return iter(self.nodes)

    @overload
    def __getitem__(self, index: int) -> SummaryNode: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SummaryNode, ...]: ...
    def __getitem__(self, index: int | slice) -> SummaryNode | tuple[SummaryNode, ...]:
        return self.nodes[index]

    @property
    def roots(self) -> tuple[SummaryNode, ...]:
        """Those that no other was made of, in order of the log."""
        below = {child.summary.id for node in self.nodes for child in node.children}
        tops = (node for node in self.nodes if node.summary.id not in below)
        return tuple(sorted(tops, key=lambda node: node.summary.first_seq))

    def edges(self) -> list[tuple[str, str]]:
        """Pairs of ids: a summary, and one it was made of."""
        return [(node.summary.id, child.summary.id) for node in self.nodes for child in node.children]

    def to_mermaid(self) -> str:
        """The source of a Mermaid flowchart; those in the context have a thick border."""
        names = self._names()
        drawn = [f'  {names[n.summary.id]}["{_mermaid(n.label)}<br/>{_mermaid(n.preview)}"]' for n in self.nodes]
        arrows = [f"  {names[above]} --> {names[below]}" for above, below in self.edges()]
        thick = [f"  style {names[n.summary.id]} stroke-width:3px" for n in self.nodes if n.in_context]
        return "\n".join(["flowchart TD", *drawn, *arrows, *thick, ""])

    def to_dot(self) -> str:
        """The source of a Graphviz drawing; those in the context are bold."""
        names = self._names()
        drawn = [
            f'  {names[n.summary.id]} [label="{_dot(n.label)}\\n{_dot(n.preview)}"{_bold(n)}];' for n in self.nodes
        ]
        arrows = [f"  {names[above]} -> {names[below]};" for above, below in self.edges()]
        return "\n".join(["digraph summaries {", "  node [shape=box];", *drawn, *arrows, "}", ""])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw it with matplotlib: each summary over the messages it stands for. See `mnesis.display.plots`."""
        boxes = {
            n.summary.id: (n.summary.first_seq, n.summary.last_seq, n.summary.depth, n.in_context) for n in self.nodes
        }
        return plots.dag(boxes, self.edges(), ax=ax)

    def __str__(self) -> str:
        from mnesis.display.console import plain

        return plain(self._panel())

    def __repr__(self) -> str:
        standing = sum(node.in_context for node in self.nodes)
        return f"<SummaryDag of {self.session_id!r}: summaries={len(self.nodes)} in_context={standing}>"

    def _names(self) -> dict[str, str]:
        return {node.summary.id: f"n{place}" for place, node in enumerate(self.nodes)}

    def _panel(self) -> Panel:
        drawn: dict[str, Node] = {}
        for node in self.nodes:
            below = tuple(drawn[child.summary.id] for child in node.children)
            mark = "in the context" if node.in_context else ""
            drawn[node.summary.id] = Node(f"{node.summary.id}  {node.label}", node.summary.text, mark, below)
        standing = sum(node.in_context for node in self.nodes)
        facts = (("summaries", f"{len(self.nodes):,}"), ("in the context", f"{standing:,}"))
        tree = Tree(tuple(drawn[root.summary.id] for root in self.roots))
        return Panel(f"Summaries of {self.session_id}", (), facts, (tree,) if self.nodes else ())


def _mermaid(text: str) -> str:
    """Text as Mermaid shows it literally: everything that could mean something is written as its number."""
    return "".join(c if c.isalnum() or c in " .,:→–" else f"#{ord(c)};" for c in text)


def _dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _bold(node: SummaryNode) -> str:
    return ", style=bold" if node.in_context else ""
