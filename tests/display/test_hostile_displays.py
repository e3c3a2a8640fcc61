"""Whatever a conversation holds, showing it is harmless, small, and says what there is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mnesis.display.text import REPLACEMENT
from tests.display.displayed import Elements, every_display, printed, window
from tests.support.samples import sampled

NASTY = {
    "elements": "<script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:x'>y</a>",
    "attributes": "\" onmouseover=\"alert(1)\" style='position:fixed' x='",
    "closing": "</div></td></tr></table></details></summary></pre></svg><style>*{display:none}</style><!-- <?x <![CDATA[",
    "entities": "&lt;script&gt; &#60;b&#62; &amp;",
    "terminal": "\x1b[2J\x1b]0;owned\x07\x9b31m\x1b]8;;http://example.org\x1b\\link\r\x08\x7f",
    "markup": "[bold red]x[/bold red] [/foo] [link=http://example.org]l[/link] :smile: \\[",
    "direction": "\u202egnp.exe\u202c \u2066x\u2069 \u200f\u061c",
    "formula": "$\\href{javascript:alert(1)}{x}$ $$x$$ \\(y\\)",
    "nul and surrogates": "a\x00b\ud800c\udfff",
    "lines": "one\ntwo\r\nthree\u2028four\u2029five\x85six\ttab\vfeed\f",
    "wide": "漢字" * 200 + "🧑‍🚀" * 50,
    "long": "x" * 5_000_000,
    "long and escaped": "<&\"'>" * 1_000_000,
    "nothing": "",
}
TAGS = {"div", "strong", "span", "table", "tr", "th", "td", "pre", "details", "summary", "br"}
DRAWN = {"svg", "polyline", "circle", "line"}
ATTRIBUTES = {"class", "style", "open"}
DRAWING = {"viewbox", "role", "points", "fill", "stroke", "stroke-width", "stroke-dasharray", "opacity"}
PLACES = {"x1", "x2", "y1", "y2", "cx", "cy", "r"}


def controls(text: str) -> set[str]:
    return {c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2066\u2028\u200f"}


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("count", [3, 400])
def test_html_has_only_our_elements_and_stays_small_whatever_the_content(name: str, count: int) -> None:
    harmless = {type(v).__name__: Elements(v._repr_html_()) for v in every_display("harmless", count)}
    for value in every_display(NASTY[name], count):
        page = value._repr_html_()
        assert len(page.encode()) < 100_000, type(value).__name__
        seen = Elements(page)
        assert set(seen.tags) <= TAGS | DRAWN
        assert set(seen.attributes) <= ATTRIBUTES | DRAWING | PLACES
        # The content chooses no attribute's value either; numbers in styles are the bar's.
        assert not any("position:fixed" in style or "url(" in style for style in seen.attributes["style"])
        assert seen.attributes["class"] == harmless[type(value).__name__].attributes["class"]
        assert seen.open == []
        assert seen.stray == []
        assert controls(page) == set()


@given(st.text(max_size=300))
@settings(max_examples=sampled(40), deadline=None)
def test_any_text_makes_the_same_elements_as_a_harmless_one(text: str) -> None:
    for value, plain in zip(every_display(f"a{text}"), every_display("a"), strict=True):
        assert Elements(value._repr_html_()).tags == Elements(plain._repr_html_()).tags


def test_what_was_said_is_shown_and_what_cannot_be_is_marked() -> None:
    for value in every_display("<b>\x1b[1m \u202e & [red] \ud800"):
        text = Elements(value._repr_html_()).text
        console = printed(value, 200)
        for shown in (text, console):
            if type(value).__name__ != "MapBatch":  # shows the value as Python would write it
                assert f"<b>{REPLACEMENT}[1m {REPLACEMENT} & [red] {REPLACEMENT}" in shown, type(value).__name__


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("width", [20, 80])
def test_a_console_gets_lines_within_its_width_and_nothing_that_drives_it(name: str, width: int) -> None:
    for value in every_display(NASTY[name]):
        shown = printed(value, width)
        assert controls(shown) == set(), type(value).__name__
        assert max(map(cell_len, shown.splitlines())) <= width, type(value).__name__
        assert len(shown) < 100_000
        shown.encode()


def test_markup_in_the_content_means_nothing_on_a_colour_terminal() -> None:
    text = "[blink]b[/blink] [link=http://example.org]l[/link] :smile:"
    for value in every_display(text):
        shown = printed(value, 200, colours=True)
        assert "\x1b[5m" not in shown
        assert "\x1b]8;" not in shown
        assert "[link=http://example.org]l[/link] :smile:" in shown


def test_rows_beyond_the_cap_are_counted() -> None:
    shown = window("hello", 362)
    assert "… 312 more" in Elements(shown._repr_html_()).text
    assert "… 312 more" in printed(shown)


def test_a_display_depends_on_the_value_alone_and_repr_is_one_line() -> None:
    for value in every_display("a\nb\x1b"):
        assert "\n" not in repr(value)
        assert "\x1b" not in repr(value)
        assert value._repr_html_() == value._repr_html_()


def test_displays_take_their_ground_and_colours_from_the_page() -> None:
    for value in every_display("x"):
        for style in Elements(value._repr_html_()).attributes["style"]:
            assert "color:black" not in style
            assert "background:#fff" not in style
            assert "background:white" not in style


def test_notebooks_are_told_not_to_read_formulas() -> None:
    for value in every_display("$x$"):
        assert value._repr_html_().startswith('<div class="mathjax_ignore tex2jax_ignore"')
