"""A log in the browser follows every API, while another process writes with it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mnesis import Engine
from mnesis.inspect import Inspector
from tests.inspect.test_browser import open_page, wait
from tests.support.browser import set_viewport
from tests.support.warm_python import warm_command

pytest.importorskip("agents")
pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")

WRITER = """
import asyncio, sys
from tests.support.drivers.agents_driver import AgentsDriver
from tests.support.drivers.langchain_driver import LangChainDriver
from tests.support.drivers.llamaindex_driver import LlamaIndexDriver
from tests.support.drivers.pydantic_ai_driver import PydanticAIDriver
async def main():
    for number, kind in enumerate((AgentsDriver, LangChainDriver, LlamaIndexDriver, PydanticAIDriver)):
        driver = kind(sys.argv[1], "live", 8_000)
        await driver.add(driver.make_turn(number, f"through the {kind.__name__}"))
        await driver.close()
        print(kind.__name__, flush=True)
        sys.stdin.readline()
asyncio.run(main())
"""
KINDS = ("AgentsDriver", "LangChainDriver", "LlamaIndexDriver", "PydanticAIDriver")


def test_a_log_follows_each_adapter(tmp_path: Path, shared_browser: Any) -> None:
    browser, path = shared_browser, tmp_path / "live.db"
    command = warm_command("-c", WRITER, str(path), has_mnesis=True)
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline().strip() == KINDS[0]
        with Inspector(Engine(path), owns_engines=True) as inspector:
            set_viewport(browser, 1200, 900)
            browser.get(inspector.url)
            open_page(browser, f"{inspector.address}/s/live/log", live=True)
            for kind in KINDS:
                wait(browser, lambda b, kind=kind: f"through the {kind}" in b.find_element("id", "log").text)
                writer.stdin.write("next\n")
                writer.stdin.flush()
            assert writer.wait(60) == 0
            browser.get("about:blank")
