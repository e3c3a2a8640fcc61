"""`mnesis demo`: a long conversation goes in, its context stays small, nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.app import PROBLEM_FOUND
from mnesis.cli.database_option import Place, database_path
from mnesis.cli.output import chart, clean, console, counted, note, one_line, print_json
from mnesis.display.progress_bar import progress

if TYPE_CHECKING:
    from mnesis.demo.replay import DemoReport, Sample, View

_CHART_WIDTH, _CHART_HEIGHT = 72, 8
_MARK = "▼"


@click.command(
    "demo",
    short_help="Replay a long conversation, without any model.",
    epilog="Example: mnesis demo --turns 60 --keep demo.db",
)
@click.option("--turns", type=click.IntRange(min=1), metavar="N", help="Replay only the first N turns.")
@click.option("--keep", metavar="PATH", help="Keep the database here, to look into with the other commands.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.pass_context
def command(ctx: click.Context, turns: int | None, keep: str | None, as_json: bool) -> None:
    """Replay a long conversation, without any model, key or network, and show what became of it.

    An agent and a person replace a spreadsheet over seven weeks: tool calls, a large file, decisions taken and revoked,
    a fact of turn 3 asked for at the end. The model's window is set to 24,000 tokens, so that the context has to be
    compacted again and again. Exit code 1 if any check fails.
    """
    from mnesis.demo.conversation import demo_turns
    from mnesis.demo.replay import replay

    script = demo_turns()[:turns]
    with _database(keep) as path, _unlogged(), progress("turns", len(script)) as bar:
        report = asyncio.run(replay(script, path, lambda turn: bar.advance()))
    if as_json:
        print_json(_figures(report))
    else:
        _print(report, kept=keep is not None)
    if not report.all_held:
        ctx.exit(PROBLEM_FOUND)


@contextmanager
def _database(keep: str | None) -> Iterator[Path]:
    if keep is not None:
        yield database_path(Place(keep))
        return
    with tempfile.TemporaryDirectory(prefix="mnesis-demo-") as directory:
        yield Path(directory, "demo.db")


@contextmanager
def _unlogged() -> Iterator[None]:
    """No warnings of the missing model: it is what the demo is about, and its report says so."""
    logger = logging.getLogger("mnesis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _figures(report: DemoReport) -> dict[str, Any]:
    return {
        "session_id": report.session_id,
        "turns": report.turns,
        "characters": report.characters,
        "summariser": report.summariser,
        "budget": asdict(report.budget),
        "context_tokens": [[s.turn, s.context_tokens, s.settled_tokens] for s in report.samples],
        "compactions": [
            {"turn": s.turn, **result.model_dump(exclude={"session_id"})}
            for s in report.samples
            for result in s.compactions
        ],
        "before": asdict(report.before) if report.before else None,
        "after": asdict(report.after) if report.after else None,
        "fact": asdict(report.found) if report.found else None,
        "checks": [asdict(check) for check in report.checks],
        "all_held": report.all_held,
        "elapsed_seconds": round(report.elapsed_seconds, 3),
    }


def _print(report: DemoReport, *, kept: bool) -> None:
    from rich.text import Text

    screen = console()
    for heading, lines in _sections(report):
        screen.print(Text(heading, style="bold"))
        for line in lines:
            screen.print(Text(f"  {line}"))
        screen.print()
    for check in report.checks:
        mark, style = ("✓", "green") if check.held else ("✗", "bold red")
        screen.print(Text.assemble((f"{mark} ", style), f"{check.name}: {check.detail}"))
    screen.print(Text(f"\n{report.elapsed_seconds:.1f} s", style="dim"))
    if kept:
        note(
            f"kept; look into it with: mnesis context {report.session_id} --db '{report.db_path}' --context-limit 24000"
        )


def _sections(report: DemoReport) -> Iterator[tuple[str, list[str]]]:
    budget, done = report.budget, report.compactions
    folded = sum(result.compacted_message_count for result in done)
    pruned = sum(result.pruned_tool_outputs for result in done)
    yield (
        f"{counted(report.turns, 'turn')}, {report.characters:,} characters, a window of {budget.usable_tokens:,} usable tokens",
        [
            report.summariser,
            f"{counted(len(done), 'compaction')} folded {folded:,} messages and put markers in place of {pruned:,} tool outputs",
        ],
    )
    yield f"context tokens, turn 1 to {report.turns} ({_MARK} compaction)", chart_lines(report)
    if report.before and report.after:
        yield (
            f"what the model would be sent, before the compaction after turn {report.before.turn}",
            _view(report.before),
        )
        yield "… and after it", _view(report.after)
    if report.found:
        way = " → ".join(clean(step) for step in report.found.path) or "the context itself"
        still = "still name it" if report.found.named_in_summaries else "do not name it any more"
        yield (
            "the fact of turn 3, found again",
            [
                f"“{one_line(report.found.text, 400)}”",
                f"message {report.found.seq}, by way of {way}; the summaries in the context {still}",
            ],
        )


def _view(view: View) -> list[str]:
    figures = f"{counted(view.messages, 'message')} ({view.summaries} of them summaries), {view.tokens:,} tokens"
    return [figures, *(f"│ {one_line(line, 100)}" for line in view.first_lines)]


def chart_lines(report: DemoReport) -> list[str]:
    """The context's size over time: the highest in each column; compactions above, marks at the side."""
    columns = _columns(report.samples)
    top = report.budget.usable_tokens
    rows = chart([max(s.context_tokens for s in column) for column in columns], top, _CHART_HEIGHT)
    marks = "".join(_MARK if any(s.compactions for s in column) else " " for column in columns)
    labels = dict.fromkeys(range(_CHART_HEIGHT), "")
    labels[_CHART_HEIGHT - 1 - min(_CHART_HEIGHT - 1, report.budget.low_water_tokens * _CHART_HEIGHT // top)] = "low"
    labels[_CHART_HEIGHT - 1 - min(_CHART_HEIGHT - 1, report.budget.soft_tokens * _CHART_HEIGHT // top)] = "soft"
    labels[0] = "hard"
    tokens = {"low": report.budget.low_water_tokens, "soft": report.budget.soft_tokens, "hard": top, "": 0}
    lines = [
        f"{f'{labels[row]} {tokens[labels[row]]:,}' if labels[row] else '':>12} ┤{line}"
        for row, line in enumerate(rows)
    ]
    return [f"{'':>12}  {marks}", *lines]


def _columns(samples: list[Sample]) -> list[list[Sample]]:
    """The samples in at most as many groups as the chart has columns."""
    width = min(_CHART_WIDTH, len(samples))
    return [samples[len(samples) * n // width : len(samples) * (n + 1) // width] for n in range(width)]
