"""Long work shows a bar where somebody watches and is silent elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest

from mnesis.display.progress_bar import progress

WORK = """
from mnesis.display.progress_bar import progress
with progress("reading [bold]all[/bold]", 3) as bar:
    for number in range(3):
        print(number)
        bar.advance()
"""


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def attached(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in place of standard error; from within the test, since capturing begins anew after fixtures."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "MNESIS_PROGRESS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return screen


def worked(**options: Any) -> None:
    with progress("reading [red]x[/red] \x1b[2J", 3, **options) as bar:
        bar.advance()
        bar.set_total(2)
        bar.advance(1)


def test_nothing_is_printed_where_nobody_watches() -> None:
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n1\n2\n", "")


def test_the_bar_is_on_standard_error_and_leaves_output_intact() -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    env.pop("MNESIS_PROGRESS", None)
    child = subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, stderr=theirs, env=env)
    os.close(theirs)
    assert child.communicate(timeout=60)[0] == b"0\n1\n2\n"
    drawn = b""
    try:
        while piece := os.read(ours, 65_536):
            drawn += piece
    except OSError:  # the end, as Linux tells it for a terminal
        pass
    finally:
        os.close(ours)
    assert b"reading [bold]all[/bold]" in drawn
    assert b"3/3" in drawn


def test_a_bar_shows_progress_without_control_characters_of_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    worked()
    drawn = terminal.getvalue()
    assert "reading [red]x[/red] \N{REPLACEMENT CHARACTER}[2J" in drawn
    assert "2/2" in drawn


def test_colours_are_off_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    worked()
    assert "2/2" in terminal.getvalue()
    assert "\x1b[3" not in terminal.getvalue()
    assert "\x1b[9" not in terminal.getvalue()


@pytest.mark.parametrize("off", ["0", "off", "false", "NO"])
def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    terminal = attached(monkeypatch)
    monkeypatch.setenv("MNESIS_PROGRESS", off)
    worked()
    assert terminal.getvalue() == ""


def test_a_caller_can_keep_it_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    worked(enabled=False)
    assert terminal.getvalue() == ""


def test_a_terminal_that_cannot_move_its_cursor_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    worked()
    assert terminal.getvalue() == ""


def test_a_bar_without_a_total_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    with progress("reading") as bar:
        bar.advance(7)
    assert "7/?" in terminal.getvalue()


def test_what_the_work_raises_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    attached(monkeypatch)
    with pytest.raises(ZeroDivisionError), progress("reading", 2) as bar:
        bar.advance(1 // 0)


def test_a_notebook_gets_one_line_that_ends_with_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = attached(monkeypatch)
    shown: list[str] = []

    class Handle:
        def update(self, value: Any) -> None:
            shown.append(value._repr_html_())

    def display(value: Any, display_id: bool) -> Handle:
        assert display_id
        shown.append(repr(value))
        return Handle()

    notebook = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=object()), display=SimpleNamespace(display=display)
    )
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook.display)
    with progress("a <b>", 1_000, done=10) as bar:
        for _ in range(990):
            bar.advance()
    assert shown[0] == "a <b>: 10 of 1,000"
    assert shown[-1].endswith("a &lt;b&gt;: 1,000 of 1,000</div>")
    assert len(shown) < 50
    assert terminal.getvalue() == ""
