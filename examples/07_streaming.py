"""Streaming: text as it arrives, then the complete turn. Stopping early loses nothing.

MNESIS_MOCK_LLM=1 uv run python examples/07_streaming.py
ANTHROPIC_API_KEY=… uv run python examples/07_streaming.py [model]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from mnesis import MnesisSession


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "stream.db"
        async with MnesisSession.open(model=model, session_id="streamed", db_path=database) as session:
            print("Complete:", end=" ")
            async for event in session.stream("Explain the GIL in Python in two sentences."):
                if event.type == "text_delta":
                    print(event.text, end="", flush=True)
                elif event.type == "turn_complete":
                    print(f"\nTokens: {event.result.tokens.effective_total()}\n")

            print("Stopped after the first delta:", end=" ")
            async for event in session.stream("Now the same about reference counting."):
                if event.type == "text_delta":
                    print(event.text)
                    break
        # Closing the session waited for the abandoned turn, so it is stored completely.
        session = await MnesisSession.load("streamed", db_path=database)
        last = (await session.messages())[-1]
        print(f"Stored nevertheless: {len(last.text_content())} characters by the {last.role}")
        await session.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
