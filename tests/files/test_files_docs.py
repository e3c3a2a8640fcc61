"""The code on the pages about files works as it stands."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

PAGES = [Path(__file__).parents[2] / "docs" / name for name in ("files.md", "file-storage.md")]


def test_the_blocks_of_the_pages_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    namespace: dict[str, Any] = {}
    blocks = [
        (page, code) for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert len(blocks) == 4
    for page, code in blocks:
        exec(compile(code, str(page), "exec"), namespace)
    asyncio.run(namespace["main"]())
    printed = capsys.readouterr().out
    assert "(91, 'request 90 took 90 ms')" in printed
    assert "request 11999 took 68 ms" in printed
    assert namespace["shared"].storage_url == "s3://bucket/chat"
    assert namespace["config"].file.storage_dir == Path("~/.mnesis/files").expanduser()
    assert "request" in asyncio.run(namespace["import_file"]("app.log"))
