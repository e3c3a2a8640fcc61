"""Parallel processing: one prompt for many inputs, parallel agents, a delegated task. An interrupted run resumes.

MNESIS_MOCK_LLM=1 uv run python examples/05_parallel_processing.py
ANTHROPIC_API_KEY=… uv run python examples/05_parallel_processing.py [model]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel

from mnesis import AgenticMap, Engine, LLMMap, MnesisSession, OperatorConfig, ToolSpec
from mnesis.operators import delegate

REVIEWS = [
    f"Review {number}: the jar of honey {'was' if number % 3 else 'was not'} as expected." for number in range(40)
]
STOCK = {"white": 12, "blue": 30}


class Verdict(BaseModel):
    satisfied: bool
    reason: str


def count_jars(hive: str) -> str:
    """How many jars a hive gave."""
    return f"{STOCK[hive]} jars"


# Agents get only tools that are declared read-only, unless read_only=False says otherwise.
COUNT_JARS = ToolSpec(
    "count_jars",
    "How many jars a hive gave.",
    {"type": "object", "properties": {"hive": {"type": "string"}}, "required": ["hive"]},
    count_jars,
    read_only=True,
)


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory) / "runs.db")

        print("LLMMap: one call per input, each answer checked against a schema")
        reviews = LLMMap(OperatorConfig(llm_map_concurrency=8), model=model, engine=engine)
        done = 0
        async for result in reviews.run(REVIEWS, "Is the customer satisfied? {{ item }}", Verdict, run_id="reviews"):
            done += result.success
            if done == 15:  # as if the process had been killed here
                break
        batch = await reviews.run_all(REVIEWS, "Is the customer satisfied? {{ item }}", Verdict, run_id="reviews")
        resumed = sum(result.resumed for result in batch.results)
        print(
            f"  {batch.total} results, {len(batch.failures)} failures; {'some' if resumed >= 15 else 'none'} were stored before"
        )
        print(f"  the first: {batch.results[0].output!r}")

        print("AgenticMap: a session with tools for every input")
        agents = AgenticMap(model=model, engine=engine)
        counts = await agents.run_all(list(STOCK), "Use count_jars for '{{ item }}'.", tools=[COUNT_JARS])
        for result in sorted(counts.successes, key=lambda each: each.index):
            print(f"  {result.input}: {result.turns} turn, {result.token_usage.effective_total()} tokens")

        print("delegate: a task for a sub-agent in its own session")
        async with MnesisSession.open(model=model, session_id="boss", engine=engine) as boss:
            answer = await delegate("Use count_jars for 'blue' and tell me.", session=boss, tools=[COUNT_JARS])
            children = (await engine.sessions(parent_id="boss")).sessions
            print(f"  success: {answer.success}; children of the session: {len(children)}")
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
