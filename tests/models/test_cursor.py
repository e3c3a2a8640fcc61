"""Cursors: their text comes back as it was, and no other text is accepted."""

from __future__ import annotations

import pytest

from mnesis.errors import ConfigurationError
from mnesis.models.cursor import Cursor, parse_cursor, request_fingerprint


@pytest.mark.parametrize("cursor", [Cursor((7,)), Cursor((0, 10**18 - 1)), Cursor((1, 2, 3), request_fingerprint("x"))])
def test_a_cursor_survives_its_text_form(cursor: Cursor) -> None:
    assert parse_cursor(str(cursor), len(cursor.numbers), of="x", fingerprint=cursor.fingerprint) == cursor


@pytest.mark.parametrize("text", ["", "1", "1.2.3", "1.2.", "-1.2", "1.²", "1." + "9" * 19, 12, None, "1.2.other"])
def test_text_of_another_form_is_not_a_cursor(text: object) -> None:
    with pytest.raises(ConfigurationError, match="not a cursor of this page"):
        parse_cursor(text, 2, of="this page")


def test_a_cursor_belongs_to_its_request() -> None:
    text = str(Cursor((1, 2), request_fingerprint("one")))
    with pytest.raises(ConfigurationError):
        parse_cursor(text, 2, of="this page", fingerprint=request_fingerprint("other"))
