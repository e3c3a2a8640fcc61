"""Large files: the message holds a reference and a summary, and the model can read the whole stored file.

MNESIS_MOCK_LLM=1 uv run python examples/04_large_files.py
ANTHROPIC_API_KEY=… uv run python examples/04_large_files.py [model]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from mnesis import FileConfig, MnesisConfig, MnesisSession

ROWS = 20_000


def write_readings(path: Path) -> None:
    """Write a table that is too large for a message."""
    with path.open("w") as file:
        file.write("day,hive,grams\n")
        for day in range(ROWS):
            file.write(f"{day},{'white' if day % 3 else 'blue'},{day * 7_919 % 10_007}\n")


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        readings, note = folder / "readings.csv", folder / "note.md"
        write_readings(readings)
        note.write_text("# Hives\n\nThe blue hive is the older one.\n")
        config = MnesisConfig(file=FileConfig(inline_threshold=1_000, storage_dir=folder / "files"))

        async with MnesisSession.open(model=model, db_path=folder / "files.db", config=config) as session:
            await session.send(["What is in these files?", note, readings])
            small, reference = (await session.messages())[0].parts[1:]
            print(f"{note.name} is inline in the message: {small.text!r}")
            print(
                f"{readings.name} is stored outside it, {reference.token_count:,} tokens, as a {reference.file_type}:\n"
            )
            print(reference.exploration_summary)

            print("\nThe model reads and searches it with tools that send() provides:")
            question = f"Please use lcm_search_file for '{reference.content_id}' and '^4711,'."
            result = await session.send(question)
            print(result.text[:400])

            print("\nYou can read it too:")
            page = await session.read_file(reference.content_id, line=4_713, max_lines=1)
            print(page.text)
            path = await session.file_path(reference.content_id)
            print(f"Identical bytes: {path.read_bytes() == readings.read_bytes()}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
