"""What a search asks for and what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

from mnesis.display.panel import MAX_ROWS, Panel, Prose, Table
from mnesis.display.shown import Shown
from mnesis.display.text import when
from mnesis.models.message import Message, Role
from mnesis.models.tables import around, message_table

SearchMode = Literal["words", "substring"]


@dataclass(frozen=True, slots=True)
class Search:
    """One search. `session_id` None: every session of the store.

    `mode` "words" ranks by what the words of `query` weigh; "substring" finds `query` itself, newest first. `role`, `tool`
    (its name), `after` and `before` (milliseconds since 1970, `before` not included) and `summary_id` (what stands behind
    it) narrow it. `cursor` continues a page.
    """

    query: str
    session_id: str | None = None
    limit: int = 10
    cursor: str | None = None
    mode: SearchMode = "words"
    role: Role | None = None
    tool: str | None = None
    after: int | None = None
    before: int | None = None
    summary_id: str | None = None

    @property
    def is_filtered(self) -> bool:
        return (self.role, self.tool, self.after, self.before, self.summary_id) != (None,) * 5


@dataclass(frozen=True, slots=True)
class SearchHit(Shown):
    """An original that was found. `score` orders hits of one search and means nothing beyond it.

    `excerpt` is the stretch of its text that matches best; `summary_id` the summary that stands for it in the context now
    (None: it stands there itself, or is hidden). `neighbours` are the messages around it, if asked for.
    """

    message_id: str
    session_id: str
    seq: int
    role: Role
    created_at: int
    score: float
    excerpt: str
    summary_id: str | None = None
    neighbours: tuple[Message, ...] = ()

    def _panel(self) -> Panel:
        facts = (
            ("message", self.message_id),
            ("session", self.session_id),
            ("at", when(self.created_at)),
            ("stands in the context as", self.summary_id or "itself, or is hidden"),
        )
        around_it = (message_table(self.neighbours),) if self.neighbours else ()
        return Panel(f"#{self.seq}", (self.role,), facts, (Prose(self.excerpt), *around_it))


@dataclass(frozen=True, slots=True)
class SearchPage(Shown, Sequence[SearchHit]):
    """Hits, best first. `next_cursor` continues where the page ends, None at the end."""

    hits: tuple[SearchHit, ...] = ()
    next_cursor: str | None = None

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[SearchHit]:
        return iter(self.hits)

    @overload
    def __getitem__(self, index: int) -> SearchHit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SearchHit, ...]: ...
    def __getitem__(self, index: int | slice) -> SearchHit | tuple[SearchHit, ...]:
        return self.hits[index]

    def _panel(self) -> Panel:
        rows = [
            (str(hit.seq), hit.role, when(hit.created_at), hit.excerpt, hit.summary_id or "")
            for hit in self.hits[:MAX_ROWS]
        ]
        columns = ("seq", "role", "at", "excerpt", "folded into")
        badges = ("more with next_cursor",) if self.next_cursor else ()
        table = Table(columns, rows, ("seq",), len(self.hits) - len(rows))
        return Panel("Search hits", badges, (("found", f"{len(self.hits):,}"),), (table,) if rows else ())


@dataclass(frozen=True, slots=True)
class GrepMatch:
    """A place where a pattern matches: the message, which part of its text, and the line around it."""

    message_id: str
    seq: int
    role: Role
    start: int
    end: int
    text: str
    line: str


@dataclass(frozen=True, slots=True)
class GrepGroup:
    """Matches in neighbouring messages that one summary covers; `summary_id` None: they stand in the context themselves."""

    summary_id: str | None
    matches: tuple[GrepMatch, ...]


@dataclass(frozen=True, slots=True)
class GrepPage(Shown):
    """Matches in order of the log, grouped. `next_cursor` continues, None at the end.

    `timed_out`: the time limit ended the search; the cursor continues after the message it was in.
    """

    groups: tuple[GrepGroup, ...] = ()
    next_cursor: str | None = None
    timed_out: bool = False

    @property
    def matches(self) -> tuple[GrepMatch, ...]:
        """All matches of the page, in order."""
        return tuple(match for group in self.groups for match in group.matches)

    def _panel(self) -> Panel:
        rows = [
            (str(match.seq), match.role, around(match.line, match.text), group.summary_id or "")
            for group in self.groups
            for match in group.matches
        ]
        more = ("more with next_cursor",) if self.next_cursor else ()
        badges = (*(("ended by the time limit",) if self.timed_out else ()), *more)
        table = Table(("seq", "role", "line", "folded into"), rows, ("seq",))
        return Panel("Matches", badges, (("found", f"{len(rows):,}"),), (table,) if rows else ())
