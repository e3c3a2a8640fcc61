from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain.agents")

from langchain_core.messages import HumanMessage

from langchain_mnesis import mnesis_history
from mnesis import concurrency
from tests.support.langchain_fakes import FakeModel, write_sql_history

PAGE = Path(__file__).parents[2] / "docs" / "langchain.md"
BLOCK = re.compile(r"(<!-- not run[^>]*-->\n)?```python\n(.*?)```", re.DOTALL)


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
def test_the_blocks_of_the_page_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNESIS_DB", str(tmp_path / "default.db"))
    write_sql_history(tmp_path / "old.db", {"ada": [HumanMessage("from before")]})
    monkeypatch.setattr("langchain.chat_models.init_chat_model", lambda name: FakeModel())
    namespace: dict[str, Any] = {}
    blocks = [code for skipped, code in BLOCK.findall(PAGE.read_text()) if not skipped]
    assert len(blocks) >= 8
    default = mnesis_history("ada").engine
    try:
        for code in blocks:
            exec(compile(code, str(PAGE), "exec"), namespace)
    finally:
        concurrency.run(default.close())
        concurrency.run(namespace["engine"].close())
    assert namespace["answer"].content == "answer 2"
