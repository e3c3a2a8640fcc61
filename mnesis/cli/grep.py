"""`mnesis grep`: every match of a text or pattern in the logs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.damage import note_damage
from mnesis.cli.database_option import DatabaseOption, db_option, json_option, jsonl_option, open_store
from mnesis.cli.id_lookup import select_sessions
from mnesis.cli.output import (
    ROLE_STYLES,
    clean_line,
    line_cell,
    make_console,
    pluralize,
    print_json,
    print_note,
    to_json,
)

if TYPE_CHECKING:
    from rich.console import Console

    from mnesis.models.search import GrepMatch
    from mnesis.models.session import SessionRecord
    from mnesis.recall.grep import GrepQuery
    from mnesis.store.base import Store

_MAX_LINE_CHARS = 300
_LIMIT_REACHED, _TIMED_OUT = "the limit of -n was reached", "the time limit of --time-limit was reached"


@dataclass(frozen=True, slots=True)
class _Match:
    """A match, its location, and the lines around it."""

    session_id: str
    summary_id: str | None
    match: GrepMatch
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the match as a JSON object."""
        location = {"session_id": self.session_id, "summary_id": self.summary_id}
        return location | asdict(self.match) | {"before": self.before, "after": self.after}


@dataclass
class _Outcome:
    """The matches found. `stop_reason` is "" if everything was searched; `cursor` continues the search of one session."""

    hits: list[_Match] = field(default_factory=list)
    stop_reason: str = ""
    cursor: str | None = None


@click.command(
    "grep",
    short_help="Find every match of a text or pattern.",
    epilog="Example: mnesis grep -E 'valve [0-9]+' sess_1a -i -C 2",
)
@click.argument("pattern")
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("-i", "--ignore-case", is_flag=True, help="Ignore upper and lower case.")
@click.option("-F", "literal", is_flag=True, help="PATTERN is literal text; the default.")
@click.option("-E", "regular", is_flag=True, help="PATTERN is a regular expression.")
@click.option(
    "-C", "context", default=0, type=click.IntRange(0, 1_000), metavar="N", help="Show N lines around a match."
)
@click.option(
    "-n", "--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="Maximum number of matches."
)
@click.option(
    "--time-limit",
    "seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=3_600),
    metavar="SECONDS",
    help="Stop after this time and print what was found so far.",
)
@click.option("--cursor", metavar="CURSOR", help="Continue an earlier search of one session.")
@jsonl_option
@json_option
@db_option
def command(
    pattern: str, session_id: str | None, ignore_case: bool, literal: bool, regular: bool, context: int, limit: int, seconds: float,
    cursor: str | None, as_jsonl: bool, as_json: bool, db: DatabaseOption,
) -> None:  # fmt: skip
    """Find every match in one session, or in all, in log order, grouped by the summary that covers it now.

    The logs themselves are searched, so folded messages are found like any other. The exit code is 0 even if nothing is
    found.
    """
    from mnesis.recall.grep import GrepQuery

    if literal and regular:
        raise click.UsageError("-F and -E exclude each other; use one of them")
    if cursor is not None and session_id is None:
        raise click.UsageError("--cursor continues the search of one session; add the session's ID")
    # A brace in brackets is not a repetition count, neither for the matcher nor for the check of its size.
    expression = re.escape(pattern).replace("\\{", "[{]") if not regular else pattern
    query = GrepQuery(expression, ignore_case=ignore_case, limit=limit, cursor=cursor, timeout_seconds=seconds)
    outcome = asyncio.run(_search_sessions(db, session_id, query, context))
    if as_json:
        print_json(
            {
                "matches": [hit.to_dict() for hit in outcome.hits],
                "complete": not outcome.stop_reason,
                "stopped": outcome.stop_reason,
                "next_cursor": outcome.cursor,
            }
        )
    elif as_jsonl:
        for hit in outcome.hits:
            print(to_json(hit.to_dict()))
    else:
        _print(outcome.hits)
    if outcome.stop_reason:
        hint = f"; continue with --cursor {outcome.cursor}" if outcome.cursor else ""
        print_note(f"not everything was searched: {outcome.stop_reason}{hint}")
    elif not outcome.hits:
        print_note("nothing found")


