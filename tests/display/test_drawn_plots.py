"""Plots draw what the values say, on the axes they are given, and leave matplotlib as it was."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import matplotlib

matplotlib.use("Agg")  # before pyplot, for these tests alone

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from mnesis.display import plots
from tests.display.displayed import compaction, dag_of, timeline_of, window


def lines(ax: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.get_lines()}


def test_a_timeline_is_a_sawtooth_with_thresholds_and_marks() -> None:
    done = [compaction(turn_index=1, tokens_before=4_100, tokens_after=700)]
    drawn = lines(timeline_of([1_000, 4_000, 1_200], done).plot())
    assert drawn["context"] == ([1, 2, 2, 2, 3], [1_000, 4_000, 4_100, 700, 1_200])
    assert drawn["compaction"] == ([2], [4_100])
    assert drawn["soft 4,000"][1] == [4_000, 4_000]
    assert drawn["hard 6,000"][1] == [6_000, 6_000]


def test_a_window_is_a_bar_of_its_shares() -> None:
    ax = window("x").plot()
    drawn = {box.get_label(): box.patches[0] for box in ax.containers}
    assert {name: round(patch.get_width()) for name, patch in drawn.items()} == {
        "system prompt 50": 50,
        "summaries 100": 100,
        "messages 470": 470,
        "tool outputs 30": 30,
        "reserved 2,000": 2_000,
    }
    assert drawn["reserved 2,000"].get_x() == 6_000
    assert lines(ax)["soft 4,000"][0] == [4_000, 4_000]
    assert lines(ax)["hard 6,000"][0] == [6_000, 6_000]
    assert ax.get_xlim() == (0, 8_000)


def test_a_dag_is_drawn_as_boxes_over_the_messages_and_a_line_per_edge() -> None:
    ax = dag_of("$\\frac{$").plot()
    boxes = {(patch.get_x(), patch.get_width()) for patch in ax.patches}
    assert boxes == {(0.5, 10), (10.5, 10), (20.5, 10), (0.5, 20)}
    assert sorted(tuple(line.get_ydata()) for line in ax.get_lines()) == [(0.7, 0.3), (0.7, 0.3)]
    ax.figure.canvas.draw()


def test_empty_values_can_be_drawn() -> None:
    timeline_of([], []).plot().figure.canvas.draw()
    dag_of("x", leaves=1).plot().figure.canvas.draw()


@pytest.mark.parametrize("value", [timeline_of([1], []), window("x"), dag_of("x")])
def test_plots_draw_on_given_axes_and_hold_on_to_no_figure(value: Any) -> None:
    before = plt.get_fignums()
    ax = Figure().subplots()
    assert value.plot(ax) is ax
    assert value.plot(ax=ax) is ax
    assert value.plot() is not ax
    assert plt.get_fignums() == before
    assert matplotlib.get_backend().lower() == "agg"


def test_in_a_notebook_pyplot_holds_the_figure_for_the_cell_to_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "in_notebook", lambda: True)
    ax = window("x").plot()
    try:
        assert plt.gcf() is ax.figure
    finally:
        plt.close(ax.figure)


def test_without_matplotlib_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'pip install "mnesis-context\[notebook\]"'):
        window("x").plot()


def test_neither_matplotlib_nor_rich_is_loaded_before_something_is_drawn() -> None:
    code = (
        "import sys, mnesis.session, mnesis.sync, mnesis.display.plots, mnesis.models.dag, mnesis.display.progress_bar\n"
        "print([name for name in ('matplotlib', 'rich', 'IPython', 'tqdm') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
