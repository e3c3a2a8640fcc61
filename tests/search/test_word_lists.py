"""Stop words come from a library that reads files, which never happens in an event loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.warm_python import run_python

ROOT = Path(__file__).parents[2]
SEARCH_FIRST = """
import asyncio, sys
from mnesis import MnesisConfig, MnesisSession, RecallConfig
from mnesis.config import CompactionConfig, ModelOverrides
from tests.support.blocking import blocking_calls, refuse_blocking_calls

async def main(path, first):
    config = MnesisConfig(
        recall=RecallConfig(enabled=True),
        compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
        model_overrides=ModelOverrides(context_limit=20_000, max_output_tokens=256),
    )
    async with MnesisSession.open(model=None, db_path=path, config=config, system_prompt="") as session:
        await session.record("The key is in the cabinet.", "Noted. " * 900)
        for _ in range(6):
            await session.record("Well.", "Yes. " * 900)
        await session.compact()
        assert "stop_words" not in sys.modules
        if first == "window":
            window = await session.window(message="Where is the key?")
            assert window.messages[-1].id.startswith("recalled_")
        else:
            assert (await session.search("Where is the key?"))[0].excerpt == "The key is in the cabinet."

with refuse_blocking_calls():
    asyncio.run(main(*sys.argv[1:]))
assert not blocking_calls, blocking_calls
"""


@pytest.mark.parametrize(("first", "db"), [("window", "s.db"), ("search", ":memory:")])
def test_the_first_question_of_a_process_reads_no_file_in_the_loop(tmp_path: Path, first: str, db: str) -> None:
    path = db if db == ":memory:" else str(tmp_path / db)
    done = run_python(["-c", SEARCH_FIRST, path, first], cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3_000:]


def test_importing_the_adapters_reads_no_word_list() -> None:
    code = (
        "import agents_mnesis, langchain_mnesis, llama_index.memory.mnesis, pydantic_ai_mnesis, mnesis.recall.automatic, sys;"
        "import mnesis.store.memory, mnesis.store.sqlite.search; print('stop_words' in sys.modules)"
    )
    done = run_python(["-c", code])
    assert done.stdout.split() == ["False"]
