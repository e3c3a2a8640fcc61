"""What the page about files shows works as it stands."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "files.md"


def test_the_blocks_of_the_page_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNESIS_MOCK_LLM", "1")
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 4
    for code in blocks:
        exec(compile(code, str(PAGE), "exec"), namespace)
    asyncio.run(namespace["main"]())
    printed = capsys.readouterr().out
    assert "(91, 'request 90 took 90 ms')" in printed
    assert "request 11999 took 68 ms" in printed
    assert namespace["shared"].storage_url == "s3://bucket/chat"
    assert namespace["config"].file.storage_dir == Path("~/.mnesis/files").expanduser()
    assert "request" in asyncio.run(namespace["import_file"]("app.log"))
