"""The page in the documentation runs as it stands."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.llms import mock
from llama_index.core.memory import Memory

from mnesis import concurrency

PAGE = Path(__file__).parents[2] / "docs" / "llamaindex.md"
BLOCK = re.compile(r"(<!-- needs [^>]*-->\n)?```python\n(.*?)```", re.DOTALL)
TAKES_A_STORE = "chat_store" in inspect.signature(Memory.from_defaults).parameters


@pytest.mark.skipif(not hasattr(mock, "MockFunctionCallingLLM"), reason="no mock model with tools in this version")
def test_the_blocks_of_the_page_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [code for needs, code in BLOCK.findall(PAGE.read_text("utf-8")) if TAKES_A_STORE or not needs]
    assert len(blocks) >= 6
    namespace: dict[str, Any] = {"__name__": "page"}
    try:
        for code in blocks:
            exec(compile(code, str(PAGE), "exec"), namespace)
    finally:
        for name in ("memory", "moved", "shared"):
            if name in namespace:
                namespace[name].close()
        if "engine" in namespace:
            concurrency.run(namespace["engine"].close())
