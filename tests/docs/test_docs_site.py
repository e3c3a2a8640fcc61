"""The site is built strictly and needs no network to be read."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES
from tests.docs.site import shared_site

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")
pytestmark = pytest.mark.site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_site(tmp_path_factory)


class Assets(HTMLParser):
    """Everything a browser fetches by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in ("script", "img", "iframe", "source", "object", "embed"):
            self.found += [given[name] for name in ("src", "srcset", "data") if given.get(name)]
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect", "modulepreload"):
            self.found.append(given.get("href", ""))


def test_every_page_is_built_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in PAGES:
        html = site / page.relative_to(DOCS).with_suffix(".html")
        assets = Assets()
        assets.feed(html.read_text("utf-8"))
        assert assets.found
        assert [asset for asset in assets.found if re.match(r"(\w+:)?//", asset)] == []


def test_stylesheets_fetch_nothing_from_elsewhere(site: Path) -> None:
    for sheet in site.rglob("*.css"):
        assert re.findall(r"url\(\s*[\"']?(?:https?:)?//", sheet.read_text("utf-8")) == []


def test_what_draws_and_generates_is_no_part_of_the_site(site: Path) -> None:
    assert list(site.rglob("*.py")) == []


def test_notebooks_are_pages_with_their_pictures(site: Path) -> None:
    page = (site / "notebooks/03_watching_compaction.html").read_text("utf-8")
    assert "level 1:" in page
    pictures = re.findall(r'<img alt="([^"]+)" src="([^"]+\.png)"', page)
    assert len(pictures) >= 3
    for text, source in pictures:
        assert text
        assert (site / "notebooks" / source).is_file()


def test_the_reference_shows_what_docstrings_say(site: Path) -> None:
    text = (site / "reference/sessions.html").read_text("utf-8")
    assert "A conversation with a model, stored verbatim in a database" in text
    assert "context_for_next_turn" in text
