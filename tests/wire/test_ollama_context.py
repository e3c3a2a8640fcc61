"""Ollama is told how long a request is by every kind of call, because it cuts longer ones without an error.

docs.ollama.com/context-length; ollama/ollama#10980.
"""

from __future__ import annotations

from pathlib import Path

from mnesis import Engine, LLMMap, MnesisConfig, MnesisSession
from mnesis.llm.base import LLMRequest
from mnesis.testing import ScriptedLLM

MODEL = "ollama_chat/qwen3:8b"


def num_ctx_of(requests: list[LLMRequest], purpose: str) -> list[int]:
    return [request.options["num_ctx"] for request in requests if request.purpose == purpose]


async def test_map_calls_say_how_long_they_are() -> None:
    llm = ScriptedLLM('{"verdict": "fine"}', repeat_last=True)
    schema = {"type": "object", "properties": {"verdict": {"type": "string"}}, "required": ["verdict"]}
    await LLMMap(model=MODEL, llm=llm).run_all(["one", "two"], "Judge: {{ item }}", output_schema=schema)
    assert len(num_ctx_of(llm.requests, "map")) == 2
    assert all(tokens > 0 for tokens in num_ctx_of(llm.requests, "map"))


async def test_file_exploration_says_how_long_it_is(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("The harbour opens at 6. Crates wait in hall 7.\n" * 400)
    llm = ScriptedLLM("Notes about a harbour.", repeat_last=True)
    config = MnesisConfig.model_validate(
        {"file": {"inline_threshold": 200, "storage_dir": tmp_path / "files", "exploration_summary_model": MODEL}}
    )
    async with (
        Engine(tmp_path / "a.db", config=config, llm=llm) as engine,
        MnesisSession.open(model="openai/gpt-4o", engine=engine) as session,
    ):
        await session.send(["Read this.", notes])
    explorations = [request for request in llm.requests if request.purpose != "turn"]
    assert explorations
    assert all(request.model == MODEL and request.options["num_ctx"] > 0 for request in explorations)
