"""A first session: send messages, see their token usage, close, and load the session again.

MNESIS_MOCK_LLM=1 uv run python examples/01_basic_session.py
ANTHROPIC_API_KEY=… uv run python examples/01_basic_session.py [model]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from mnesis import MnesisSession


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "sessions.db"

        async with MnesisSession.open(model=model, db_path=database) as session:
            for question in ("My name is Alice.", "What's my name?", "Write a line about context management."):
                result = await session.send(question)
                print(f"You:   {question}\nModel: {result.text}\n")
            print(f"Lifetime tokens: {session.token_usage.effective_total()}, in context: {session.context_tokens}")
            session_id = session.id

        again = await MnesisSession.load(session_id, db_path=database)
        print(f"Loaded {again.id}: {len(await again.messages())} messages, {len(again.history())} turns")
        await again.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