async def _search_sessions(db: DatabaseOption, session_id: str | None, query: GrepQuery, context: int) -> _Outcome:
    outcome, deadline = _Outcome(), time.monotonic() + query.timeout_seconds
    async with open_store(db) as store:
        sessions = await select_sessions(store, session_id)
        for number, session in enumerate(sessions):
            remaining_query = replace(
                query, limit=query.limit - len(outcome.hits), timeout_seconds=deadline - time.monotonic()
            )
            if remaining_query.limit > 0 and remaining_query.timeout_seconds > 0:
                if session_id is not None:
                    await _search_session(store, session, remaining_query, context, outcome)
                else:
                    with note_damage(session.id, "not all of it was searched"):
                        await _search_session(store, session, remaining_query, context, outcome)
                unsearched = len(sessions) - number - 1
            else:
                unsearched = len(sessions) - number
                outcome.stop_reason = _LIMIT_REACHED if remaining_query.limit <= 0 else _TIMED_OUT
            if outcome.stop_reason:
                outcome.stop_reason += f"; {pluralize(unsearched, 'session')} not searched" if unsearched else ""
                break
    if session_id is None:
        outcome.cursor = None
    return outcome


async def _search_session(
    store: Store, session: SessionRecord, query: GrepQuery, context: int, outcome: _Outcome
) -> None:
    from mnesis.recall.grep import grep

    page = await grep(store, session.id, query)
    for group in page.groups:
        for match in group.matches:
            before, after = await _lines_around(store, session.id, match, context) if context else ((), ())
            outcome.hits.append(_Match(session.id, group.summary_id, match, before, after))
    if page.next_cursor is not None:
        outcome.cursor = page.next_cursor
        outcome.stop_reason = _TIMED_OUT if page.timed_out else _LIMIT_REACHED


async def _lines_around(
    store: Store, session_id: str, match: GrepMatch, lines: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines before and after a match, each cut to a printable length."""
    from mnesis.formats.text import message_text

    text = message_text(await store.message(session_id, match.message_id))
    line_start, line_end = text.rfind("\n", 0, match.start) + 1, text.find("\n", match.end)
    before = text[max(0, line_start - lines * 10_000) : max(0, line_start - 1)].split("\n") if line_start else []
    after = text[line_end + 1 : line_end + lines * 10_000].split("\n") if line_end >= 0 else []
    return tuple(line[:_MAX_LINE_CHARS] for line in before[-lines:]), tuple(
        line[:_MAX_LINE_CHARS] for line in after[:lines]
    )


def _print(hits: Sequence[_Match]) -> None:
    console = make_console()
    for (session_id, summary_id), group in groupby(hits, lambda hit: (hit.session_id, hit.summary_id)):
        _print_group(console, session_id, summary_id, list(group))


def _print_group(console: Console, session_id: str, summary_id: str | None, hits: Sequence[_Match]) -> None:
    from rich.text import Text

    covered = f"covered by {clean_line(summary_id)}" if summary_id else "not covered by a summary"
    console.print(Text(f"{clean_line(session_id)}  {covered}  {len(hits):,}", style="bold"))
    last_printed: GrepMatch | None = None
    for hit in hits:
        if last_printed is not None and _same_line(last_printed, hit.match):
            continue
        last_printed = hit.match
        for line in hit.before:
            console.print(Text("        ").append_text(line_cell(line, _MAX_LINE_CHARS)), style="dim")
        prefix = (f"  #{hit.match.seq} {hit.match.role}: ", ROLE_STYLES.get(hit.match.role, ""))
        console.print(Text.assemble(prefix, line_cell(hit.match.line, _MAX_LINE_CHARS)))
        for line in hit.after:
            console.print(Text("        ").append_text(line_cell(line, _MAX_LINE_CHARS)), style="dim")


def _same_line(printed: GrepMatch, match: GrepMatch) -> bool:
    """Return whether a match is on the line that was already printed for an earlier match."""
    lines = (printed.message_id, printed.line), (match.message_id, match.line)
    return lines[0] == lines[1] and match.start - printed.start < len(printed.line)
