"""A person with a keyboard pins, compacts and purges in a real browser, on pages without accessibility violations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine
from mnesis.inspect import Inspector
from mnesis.inspect.paths import encode_id, session_path
from tests.inspect.test_browser import open_page, wait
from tests.support.browser import accessibility_violations, set_viewport
from tests.support.inspected import HOSTILE_ID, build_database, config_of, reply


@pytest.fixture
def editor(tmp_path: Path, shared_browser: Any) -> Iterator[tuple[Any, Inspector, Path]]:
    """The browser at an inspector that allows changes, whose session "main" has a fork."""
    path = asyncio.run(build_database(tmp_path))

    async def fork() -> None:
        async with Engine(path) as engine:
            await engine.fork("main", new_id="fork")

    asyncio.run(fork())
    with Inspector(
        Engine(path, config=config_of(tmp_path), llm=reply), allow_changes=True, owns_engines=True
    ) as running:
        set_viewport(shared_browser, 1200, 900)
        shared_browser.get(running.url)
        yield shared_browser, running, path
        shared_browser.get("about:blank")


def press(browser: Any, element: Any, key: str) -> None:
    """Press a key while an element has the focus."""
    browser.execute_script("arguments[0].focus()", element)
    assert browser.switch_to.active_element == element
    element.send_keys(key)


def test_pin_compact_and_purge_work_with_the_keyboard(editor: tuple[Any, Inspector, Path]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser, inspector, _ = editor
    for page in ("/s/main", "/s/main/log", "/s/main/purge"):
        open_page(browser, inspector.address + page)
        assert accessibility_violations(browser) == [], page

    open_page(browser, f"{inspector.address}/s/main/log")
    buttons = browser.find_elements(By.CSS_SELECTOR, 'form[action$="/pin"] button')
    button = next(each for each in buttons if each.text.startswith("Pin"))
    name = button.text.removeprefix("Pin")
    press(browser, button, Keys.ENTER)
    pinned = f"Unpin{name}"
    wait(browser, lambda b: pinned in [each.text for each in b.find_elements(By.CSS_SELECTOR, "form button")])

    open_page(browser, f"{inspector.address}/s/main")
    press(browser, browser.find_element(By.CSS_SELECTOR, 'form[action$="/compact"] button'), Keys.ENTER)
    assert browser.current_url.endswith("/s/main"), "without the tick nothing is sent"
    press(browser, browser.find_element(By.NAME, "confirm"), Keys.SPACE)
    press(browser, browser.find_element(By.CSS_SELECTOR, 'form[action$="/compact"] button'), Keys.ENTER)
    wait(browser, lambda b: "/s/main" in b.current_url and "Not possible" not in b.page_source)


@pytest.mark.parametrize("session_id", ["child", HOSTILE_ID])
def test_a_purge_wants_the_id_that_the_page_shows(editor: tuple[Any, Inspector, Path], session_id: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser, inspector, path = editor
    open_page(browser, inspector.address + session_path(session_id, "purge"))
    browser.find_element(By.NAME, "confirm").send_keys("something else", Keys.ENTER)
    wait(browser, lambda b: "nothing was erased" in b.page_source)
    open_page(browser, inspector.address + session_path(session_id, "purge"))
    shown = browser.find_element(By.CSS_SELECTOR, 'form[action$="/purge"] label').text
    assert encode_id(session_id) in shown
    browser.find_element(By.NAME, "confirm").send_keys(encode_id(session_id), Keys.ENTER)
    wait(browser, lambda b: b.find_elements(By.ID, "session-list"))
    assert browser.title != "pwned"

    async def ids() -> set[str]:
        async with Engine(path) as engine:
            return {session.id for session in (await engine.sessions()).sessions}

    assert session_id not in asyncio.run(ids())


def test_a_session_with_forks_is_not_purged_and_the_page_says_why(editor: tuple[Any, Inspector, Path]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser, inspector, _ = editor
    open_page(browser, f"{inspector.address}/s/main/purge")
    browser.find_element(By.NAME, "confirm").send_keys("main", Keys.ENTER)
    wait(browser, lambda b: "fork" in b.find_element(By.TAG_NAME, "main").text and "Not possible" in b.page_source)
    assert accessibility_violations(browser) == []
