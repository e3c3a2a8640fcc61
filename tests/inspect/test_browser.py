"""The inspector in a real browser: live, fast on long logs, by keyboard, accessible, and inert."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine, MnesisSession
from mnesis.inspect import Inspector
from mnesis.inspect.paths import encode_id
from mnesis.models.message import text_message
from tests.support.browser import accessibility_violations, console_errors, set_viewport
from tests.support.inspected import HOSTILE_ID
from tests.support.warm_python import run_python

HOSTILE = f"/s/{encode_id(HOSTILE_ID)}"
PAGES = (
    *("/", "/runs", "/runs/run-1", "/search?q=which+valve+leaked", "/s/main", "/s/main/log", "/s/main/context"),
    *(
        "/s/main/dag",
        "/s/main/usage",
        "/s/main/tools",
        "/s/main/files",
        "/s/child",
        "/nothing",
        HOSTILE,
        f"{HOSTILE}/log",
    ),
)
LONG_LOG = 3_000
WRITER = """
import asyncio, sys
from mnesis import MnesisSession
async def main():
    async with MnesisSession.open(model=None, session_id=sys.argv[2], db_path=sys.argv[1]) as session:
        await session.record("said elsewhere", "heard elsewhere")
asyncio.run(main())
"""


def wait(browser: Any, condition: Callable[[Any], object]) -> Any:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.wait import WebDriverWait

    # A page that is just being replaced may take its elements away while a condition reads them.
    ignored = (StaleElementReferenceException,)
    return WebDriverWait(browser, 60, poll_frequency=0.05, ignored_exceptions=ignored).until(condition)


def open_page(browser: Any, url: str, *, live: bool = False) -> None:
    browser.get(url)
    wait(browser, lambda b: b.execute_script("return document.documentElement.dataset.ready"))
    if live:
        wait(browser, lambda b: b.execute_script("return document.getElementById('live').dataset.state") == "on")


def write_elsewhere(path: Path, session_id: str) -> None:
    assert run_python(["-c", WRITER, str(path), session_id], has_mnesis=True).returncode == 0


@pytest.fixture
def live_pages(tmp_path: Path, shared_browser: Any) -> Any:
    """The browser at an inspector of its own database with one session, "live"."""
    path = tmp_path / "live.db"

    async def begin() -> None:
        async with MnesisSession.open(model=None, session_id="live", db_path=path) as session:
            await session.record("first question", "first answer")

    asyncio.run(begin())
    with Inspector(Engine(path), owns_engines=True) as inspector:
        set_viewport(shared_browser, 1200, 900)
        shared_browser.get(inspector.url)
        yield shared_browser, inspector, path
        shared_browser.get("about:blank")


def test_pages_are_accessible_and_run_no_hostile_content(browser: Any, inspector: Inspector) -> None:
    console_errors(browser)
    for page in PAGES:
        set_viewport(browser, 1200, 900)
        open_page(browser, inspector.address + page)
        assert accessibility_violations(browser) == [], page
        set_viewport(browser, 1200, 900, "dark")
        assert accessibility_violations(browser, runOnly=["color-contrast"]) == [], page  # a theme changes colours only
        browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
        assert browser.title != "pwned", page
        errors = [error for error in console_errors(browser) if "404" not in error]
        assert errors == [], page


def test_pages_fit_narrow_screens(browser: Any, inspector: Inspector) -> None:
    set_viewport(browser, 320, 640)
    for page in PAGES:
        open_page(browser, inspector.address + page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 320, page
        assert accessibility_violations(browser, rules={"color-contrast": {"enabled": False}}) == [], page


def test_a_log_follows_another_process(live_pages: Any) -> None:
    browser, inspector, path = live_pages
    open_page(browser, f"{inspector.address}/s/live/log", live=True)
    write_elsewhere(path, "live")
    wait(browser, lambda b: "heard elsewhere" in b.find_element("id", "log").text)
    assert browser.execute_script("return document.querySelectorAll('#log article').length") == 4


def test_lists_and_figures_follow_another_process(live_pages: Any) -> None:
    browser, inspector, path = live_pages
    open_page(browser, inspector.address, live=True)
    write_elsewhere(path, "new one")
    wait(browser, lambda b: "new one" in b.find_element("id", "session-list").text)
    open_page(browser, f"{inspector.address}/s/live/context", live=True)
    write_elsewhere(path, "live")
    wait(browser, lambda b: "heard elsewhere" in b.find_element("id", "window").text)


def test_the_keyboard_reaches_everything(browser: Any, inspector: Inspector) -> None:
    from selenium.webdriver.common.keys import Keys

    set_viewport(browser, 1200, 900)
    open_page(browser, inspector.address)

    def press(*keys: str) -> None:
        for key in keys:
            browser.switch_to.active_element.send_keys(key)

    press("j", Keys.ENTER)
    wait(browser, lambda b: "/s/" in b.current_url)
    open_page(browser, f"{inspector.address}/s/main")
    for key, page in (
        ("l", "/log"),
        ("c", "/context"),
        ("d", "/dag"),
        ("u", "/usage"),
        ("t", "/tools"),
        ("i", "/files"),
    ):
        press("g", key)
        wait(browser, lambda b, page=page: b.current_url.endswith(page))
        open_page(browser, browser.current_url)
    press("/")
    assert browser.switch_to.active_element.get_attribute("id") == "search"
    press(Keys.ESCAPE)
    press("?")
    wait(browser, lambda b: b.find_element("id", "help").is_displayed())


async def build_long_log(path: Path) -> None:
    async with MnesisSession.open(model=None, session_id="long", db_path=path) as session:
        for first in range(0, LONG_LOG, 1000):
            messages = [text_message("user", f"message {number} " * 20) for number in range(first + 1, first + 1001)]
            await session.append(messages)


def test_thousands_of_messages_scroll_with_a_bounded_page(tmp_path: Path, shared_browser: Any) -> None:
    from selenium.webdriver.common.by import By

    browser, path = shared_browser, tmp_path / "long.db"
    asyncio.run(build_long_log(path))
    with Inspector(Engine(path), owns_engines=True) as inspector:
        set_viewport(browser, 1200, 900)
        browser.get(inspector.url)
        open_page(browser, f"{inspector.address}/s/long/log")
        assert browser.find_elements(By.ID, f"m-{LONG_LOG}")
        scroll_up = (
            "document.getElementById('older').scrollIntoView();"
            "return Number(document.querySelector('.chunk').dataset.first)"
        )
        seen = LONG_LOG
        for _ in range(8):
            # Scrolled again until it has an effect: the page may still be moving to its end.
            seen = wait(browser, lambda b, seen=seen: (first := b.execute_script(scroll_up)) < seen and first)
            assert browser.execute_script("return document.querySelectorAll('#log article').length") <= 6 * 60
        open_page(browser, f"{inspector.address}/s/long/log?at=1500")
        box = browser.execute_script("return document.getElementById('m-1500').getBoundingClientRect().top")
        assert 0 <= box <= 900
        browser.get("about:blank")
