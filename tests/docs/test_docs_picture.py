"""The picture of the README shows what a session measured today gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import DOCS
from tests.docs.test_docs_tables import load


@pytest.fixture(scope="module")
def picture() -> object:
    return load(DOCS / "pictures" / "draw.py")


def test_the_session_in_the_picture_is_the_one_that_is_measured_now(picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNESIS_MOCK_LLM", raising=False)
    stored, measured = picture.load_rows(), picture.measure_session()
    assert [row[0] for row in stored] == [row[0] for row in measured]
    assert folds(stored) == folds(measured), "run python docs/pictures/draw.py"
    # Ids are part of what is counted, and some take a token more than others.
    for drawn, found in zip(stored, measured, strict=True):
        assert all(abs(a - b) <= max(0.02 * b, 40) for a, b in zip(drawn, found, strict=True)), (drawn, found)


def folds(rows: list[tuple[int, ...]]) -> list[int]:
    return [turn for turn, before, after, *_ in rows if after < before]


def test_the_context_in_the_picture_stays_within_the_window(picture) -> None:
    rows = picture.load_rows()
    assert len(folds(rows)) >= 5
    assert all(context <= usable for _, context, *_, usable in rows)
    assert rows[-1][3] > 4 * rows[-1][5]


def test_drawing_the_same_figures_gives_the_same_picture(picture, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    once, twice = tmp_path / "once.svg", tmp_path / "twice.svg"
    picture.draw(picture.load_rows(), once)
    picture.draw(picture.load_rows(), twice)
    assert once.read_bytes() == twice.read_bytes()
    assert "compaction" in once.read_text("utf-8")
    assert "http" not in "".join(
        line for line in once.read_text("utf-8").splitlines() if "href" in line and "#" not in line
    )
