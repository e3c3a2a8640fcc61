"""`mnesis grep`: every place in the logs where a pattern stands."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import Place, db_option, json_option, lines_option, reading
from mnesis.cli.id_lookup import chosen_sessions
from mnesis.cli.output import ROLE_STYLES, clean, console, counted, cut, note, print_json, to_json

if TYPE_CHECKING:
    from rich.console import Console

    from mnesis.models.search import GrepMatch
    from mnesis.models.session import SessionRecord
    from mnesis.recall.grep import Grep
    from mnesis.store.base import Store

_LINE_CHARS = 300
_FULL, _OVER = "as many matches as -n allows were found", "the time of --time-limit was over"


@dataclass(frozen=True, slots=True)
class _Hit:
    """A match, where it is, and the lines around it."""

    session_id: str
    summary_id: str | None
    match: GrepMatch
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """For programs."""
        place = {"session_id": self.session_id, "summary_id": self.summary_id}
        return place | asdict(self.match) | {"before": self.before, "after": self.after}


@dataclass
class _Outcome:
    """What was found; why the search ended early ("" if it did not), and where one session's search goes on."""

    hits: list[_Hit] = field(default_factory=list)
    stopped: str = ""
    cursor: str | None = None


@click.command(
    "grep",
    short_help="Find every place where a text or pattern stands.",
    epilog="Example: mnesis grep -E 'valve [0-9]+' sess_1a -i -C 2",
)
@click.argument("pattern")
@click.argument("session_id", metavar="[ID]", required=False)
@click.option("-i", "--ignore-case", is_flag=True, help="Capitals do not matter.")
@click.option("-F", "literal", is_flag=True, help="PATTERN is a text as it stands; the default.")
@click.option("-E", "regular", is_flag=True, help="PATTERN is a regular expression.")
@click.option(
    "-C", "context", default=0, type=click.IntRange(0, 1_000), metavar="N", help="Show N lines around a match."
)
@click.option("-n", "--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@click.option(
    "--time-limit",
    "seconds",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=3_600),
    metavar="SECONDS",
    help="Then print what was found so far, and say so.",
)
@click.option("--cursor", metavar="CURSOR", help="Go on where a search of one session ended.")
@lines_option
@json_option
@db_option
def command(
    pattern: str, session_id: str | None, ignore_case: bool, literal: bool, regular: bool, context: int, limit: int, seconds: float,
    cursor: str | None, as_lines: bool, as_json: bool, db: Place,
) -> None:  # fmt: skip
    """Find every place in one session, or in all, in order of the log, grouped by the summary that covers it now.

    Looks at the logs themselves: folded messages are found like all others. Exit code 0 also when nothing is found.
    """
    from mnesis.recall.grep import Grep

    if literal and regular:
        raise click.UsageError("-F and -E contradict each other; give one of them")
    if cursor is not None and session_id is None:
        raise click.UsageError("--cursor belongs to a search of one session; name it")
    # A brace in brackets is no count of repetitions, neither for the matcher nor for the check of its size.
    written = re.escape(pattern).replace("\\{", "[{]") if not regular else pattern
    wanted = Grep(written, ignore_case=ignore_case, limit=limit, cursor=cursor, timeout_seconds=seconds)
    outcome = asyncio.run(_found(db, session_id, wanted, context))
    if as_json:
        print_json(
            {
                "matches": [hit.facts() for hit in outcome.hits],
                "complete": not outcome.stopped,
                "stopped": outcome.stopped,
                "next_cursor": outcome.cursor,
            }
        )
    elif as_lines:
        for hit in outcome.hits:
            print(to_json(hit.facts()))
    else:
        _print(outcome.hits)
    if outcome.stopped:
        how = f"; go on with --cursor {outcome.cursor}" if outcome.cursor else ""
        note(f"not everything was searched: {outcome.stopped}{how}")
    elif not outcome.hits:
        note("nothing found")


async def _found(db: Place, session_id: str | None, wanted: Grep, context: int) -> _Outcome:
    outcome, deadline = _Outcome(), time.monotonic() + wanted.timeout_seconds
    async with reading(db) as store:
        sessions = await chosen_sessions(store, session_id)
        for number, session in enumerate(sessions):
            left = replace(wanted, limit=wanted.limit - len(outcome.hits), timeout_seconds=deadline - time.monotonic())
            if left.limit > 0 and left.timeout_seconds > 0:
                await _search(store, session, left, context, outcome)
                unseen = len(sessions) - number - 1
            else:
                unseen = len(sessions) - number
                outcome.stopped = _FULL if left.limit <= 0 else _OVER
            if outcome.stopped:
                outcome.stopped += f"; {counted(unseen, 'session')} not looked at" if unseen else ""
                break
    if session_id is None:
        outcome.cursor = None
    return outcome


async def _search(store: Store, session: SessionRecord, wanted: Grep, context: int, outcome: _Outcome) -> None:
    from mnesis.recall.grep import grep

    page = await grep(store, session.id, wanted)
    for group in page.groups:
        for match in group.matches:
            before, after = await _around(store, session.id, match, context) if context else ((), ())
            outcome.hits.append(_Hit(session.id, group.summary_id, match, before, after))
    if page.next_cursor is not None:
        outcome.cursor = page.next_cursor
        outcome.stopped = _OVER if page.timed_out else _FULL


async def _around(
    store: Store, session_id: str, match: GrepMatch, lines: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines before and after the ones a match stands on, each cut to a printable length."""
    from mnesis.formats.text import readable

    text = readable(await store.message(session_id, match.message_id))
    line_start, line_end = text.rfind("\n", 0, match.start) + 1, text.find("\n", match.end)
    before = text[max(0, line_start - lines * 10_000) : max(0, line_start - 1)].split("\n") if line_start else []
    after = text[line_end + 1 : line_end + lines * 10_000].split("\n") if line_end >= 0 else []
    return tuple(line[:_LINE_CHARS] for line in before[-lines:]), tuple(line[:_LINE_CHARS] for line in after[:lines])


def _print(hits: Sequence[_Hit]) -> None:
    screen = console()
    for (session_id, summary_id), group in groupby(hits, lambda hit: (hit.session_id, hit.summary_id)):
        _print_group(screen, session_id, summary_id, list(group))


def _print_group(screen: Console, session_id: str, summary_id: str | None, hits: Sequence[_Hit]) -> None:
    from rich.text import Text

    covered = f"covered by {clean(summary_id)}" if summary_id else "not covered by a summary"
    screen.print(Text(f"{clean(session_id)}  {covered}  {len(hits):,}", style="bold"))
    printed: GrepMatch | None = None
    for hit in hits:
        if printed is not None and _same_line(printed, hit.match):
            continue
        printed = hit.match
        for line in hit.before:
            screen.print(Text("        ").append_text(cut(line, _LINE_CHARS)), style="dim")
        head = (f"  #{hit.match.seq} {hit.match.role}: ", ROLE_STYLES.get(hit.match.role, ""))
        screen.print(Text.assemble(head, cut(hit.match.line, _LINE_CHARS)))
        for line in hit.after:
            screen.print(Text("        ").append_text(cut(line, _LINE_CHARS)), style="dim")


def _same_line(first: GrepMatch, match: GrepMatch) -> bool:
    """Whether a match stands on the line that was printed for the first match on it."""
    lines = (first.message_id, first.line), (match.message_id, match.line)
    return lines[0] == lines[1] and match.start - first.start < len(first.line)
