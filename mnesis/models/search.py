"""Search queries and their results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, overload

from mnesis.display.displayable import Displayable
from mnesis.display.panel import MAX_ROWS, Panel, Prose, Table
from mnesis.display.text import format_time
from mnesis.models.message import Message, Role
from mnesis.models.tables import excerpt_around, message_table

SearchMode = Literal["words", "substring"]


@dataclass(frozen=True, slots=True)
class QueryVector:
    """The vector of a query, and the name of the model that made it, under which vectors of messages are stored."""

    model: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class UnembeddedMessage:
    """A message without a vector of a model: the key under which the search index stores its vector, and its text."""

    key: int
    text: str


@dataclass(frozen=True, slots=True)
class Search:
    """A search query. `session_id` None searches every session of the store.

    `mode` "words" ranks by the words of `query`, weighted by rarity; "substring" finds `query` verbatim, newest first.
    Filters are `role`, `tool` (a name), `after` and `before` (milliseconds since 1970, `before` exclusive) and
    `summary_id` (messages that this summary covers). `cursor` continues after a page. `now`, with a time zone, is the
    time of the query, to which "last week" is relative; None ignores such expressions. `vector` also ranks messages by
    the similarity of their stored vectors.
    """

    query: str
    session_id: str | None = None
    limit: int = 10
    cursor: str | None = None
    mode: SearchMode = "words"
    role: Role | None = None
    tool: str | None = None
    after: float | None = None
    before: float | None = None
    summary_id: str | None = None
    now: datetime | None = None
    vector: QueryVector | None = None

    @property
    def is_filtered(self) -> bool:
        """Whether any filter is set."""
        return (self.role, self.tool, self.after, self.before, self.summary_id) != (None,) * 5


@dataclass(frozen=True, slots=True)
class SearchHit(Displayable):
    """An original message that matches a search. `score` orders the hits of one search and has no other meaning.

    `excerpt` is the part of its text that matches best. `summary_id` is the summary that covers it in the context now, or
    None if the context shows it or it is hidden. `neighbours` are the surrounding messages, if requested.
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
            ("at", format_time(self.created_at)),
            ("in the context as", self.summary_id or "itself, or hidden"),
        )
        around_it = (message_table(self.neighbours),) if self.neighbours else ()
        return Panel(f"#{self.seq}", (self.role,), facts, (Prose(self.excerpt), *around_it))


@dataclass(frozen=True, slots=True)
class SearchPage(Displayable, Sequence[SearchHit]):
    """Hits, best first. `next_cursor` continues where the page ends; it is None on the last page.

    `missing_vectors` is the number of searched messages without a vector of the model of `Search.vector`; 0 without one.
    """

    hits: tuple[SearchHit, ...] = ()
    next_cursor: str | None = None
    missing_vectors: int = 0

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
            (str(hit.seq), hit.role, format_time(hit.created_at), hit.excerpt, hit.summary_id or "")
            for hit in self.hits[:MAX_ROWS]
        ]
        columns = ("seq", "role", "at", "excerpt", "folded into")
        badges = ("more with next_cursor",) if self.next_cursor else ()
        table = Table(columns, rows, ("seq",), len(self.hits) - len(rows))
        return Panel("Search hits", badges, (("found", f"{len(self.hits):,}"),), (table,) if rows else ())


@dataclass(frozen=True, slots=True)
class GrepMatch:
    """A match of a pattern: the message, the position in its text, and the line."""

    message_id: str
    seq: int
    role: Role
    start: int
    end: int
    text: str
    line: str


@dataclass(frozen=True, slots=True)
class GrepGroup:
    """Matches in adjacent messages that the same summary covers; `summary_id` None means that no summary covers them."""

    summary_id: str | None
    matches: tuple[GrepMatch, ...]


@dataclass(frozen=True, slots=True)
class GrepPage(Displayable):
    """Matches in log order, grouped by covering summary. `next_cursor` continues; it is None on the last page.

    `timed_out` is True if the time limit ended the search. The cursor then continues after the message where it ended.
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
            (str(match.seq), match.role, excerpt_around(match.line, match.text), group.summary_id or "")
            for group in self.groups
            for match in group.matches
        ]
        more = ("more with next_cursor",) if self.next_cursor else ()
        badges = (*(("ended by the time limit",) if self.timed_out else ()), *more)
        table = Table(("seq", "role", "line", "folded into"), rows, ("seq",))
        return Panel("Matches", badges, (("found", f"{len(rows):,}"),), (table,) if rows else ())
