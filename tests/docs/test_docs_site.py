"""The site is built strictly, needs no network to be read, and has every page in its navigation."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT
from tests.docs.site import shared_site

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")


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


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"^ +- .*: ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M))
    notebooks = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert listed == {page.relative_to(DOCS).as_posix() for page in PAGES} | notebooks


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


def anchors(page: Path) -> set[str]:
    """The names a code host gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ +(.+?) *$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page",
    [
        *PAGES,
        *(
            ROOT / name
            for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")
        ),
    ],
    ids=str,
)
def test_links_of_a_page_lead_somewhere_on_a_code_host_too(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`(?!\])", "", prose)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
