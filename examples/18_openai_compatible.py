"""An OpenAI-compatible endpoint, called directly: a session and a map over the same connections, without litellm.

MNESIS_MOCK_LLM=1 uv run python examples/18_openai_compatible.py
OPENAI_API_KEY=… uv run python examples/18_openai_compatible.py [model]

OPENAI_API_BASE is the address, for example http://localhost:8000/v1 for a server of your own.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from mnesis import LLMMap, MnesisConfig, MnesisSession, OpenAICompatibleLLM

# The server's own limits: those of a model that a server of your own runs are not known.
CONFIG = MnesisConfig(model_overrides={"context_limit": 131_072, "max_output_tokens": 8_192})


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        base_url = os.environ.get("OPENAI_API_BASE", "https://api.openai.com/v1")
        async with OpenAICompatibleLLM(base_url, api_key=os.environ.get("OPENAI_API_KEY")) as llm:
            database = Path(directory) / "chat.db"
            async with MnesisSession.open(model=model, db_path=database, config=CONFIG, llm=llm) as session:
                result = await session.send("Name a city with canals.")
                print(f"Answer: {len(result.text)} characters, {result.tokens.effective_total()} tokens")
            schema = {"type": "object", "properties": {"country": {"type": "string"}}, "required": ["country"]}
            batch = await LLMMap(model=model, llm=llm).run_all(
                ["Venice", "Bruges", "Suzhou"], "In which country is {{ item }}?", schema
            )
            print(f"Map: {len(batch.successes)} of 3 answered, over the same connections")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "openai/gpt-5-mini"))
