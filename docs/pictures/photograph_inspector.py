"""The pictures of the inspector page, taken in a real browser of the conversation of `mnesis demo`.

`python -m docs.pictures.photograph_inspector` needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from mnesis import Engine
from mnesis.demo.conversation import demo_turns
from mnesis.demo.replay import demo_config, replay
from mnesis.inspect import Inspector
from mnesis.inspect.paths import session_path
from tests.support.browser import set_viewport, start_browser

FOLDER = Path(__file__).parent
PICTURES = (("context", "light"), ("usage", "light"), ("dag", "light"), ("log", "dark"))
"""Page of a session and colour scheme. Each becomes `inspect-PAGE.png`."""
WIDTH, HEIGHT = 1100, 720


def main() -> None:
    """Replay the conversation, and photograph its pages."""
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "demo.db"
        report = asyncio.run(replay(demo_turns(), database, lambda turn: None))
        with Inspector(Engine(database, config=demo_config()), owns_engines=True) as inspector:
            browser = start_browser(Path(directory) / "profile")
            try:
                browser.get(inspector.url)
                for page, theme in PICTURES:
                    photograph(browser, inspector.address + session_path(report.session_id, page), page, theme)
            finally:
                browser.quit()


def photograph(browser: Any, url: str, page: str, theme: str) -> None:
    """Take one picture."""
    set_viewport(browser, WIDTH, HEIGHT, theme)
    browser.get(url)
    browser.save_screenshot(str(FOLDER / f"inspect-{page}.png"))


if __name__ == "__main__":
    main()
