"""A long-running agent: forty turns in a small window, several compactions, and no message lost.

MNESIS_MOCK_LLM=1 uv run python examples/02_long_running_agent.py
ANTHROPIC_API_KEY=… uv run python examples/02_long_running_agent.py [model]
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from mnesis import CompactionConfig, MnesisConfig, MnesisEvent, MnesisSession

TURNS = 40
# A window of 8,000 tokens instead of the model's own, so that forty turns overflow it several times.
CONFIG = MnesisConfig(
    compaction=CompactionConfig(compaction_output_budget=1_000),
    model_overrides={"context_limit": 8_000, "max_output_tokens": 1_000},
)


WOODS = ["oak", "ash", "walnut", "cherry", "maple"]


def make_assignment(turn: int) -> str:
    """Return a message to the agent: a fact with an unguessable number, and some work."""
    wood = WOODS[turn - 1] if turn <= len(WOODS) else f"unmarked no. {turn}"
    return (
        f"The {wood} crate holds part {turn * 7_919 % 10_007}. "
        + "Check the list again, say what changed, and continue with the next shelf. " * 8
    )


async def main(model: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with MnesisSession.open(model=model, db_path=Path(directory) / "agent.db", config=CONFIG) as session:
            session.subscribe(
                MnesisEvent.COMPACTION_COMPLETED,
                lambda _event, p: print(
                    f"  compaction, level {p.level_used}: {p.tokens_before:,} -> {p.tokens_after:,} tokens in context"
                ),
            )
            for turn in range(1, TURNS + 1):
                await session.send(make_assignment(turn))
                if turn % 10 == 0:
                    print(f"turn {turn}: {session.context_tokens:,} tokens in context")
            log = await session.messages()
            window = await session.window()
            print(f"In the log: {len(log)} messages. In the window: {len(window.messages)}, {window.tokens:,} tokens.")

            print("\nThe third assignment is no longer in the window. Searching for it:")
            hit = (await session.search("Which part is in the walnut crate?", limit=1))[0]
            print(f"  message {hit.seq}: {hit.excerpt[:60]}…")
            original = await session.message(hit.message_id)
            print(f"  word for word: {original.text_content() == make_assignment(3)}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
