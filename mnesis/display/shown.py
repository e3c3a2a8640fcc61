"""The base class of values that display themselves in notebooks and consoles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mnesis.display.panel import Panel

if TYPE_CHECKING:
    from rich.console import RenderableType


class Shown:
    """A value that shows itself in notebooks and consoles: subclasses say what in `_panel()`.

    Showing reads nothing but the value itself, never runs what the content says, and stays below 100 kB.
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # IPython takes the first class that has either this or a `__repr__` of its own, as dataclasses do.
        cls._repr_pretty_ = Shown._repr_pretty_  # type: ignore[method-assign]  # the same method, at hand in each class

    def _panel(self) -> Panel:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """For notebooks."""
        from mnesis.display.html import page

        return page(self._panel())

    def __rich__(self) -> RenderableType:
        """For `rich` consoles."""
        from mnesis.display.console import renderable

        return renderable(self._panel())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For what notebooks keep beside the HTML, and for interactive shells."""
        from mnesis.display.console import plain

        printer.text(plain(self._panel()))
