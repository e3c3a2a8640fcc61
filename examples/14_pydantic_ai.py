"""Pydantic AI: a capability that stores every message of an agent and fits each request.

MNESIS_MOCK_LLM=1 uv run --extra pydantic-ai python examples/14_pydantic_ai.py
OPENAI_API_KEY=… uv run --extra pydantic-ai --with 'pydantic-ai-slim[openai]' python examples/14_pydantic_ai.py [model]
"""

import asyncio
import tempfile
from pathlib import Path

from mock_models import pydantic_ai_model
from pydantic_ai import Agent

from pydantic_ai_mnesis import MnesisHistory

DAYS = 8


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pydantic.db"
        history = MnesisHistory(db_path=path, token_limit=1_500)
        agent = Agent(pydantic_ai_model(), instructions="Be brief.", capabilities=[history])

        @agent.tool_plain
        def weather(day: int) -> str:
            """Return the weather of a day."""
            return f"Day {day}: {day + 10} degrees. " + "The sky was watched all day. " * 12

        for day in range(1, DAYS + 1):
            result = await agent.run(f"How warm was day {day}?", conversation_id="weather")
            shown = await history.messages("weather")
            print(f"{result.output}  (messages in the history: {len(shown)})")
        await history.close()

        continued = MnesisHistory(db_path=path, token_limit=1_500)
        stored = await continued.all_messages("weather")
        print(
            f"After a restart: {len(stored)} messages in the log, {len(await continued.messages('weather'))} in the history"
        )
        session = await continued.session("weather")
        hit = (await session.search("Day 1", role="tool", limit=1))[0]
        print(f"Found again: {hit.excerpt[:20]!r}")
        await continued.close()


if __name__ == "__main__":
    asyncio.run(main())
