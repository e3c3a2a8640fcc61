"""The picture in the README: a whole session, drawn from the engine's own measurements.

`python docs/pictures/draw.py` replays the conversation of `mnesis demo` (no model, no key), writes the measurements to
session.csv and draws session.svg from that file.
"""

from __future__ import annotations

import asyncio
import csv
import tempfile
from pathlib import Path
from typing import Any

from mnesis import MnesisSession
from mnesis.demo.conversation import demo_turns
from mnesis.demo.replay import demo_config, replay

FOLDER = Path(__file__).parent
COLUMNS = ("turn", "context_tokens", "after_compaction", "tokens_said_so_far", "soft_tokens", "usable_tokens")


def measure_session() -> list[tuple[int, ...]]:
    """Replay the conversation and return one row per turn, with the columns `COLUMNS`.

    The tokens after compaction equal the context tokens if the turn had no compaction.
    """
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(_measure(Path(directory) / "demo.db"))


async def _measure(database: Path) -> list[tuple[int, ...]]:
    report = await replay(demo_turns(), database, lambda turn: None)
    async with await MnesisSession.load(report.session_id, config=demo_config(), db_path=database) as session:
        counts = [message.token_count for message in await session.messages()]
    budget, rows = report.budget, []
    for sample in report.samples:
        total_tokens = sum(counts[: 2 * sample.turn])
        after = sample.settled_tokens if sample.compactions else sample.context_tokens
        rows.append((sample.turn, sample.context_tokens, after, total_tokens, budget.soft_tokens, budget.usable_tokens))
    return rows


def load_rows() -> list[tuple[int, ...]]:
    """Read session.csv."""
    with (FOLDER / "session.csv").open(encoding="utf-8", newline="") as file:
        return [tuple(map(int, row)) for row in list(csv.reader(file))[1:]]


def save_rows(rows: list[tuple[int, ...]]) -> None:
    """Write session.csv."""
    with (FOLDER / "session.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def draw(rows: list[tuple[int, ...]], target: Path) -> None:
    """Draw the session. The same rows give the same file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "mnesis", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        _plot(figure.subplots(), rows)
        figure.savefig(target, metadata={"Date": None, "Creator": None})


def _plot(axes: Any, rows: list[tuple[int, ...]]) -> None:
    points = [(turn, tokens) for turn, before, after, *_ in rows for tokens in dict.fromkeys((before, after))]
    folds = [(turn, before) for turn, before, after, *_ in rows if after < before]
    end, _, _, total_tokens, soft, usable = rows[-1]
    label = f"whole conversation, {total_tokens:,} at the end"
    axes.plot(*zip(*((row[0], row[3]) for row in rows), strict=True), color="#9aa4b2", label=label)
    axes.plot(*zip(*points, strict=True), color="#2563eb", label="in the context")
    axes.scatter(*zip(*folds, strict=True), color="#dc2626", zorder=3, s=22, label="compaction")
    for height, text, color, style in (
        (usable, "usable tokens", "#374151", "--"),
        (soft, "soft threshold", "#b45309", ":"),
    ):
        axes.axhline(height, color=color, linewidth=1, linestyle=style)
        axes.annotate(text, (end, height), ha="right", va="bottom", fontsize=9, color=color)
    axes.set(xlabel="turn", ylabel="tokens", xlim=(0, end), ylim=(0, usable * 1.3))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=3, frameon=False)


if __name__ == "__main__":
    save_rows(measure_session())
    draw(load_rows(), FOLDER / "session.svg")
