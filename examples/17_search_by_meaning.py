"""Search by meaning: with the small embeddings of the extra `vectors`, and with an embedding function of your own.

uv run --extra vectors python examples/17_search_by_meaning.py

No key and no model is needed. `embed_by_theme` takes the place of a call of your embedding provider.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from mnesis import Engine, MnesisConfig, MnesisSession, RecallConfig

TURNS = (
    ("My physician told me to rest for a week.", "Then I will move your meetings."),
    ("The car makes a noise when it turns left.", "A garage should look at the wheel bearing."),
    ("We planted tomatoes behind the house.", "They need sun and a stake to climb."),
)
THEMES = (("doctor", "physician", "medical"), ("car", "garage", "vehicle"), ("garden", "tomatoes", "vegetables"))


async def embed_by_theme(texts: list[str]) -> list[list[float]]:
    """Embed texts by theme: one dimension for each theme, and one for none."""
    rows = [[float(any(word in text.lower() for word in theme)) for theme in THEMES] for text in texts]
    return [[*row, float(not any(row))] for row in rows]


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "notes.db"
        async with Engine(path) as engine:
            session = await MnesisSession.create(model=None, session_id="notes", engine=engine)
            for question, answer in TURNS:
                await session.record(question, answer)
            print("by words:", [hit.excerpt for hit in await session.search("medical advice")])
            await session.close()
        for vectors in ("wordllama", embed_by_theme):
            config = MnesisConfig(recall=RecallConfig(vectors=vectors))
            async with Engine(path, config=config) as engine:
                name = vectors if isinstance(vectors, str) else vectors.__name__
                print(f"{name}:", (await engine.search("medical advice"))[0].excerpt)
                print(f"{name}:", (await engine.search("vegetables"))[0].excerpt)


if __name__ == "__main__":
    asyncio.run(main())
