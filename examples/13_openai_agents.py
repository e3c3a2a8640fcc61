"""OpenAI Agents SDK: a session that keeps every item, returns a history that fits, and survives a restart.

MNESIS_MOCK_LLM=1 uv run --extra openai-agents python examples/13_openai_agents.py
OPENAI_API_KEY=… uv run --extra openai-agents python examples/13_openai_agents.py [model]
"""

import asyncio
import json
import tempfile
from pathlib import Path

from agents import Agent, Runner, function_tool, set_tracing_disabled
from mock_models import agents_model

from agents_mnesis import MnesisAgentSession

QUESTIONS = 8


@function_tool
def read_gauge(number: int) -> str:
    """Read a water gauge."""
    return f"Gauge {number}: {number * 7} cm. " + "The gauge was cleaned and read twice. " * 12


async def main() -> None:
    set_tracing_disabled(True)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "agents.db"
        agent = Agent("river", instructions="Be brief.", tools=[read_gauge], model=agents_model("read_gauge", "number"))
        session = MnesisAgentSession("river", db_path=path, token_limit=1_500)
        for number in range(1, QUESTIONS + 1):
            result = await Runner.run(agent, f"Read gauge {number}.", session=session)
            print(f"{result.final_output}  (items in the history: {len(await session.get_items())})")
        await session.close()

        continued = MnesisAgentSession("river", db_path=path, token_limit=1_500)
        items = await continued.get_all_items()
        print(f"After a restart: {len(items)} items in the log, {len(await continued.get_items())} in the history")
        output = next(item for item in items if item.get("type") == "function_call_output")
        print(f"Stored verbatim: {json.dumps(output.get('output'))[:24]}…")
        await continued.close()


if __name__ == "__main__":
    asyncio.run(main())
