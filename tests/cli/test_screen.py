"""Hostile content is shown, and does nothing."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis.cli.output import clean, format_time, gauge_cells, one_line, to_json, truncate

BIDI = "\u202e\u2066\u200f\u061c"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_what_is_shown_holds_no_controls_and_can_be_printed(text: str) -> None:
    shown = clean(text)
    shown.encode()
    assert all(c in "\n\t" or c.isprintable() or c.isspace() or ord(c) >= 0xA0 for c in shown)
    assert "\x1b" not in shown
    assert not any(mark in shown for mark in BIDI)


def test_harmless_text_is_shown_as_it_is() -> None:
    text = "Grüße, 世界!\n\tdef f(): [bold]not markup[/bold] 👩‍🚀"
    assert clean(text) == text


def test_one_line_is_one_line_and_not_longer() -> None:
    assert one_line("a\nb\t c", 10) == "a b c"
    assert len(one_line("word " * 1_000_000, 30)) <= 30
    assert one_line("x" * 100, 10) == "x" * 9 + "…"


def test_a_long_text_says_how_much_is_not_shown() -> None:
    assert truncate("x" * 5_000_000, 10) == "x" * 10 + "\n… 4,999,990 more characters (--raw shows all)"


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[])))
def test_json_is_printable_ascii_and_says_the_same(text: str) -> None:
    written = to_json({"text": text})
    assert all(" " <= c <= "~" for c in written)
    assert json.loads(written) == json.loads(json.dumps({"text": text}))


def test_json_escapes_the_delete_character() -> None:
    assert to_json(["\x7f"]) == '["\\u007f"]'


def test_a_gauge_shows_even_the_smallest_share_and_never_overflows() -> None:
    assert gauge_cells([(1, "s"), (50, "m")], 100, 10) == list("smmmmm    ")
    assert len(gauge_cells([(500, "m")], 100, 10)) == 10


def test_impossible_times_are_no_times() -> None:
    assert format_time(0) == format_time(10**30) == format_time(-(10**30)) == "-"
