"""Values of every kind that shows itself, filled with whatever text a test brings; and what the tests read of them."""

from __future__ import annotations

from html.parser import HTMLParser
from io import StringIO
from typing import Any

from rich.console import Console

from mnesis.models.agents import AgentMapBatch, AgentMapResult
from mnesis.models.context import Budget, Window
from mnesis.models.dag import SummaryDag
from mnesis.models.map import MapBatch, MapResult
from mnesis.models.message import Message, TextPart, ToolPart, ToolResultPart
from mnesis.models.results import (
    CompactionAttempt,
    CompactionResult,
    ContextBreakdown,
    Expansion,
    TurnSnapshot,
)
from mnesis.models.search import GrepGroup, GrepMatch, GrepPage, SearchHit, SearchPage
from mnesis.models.summary import Summary
from mnesis.models.timeline import Timeline

BUDGET = Budget(
    context_limit=8_000,
    max_output_tokens=1_000,
    usable_tokens=6_000,
    soft_tokens=4_000,
    low_water_tokens=600,
    summary_tokens=400,
)


def message(seq: int, text: str, **fields: Any) -> Message:
    fields = {"role": "user", "token_count": 100, **fields}
    return Message(id=f"m{seq}", seq=seq, parts=(TextPart(text=text),), **fields)


def summary(id: str, text: str = "said", *, first: int = 1, last: int = 10, **fields: Any) -> Summary:
    fields = {"kind": "leaf", "depth": 0, "level": 1, "token_count": 40, **fields}
    return Summary(id=id, text=text, first_seq=first, last_seq=last, message_count=10, source_tokens=400, **fields)


def compaction(**fields: Any) -> CompactionResult:
    fields = {"session_id": "s", "level_used": 1, "tokens_before": 4_100, "tokens_after": 700, **fields}
    return CompactionResult(**fields)


def window(text: str, messages: int = 6) -> Window:
    shown = [
        message(seq, text, is_summary=seq == 1, tool_tokens=30 if seq == 2 else 0) for seq in range(1, messages + 1)
    ]
    return Window(tuple(shown), text, 50, 50 + 100 * messages, 6_000, 3, budget=BUDGET)


def dag_of(text: str, leaves: int = 3, session_id: str = "s") -> SummaryDag:
    """Leaves of ten messages each, all but the last folded into one condensed summary."""
    below = [summary(f"sum_{n}", text, first=10 * n + 1, last=10 * n + 10) for n in range(leaves)]
    folded = tuple(leaf.id for leaf in below[:-1])
    top = summary("sum_top", text, first=1, last=10 * (leaves - 1), kind="condensed", depth=1, child_ids=folded)
    return SummaryDag.of(session_id, [*below, top], {"sum_top", below[-1].id})


def timeline_of(sizes: list[int], compactions: list[CompactionResult], session_id: str = "s") -> Timeline:
    turns = [
        TurnSnapshot(turn_index=n, seq=2 * n + 2, context_tokens=ContextBreakdown(total=size), measured_tokens=size)
        for n, size in enumerate(sizes)
    ]
    return Timeline.of(session_id, turns, compactions, BUDGET)


def every_display(text: str, count: int = 3) -> list[Any]:
    """One value of each kind that shows itself, `text` wherever text can be, `count` items in whatever holds several."""
    hit = SearchHit(text, text, 7, "user", 0, 1.0, text, text, (message(6, text),))
    grep = GrepMatch(text, 7, "user", 0, 1, text[:3], text)
    calls = Message(
        id="c", role="assistant", parts=(ToolPart(tool_name=text[:200] or "t", tool_call_id="1", input={}),)
    )
    outputs = Message(id="o", role="tool", parts=(ToolResultPart(tool_call_id="1", tool_name="t", output=text),))
    messages = (calls, outputs, *(message(n, text) for n in range(count)))
    attempts = tuple(CompactionAttempt(level=1, rejection=text) for _ in range(count))
    done = [MapResult(index=n, success=True, output={"said": text}) for n in range(count)]
    failed = [MapResult(index=n + count, success=False, error=text, error_kind="timeout") for n in range(count)]
    agents = [
        AgentMapResult(index=n, output=text, error=text, error_kind=text, success=n % 2 == 0) for n in range(count)
    ]
    sizes = [100 * (n % 40) for n in range(count)]
    return [
        window(text, count),
        compaction(session_id=text, attempts=attempts),
        summary(text, text),
        hit,
        SearchPage((hit,) * count, text),
        GrepPage((GrepGroup(text, (grep,) * count),), text, True),
        Expansion(summary_id=text, messages=messages, summaries=(summary(text, text),) * count, next_cursor=text),
        MapBatch(successes=tuple(done), failures=tuple(failed), run_id=text),
        AgentMapBatch(successes=tuple(agents[::2]), failures=tuple(agents[1::2]), run_id=text),
        dag_of(text, count, text),
        timeline_of(sizes, [compaction(turn_index=n) for n in range(0, count, 5)], text),
    ]


class Elements(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: dict[str, set[str]] = {}
        self.text = ""
        self.open: list[str] = []
        self.stray: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("br", "circle", "line", "polyline"):
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("circle", "line", "polyline") and (not self.open or self.open.pop() != tag):
            self.stray.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.stray.append(f"<!--{data}")

    def handle_decl(self, decl: str) -> None:
        self.stray.append(f"<!{decl}")

    def handle_pi(self, data: str) -> None:
        self.stray.append(f"<?{data}")


def printed(value: Any, width: int = 80, *, colours: bool = False) -> str:
    """What a rich console of this width prints for a value."""
    out = StringIO()
    Console(file=out, width=width, force_terminal=colours, legacy_windows=False).print(value)
    return out.getvalue()
