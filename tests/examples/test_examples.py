"""Every example runs as its first lines say, and prints what it promises."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.openai_server import OpenAIServer, Reply
from tests.support.warm_python import run_python

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS = {
    "08": ["langchain_core"],
    "09": ["langchain.agents"],
    "10": ["llama_index.core"],
    "11": ["llama_index.core"],
    "12": ["langchain_core", "llama_index.core"],
    "13": ["agents"],
    "14": ["pydantic_ai"],
    "15": ["agents", "langchain_core", "llama_index.core", "pydantic_ai"],
    "16": ["starlette", "uvicorn", "httpx"],
    "17": ["wordllama"],
}
# What an example prints without a key: regular expressions, in this order.
PRINTED = {
    "01": [r"You:   My name is Alice\.", r"in context: \d+", r"6 messages, 3 turns"],
    "02": [
        r"compaction, level 1: ([\d,]+) -> ",
        r"In the log: 80 messages",
        r"walnut crate holds part 3743",
        r"word: True",
    ],
    "03": [
        r"A tool gave: 21:10 to Lisbon",
        r"wants book_seat\({'city': 'Lisbon'}\)",
        r"gave: seat 14A",
        r"10 assistant",
    ],
    "04": [
        r"'# Hives",
        r"as a csv:",
        r"20,000 rows, 3 columns",
        r"4713: ?\S*",
        r"4711,white,\d+",
        r"Identical bytes: True",
    ],
    "05": [r"40 results, 0 failures; some were", r"Verdict\(", r"white: 1 turn", r"success: True; .* session: 1"],
    "06": [r"compacted: [\d,]+ -> [\d,]+", r"turn 30:", r"holds all 60 messages"],
    "07": [r"Complete: \[Mock LLM response", r"Tokens: \d+", r"Stored nevertheless: 18\d characters by the assistant"],
    "08": [r"AI:    You are Ada", r"4 messages in the history"],
    "09": [
        r"72 jars on shelf 6\.  \(messages in the agent's state: 1?\d\)",
        r"log: 24, summaries: [1-9]",
        r"verbatim: Shelf 1",
    ],
    "10": [r"Chat: It leaves at 21:10", r"Chat: You asked about the night train", r"6 messages in the history"],
    "11": [r"at 21:10", r"Saved: \d+ bytes", r"(calls a tool)", r"tool      21:10 to Lisbon"],
    "12": [r"'human', 'ai', 'human', 'ai', 'human'", r" 5 user .*From LlamaIndex", r"5 messages created"],
    "13": [r"Gauge 8: 56 cm\.  \(items", r"restart: 32 items in the log, 1?\d in the history", r"verbatim: .Gauge 1"],
    "14": [r"Day 8: 18 degrees\.  \(messages", r"restart: 32 messages in the log, 1?\d in the", r"again: .*Day 1"],
    "15": [
        r"LangChain:.*('human', 'ai'(, )?){5}",
        r"LlamaIndex:.*('user', 'assistant'(, )?){5}",
        r"Agents SDK:.*('user', 'assistant'(, )?){5}",
        r"Pydantic AI:.*('request', 'response'(, )?){5}",
        r"10 assistant 'Have a good trip",
    ],
    "16": [
        r"6 answers from 2 workers",
        r"never interleave: True",
        r"every message: \[1, 2, .*, 12\]",
        r'"done": 20, "failed": 0, "total": 20',
    ],
    "17": [r"by words: \[\]", r"wordllama: My physician told me", r"embed_by_theme: My physician told me"],
    "18": [r"Answer: \d+ characters, \d+ tokens", r"Map: 3 of 3 answered"],
}
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))
WITHOUT_MODEL = {"17"}
# The example with a client of its own imports litellm itself, which would look for prices on the network.
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
# Those whose model is called by mnesis or litellm, and what the model answers there.
NATIVE = {
    **{number: ["A real ", "answer."] for number in ("01", "02", "03", "04", "06", "07", "12")},
    "05": ['{"satisfied": true, "reason": "as expected"}'],
    "16": ['{"urgent": true}'],
    "18": ['{"country": "Italy"}'],
}


def run(script: Path, home: Path, *arguments: str, **environment: str) -> str:
    ran = run_python(
        [str(script), *arguments],
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **environment},
        has_mnesis=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stdout


def script_of(number: str) -> Path:
    return next(script for script in SCRIPTS if script.name.startswith(number))


def skip_without_packages(number: str) -> None:
    for module in NEEDS.get(number, []):
        pytest.importorskip(module)


def test_every_example_is_checked_here() -> None:
    assert [script.name[:2] for script in SCRIPTS] == sorted(PRINTED)


@pytest.mark.parametrize("number", sorted(PRINTED))
def test_an_example_prints_what_it_promises_without_a_key(number: str, tmp_path: Path) -> None:
    skip_without_packages(number)
    printed = run(script_of(number), tmp_path, MNESIS_MOCK_LLM="1")
    place = 0
    for expected in PRINTED[number]:
        found = re.compile(expected).search(printed, place)
        assert found, f"{expected!r} not found after character {place} of:\n{printed}"
        place = found.end()
    assert not list(tmp_path.rglob("sessions.db")), "an example leaves the user's own database alone"


@pytest.mark.parametrize("number", sorted(NATIVE))
def test_an_example_runs_with_a_real_model(number: str, tmp_path: Path) -> None:
    skip_without_packages(number)
    with OpenAIServer(Reply(NATIVE[number])) as server:
        settings = {"OPENAI_API_BASE": server.url, "OPENAI_API_KEY": "sk-test", **OFFLINE}
        printed = run(script_of(number), tmp_path, "openai/test-model", **settings)
        assert server.requests, "the model was asked"
    assert "Mock" not in printed


@pytest.mark.parametrize(
    "script", [script for script in SCRIPTS if script.name[:2] not in WITHOUT_MODEL], ids=lambda script: script.name[:2]
)
def test_an_example_says_how_to_run_it(script: Path) -> None:
    text = script.read_text("utf-8")
    assert re.search(rf"MNESIS_MOCK_LLM=1 uv run .*python examples/{script.name}", text)
    assert re.search(rf"_API_KEY=… uv run .*python examples/{script.name}", text)
