"""The site in a real browser at 1280 pixels: no code is clipped, every picture has a text, and colours are readable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.site import shared_site
from tests.support.browser import accessibility_violations, missing_browser, set_viewport, start_browser

pytestmark = [pytest.mark.site, pytest.mark.skipif(missing_browser() is not None, reason=str(missing_browser()))]
CLIPPED = """
    return [...document.querySelectorAll('.md-content pre > code')]
        .filter(code => code.scrollWidth > code.clientWidth + 1).map(code => code.innerText.slice(0, 200));
"""
WITHOUT_TEXT = "return [...document.querySelectorAll('.md-content img')].filter(i => !i.alt).map(i => i.src);"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_site(tmp_path_factory)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    set_viewport(driver, 1280, 900)
    yield driver
    driver.quit()


def test_no_code_is_clipped_and_every_picture_has_a_text(site: Path, browser: Any) -> None:
    found = {}
    for page in sorted(site.rglob("*.html")):
        browser.get(page.as_uri())
        if problems := browser.execute_script(CLIPPED) + browser.execute_script(WITHOUT_TEXT):
            found[page.relative_to(site).as_posix()] = problems
    assert found == {}


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_text_has_enough_contrast(site: Path, browser: Any, scheme: str) -> None:
    browser.get((site / "sessions.html").as_uri())
    # Without transitions, the colours change at once.
    browser.execute_script(
        "document.head.append(Object.assign(document.createElement('style'), {textContent: arguments[0]}))",
        "* { transition: none !important }",
    )
    browser.execute_script("document.body.dataset.mdColorScheme = arguments[0]", scheme)
    assert [each for each in accessibility_violations(browser) if each.startswith("color-contrast")] == []
