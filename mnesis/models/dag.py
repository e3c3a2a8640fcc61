"""The summary DAG of a session, with text, Mermaid, Graphviz and matplotlib output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from mnesis.display import plots
from mnesis.display.displayable import Displayable
from mnesis.display.panel import Node, Panel, Tree, format_span
from mnesis.display.text import one_line
from mnesis.late_types import declare_late_types
from mnesis.models.summary import Summary
from mnesis.models.tables import PREVIEW_CHARS

if TYPE_CHECKING:
    from mnesis.display.plots import Axes
else:
    declare_late_types(globals(), {"matplotlib.axes": "Axes"})


@dataclass(frozen=True, slots=True, repr=False)
class SummaryNode:
    """A summary, whether the context shows it now, and the summaries that it condenses, oldest first."""

    summary: Summary
    in_context: bool
    children: tuple[SummaryNode, ...] = ()

    @property
    def preview(self) -> str:
        """The beginning of the text, on one line."""
        return one_line(self.summary.text, PREVIEW_CHARS)

    @property
    def label(self) -> str:
        """The kind, level, span and sizes, on one line."""
        s = self.summary
        return f"{s.kind}, level {s.level}, {format_span(s.first_seq, s.last_seq)}, {s.source_tokens:,} → {s.token_count:,} tokens"

    def __repr__(self) -> str:
        return f"<SummaryNode {self.summary.id!r}: {self.label}>"


@dataclass(frozen=True, slots=True, repr=False)
class SummaryDag(Displayable, Sequence[SummaryNode]):
    """A sequence of all summaries of a session, children before parents. `str()` draws the tree as text."""

    session_id: str
    nodes: tuple[SummaryNode, ...]

    @classmethod
    def of(cls, session_id: str, summaries: Iterable[Summary], context_ids: Collection[str | None]) -> SummaryDag:
        """Build the DAG from summaries, children before parents. `context_ids` are those that the context shows."""
        nodes: dict[str, SummaryNode] = {}
        for summary in summaries:
            children = tuple(nodes[child] for child in summary.child_ids if child in nodes)
            nodes[summary.id] = SummaryNode(summary, summary.id in context_ids, children)
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
        """The summaries that no other one condenses, in log order."""
        child_ids = {child.summary.id for node in self.nodes for child in node.children}
        roots = (node for node in self.nodes if node.summary.id not in child_ids)
        return tuple(sorted(roots, key=lambda node: node.summary.first_seq))

    def edges(self) -> list[tuple[str, str]]:
        """Return pairs of ids: a summary and one of its children."""
        return [(node.summary.id, child.summary.id) for node in self.nodes for child in node.children]

    def to_mermaid(self) -> str:
        """Return a Mermaid flowchart. Summaries in the context have a thick border."""
        names = self._node_names()
        lines = [f'  {names[n.summary.id]}["{_mermaid(n.label)}<br/>{_mermaid(n.preview)}"]' for n in self.nodes]
        arrows = [f"  {names[above]} --> {names[below]}" for above, below in self.edges()]
        thick = [f"  style {names[n.summary.id]} stroke-width:3px" for n in self.nodes if n.in_context]
        return "\n".join(["flowchart TD", *lines, *arrows, *thick, ""])

    def to_dot(self) -> str:
        """Return a Graphviz drawing. Summaries in the context are bold."""
        names = self._node_names()
        lines = [
            f'  {names[n.summary.id]} [label="{_dot(n.label)}\\n{_dot(n.preview)}"{_bold(n)}];' for n in self.nodes
        ]
        arrows = [f"  {names[above]} -> {names[below]};" for above, below in self.edges()]
        return "\n".join(["digraph summaries {", "  node [shape=box];", *lines, *arrows, "}", ""])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each summary above the messages it covers, with matplotlib. See `mnesis.display.plots`."""
        boxes = {
            n.summary.id: (n.summary.first_seq, n.summary.last_seq, n.summary.depth, n.in_context) for n in self.nodes
        }
        return plots.draw_dag(boxes, self.edges(), ax=ax)

    def __str__(self) -> str:
        from mnesis.display.console import render_plain_text

        return render_plain_text(self._panel())

    def __repr__(self) -> str:
        shown_count = sum(node.in_context for node in self.nodes)
        return f"<SummaryDag of {self.session_id!r}: summaries={len(self.nodes)} in_context={shown_count}>"

    def _node_names(self) -> dict[str, str]:
        return {node.summary.id: f"n{place}" for place, node in enumerate(self.nodes)}

    def _panel(self) -> Panel:
        nodes: dict[str, Node] = {}
        for node in self.nodes:
            children = tuple(nodes[child.summary.id] for child in node.children)
            mark = "in the context" if node.in_context else ""
            nodes[node.summary.id] = Node(f"{node.summary.id}  {node.label}", node.summary.text, mark, children)
        shown_count = sum(node.in_context for node in self.nodes)
        facts = (("summaries", f"{len(self.nodes):,}"), ("in the context", f"{shown_count:,}"))
        tree = Tree(tuple(nodes[root.summary.id] for root in self.roots))
        return Panel(f"Summaries of {self.session_id}", (), facts, (tree,) if self.nodes else ())


def _mermaid(text: str) -> str:
    """Escape text for Mermaid: every character with a possible meaning becomes its character code."""
    return "".join(c if c.isalnum() or c in " .,:→–" else f"#{ord(c)};" for c in text)


def _dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _bold(node: SummaryNode) -> str:
    return ", style=bold" if node.in_context else ""
