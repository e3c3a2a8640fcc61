"""`mnesis demo`: replay a long conversation and report what happens to its context."""

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
from mnesis.cli.database_option import DatabaseOption, database_path
from mnesis.cli.output import chart_rows, clean_line, make_console, one_line, pluralize, print_json, print_note
from mnesis.display.progress_bar import progress

if TYPE_CHECKING:
    from mnesis.demo.replay import DemoReport, Sample, WindowSnapshot

_CHART_WIDTH_CHARS, _CHART_HEIGHT_ROWS = 72, 8
_COMPACTION_SIGN = "▼"


@click.command(
    "demo",
    short_help="Replay a long conversation without a model.",
    epilog="Example: mnesis demo --turns 60 --keep demo.db",
)
@click.option("--turns", type=click.IntRange(min=1), metavar="N", help="Replay only the first N turns.")
@click.option("--keep", metavar="PATH", help="Keep the database at PATH, to inspect it with the other commands.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.pass_context
def command(ctx: click.Context, turns: int | None, keep: str | None, as_json: bool) -> None:
    """Replay a long conversation without a model, key or network, and show what happens to its context.

    An agent and a person replace a spreadsheet over seven weeks: tool calls, a large file, decisions made and revoked, and
    a question at the end about a fact from turn 3. The model's window is set to 24,000 tokens, so the context is compacted
    many times. The exit code is 1 if any check fails.
    """
    from mnesis.demo.conversation import demo_turns
    from mnesis.demo.replay import replay

    script = demo_turns()[:turns]
    with _database_path(keep) as path, _silence_log(), progress("turns", len(script)) as bar:
        report = asyncio.run(replay(script, path, lambda turn: bar.advance()))
    if as_json:
        print_json(_to_dict(report))
    else:
        _print(report, is_kept=keep is not None)
    if not report.all_held:
        ctx.exit(PROBLEM_FOUND)


@contextmanager
def _database_path(keep: str | None) -> Iterator[Path]:
    if keep is not None:
        path = database_path(DatabaseOption(keep))
        if not isinstance(path, Path):
            raise click.UsageError("the demo measures an SQLite file; pass the path of a new file with --keep")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mnesis-demo-") as directory:
        yield Path(directory, "demo.db")


@contextmanager
def _silence_log() -> Iterator[None]:
    """Suppress warnings about the missing model. The demo runs without a model on purpose, and its report says so."""
    logger = logging.getLogger("mnesis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _to_dict(report: DemoReport) -> dict[str, Any]:
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
        "fact": asdict(report.early_fact) if report.early_fact else None,
        "checks": [asdict(check) for check in report.checks],
        "all_held": report.all_held,
        "elapsed_seconds": round(report.elapsed_seconds, 3),
    }


def _print(report: DemoReport, *, is_kept: bool) -> None:
    from rich.text import Text

    console = make_console()
    for heading, lines in _sections(report):
        console.print(Text(heading, style="bold"))
        for line in lines:
            console.print(Text(f"  {line}"))
        console.print()
    for check in report.checks:
        mark, style = ("✓", "green") if check.held else ("✗", "bold red")
        console.print(Text.assemble((f"{mark} ", style), f"{check.name}: {check.detail}"))
    console.print(Text(f"\n{report.elapsed_seconds:.1f} s", style="dim"))
    if is_kept:
        print_note(
            f"kept; inspect it with: mnesis context {report.session_id} --db '{report.db_path}' --context-limit 24000"
        )


def _sections(report: DemoReport) -> Iterator[tuple[str, list[str]]]:
    budget, compactions = report.budget, report.compactions
    folded = sum(result.compacted_message_count for result in compactions)
    pruned = sum(result.pruned_tool_outputs for result in compactions)
    yield (
        f"{pluralize(report.turns, 'turn')}, {report.characters:,} characters, a window of {budget.usable_tokens:,} usable tokens",
        [
            report.summariser,
            f"{pluralize(len(compactions), 'compaction')} folded {folded:,} messages and put markers in place of {pruned:,} tool outputs",
        ],
    )
    yield f"context tokens, turn 1 to {report.turns} ({_COMPACTION_SIGN} compaction)", chart_lines(report)
    if report.before and report.after:
        yield (
            f"what the model would be sent, before the compaction after turn {report.before.turn}",
            _view_lines(report.before),
        )
        yield "… and after it", _view_lines(report.after)
    if report.early_fact:
        path = " → ".join(clean_line(step) for step in report.early_fact.path) or "the context itself"
        mention = "still mention it" if report.early_fact.named_in_summaries else "no longer mention it"
        yield (
            "the fact of turn 3, found again",
            [
                f"“{one_line(report.early_fact.text, 400)}”",
                f"message {report.early_fact.seq}, reached through {path}; the summaries in the context {mention}",
            ],
        )


def _view_lines(view: WindowSnapshot) -> list[str]:
    figures = f"{pluralize(view.messages, 'message')} ({view.summaries} of them summaries), {view.tokens:,} tokens"
    return [figures, *(f"│ {one_line(line, 100)}" for line in view.first_lines)]


def chart_lines(report: DemoReport) -> list[str]:
    """Return a chart of the context's size over time: the maximum of each column, with compactions above and thresholds
    at the side.
    """
    columns = _columns(report.samples)
    top = report.budget.usable_tokens
    rows = chart_rows([max(s.context_tokens for s in column) for column in columns], top, _CHART_HEIGHT_ROWS)
    marks = "".join(_COMPACTION_SIGN if any(s.compactions for s in column) else " " for column in columns)
    labels = dict.fromkeys(range(_CHART_HEIGHT_ROWS), "")
    labels[
        _CHART_HEIGHT_ROWS - 1 - min(_CHART_HEIGHT_ROWS - 1, report.budget.low_water_tokens * _CHART_HEIGHT_ROWS // top)
    ] = "low"
    labels[
        _CHART_HEIGHT_ROWS - 1 - min(_CHART_HEIGHT_ROWS - 1, report.budget.soft_tokens * _CHART_HEIGHT_ROWS // top)
    ] = "soft"
    labels[0] = "hard"
    tokens = {"low": report.budget.low_water_tokens, "soft": report.budget.soft_tokens, "hard": top, "": 0}
    lines = [
        f"{f'{labels[row]} {tokens[labels[row]]:,}' if labels[row] else '':>12} ┤{line}"
        for row, line in enumerate(rows)
    ]
    return [f"{'':>12}  {marks}", *lines]


def _columns(samples: list[Sample]) -> list[list[Sample]]:
    """Group the samples by chart column."""
    width = min(_CHART_WIDTH_CHARS, len(samples))
    return [samples[len(samples) * n // width : len(samples) * (n + 1) // width] for n in range(width)]
