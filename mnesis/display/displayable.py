"""`Displayable`: the base class of values that display themselves in notebooks and consoles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mnesis.display.panel import Panel


class Displayable:
    """A value that displays itself in notebooks and consoles. Subclasses return the content from `_panel()`.

    Displaying a value reads nothing but the value, never executes its content, and produces less than 100 kB.
    """

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # IPython uses the first class in the MRO with either this method or its own `__repr__`, which dataclasses have.
        cls._repr_pretty_ = Displayable._repr_pretty_  # type: ignore[method-assign]  # the same method, in each class

    def _panel(self) -> Panel:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Render HTML for notebooks."""
        from mnesis.display.html import render_html

        return render_html(self._panel())

    def __rich__(self) -> RenderableType:
        """Render for `rich` consoles."""
        from mnesis.display.console import render_rich

        return render_rich(self._panel())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print plain text, for interactive shells and for the text that notebooks keep alongside the HTML."""
        from mnesis.display.console import render_plain_text

        printer.text(render_plain_text(self._panel()))
