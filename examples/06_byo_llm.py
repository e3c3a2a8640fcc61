"""Bring your own client: mnesis keeps the conversation and the context, you make the calls.

uv run python examples/06_byo_llm.py          # needs no key: the client here is a stand-in
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from mnesis import CompactionConfig, MnesisConfig, MnesisEvent, MnesisSession, TokenUsage


class EchoClient:
    """Stands in for your SDK: takes chat messages, gives an answer and its usage."""

    def chat(self, messages: list[dict[str, Any]]) -> tuple[str, int, int]:
        asked = messages[-1]["content"]
        answer = f"You said: {asked} " + "This answer goes on for a while. " * 12
        return answer, sum(len(str(m["content"])) for m in messages) // 4, len(answer) // 4


async def main() -> None:
    client = EchoClient()
    # A small window, so that a compaction can be seen within a few turns.
    config = MnesisConfig(
        compaction=CompactionConfig(compaction_output_budget=1_000),
        model_overrides={"context_limit": 6_000, "max_output_tokens": 1_000},
    )
    with tempfile.TemporaryDirectory() as directory:
        # model=None: this session is only recorded, and compacted without a model.
        async with MnesisSession.open(model=None, db_path=Path(directory) / "chat.db", config=config) as session:
            session.subscribe(
                MnesisEvent.COMPACTION_COMPLETED,
                lambda _event, p: print(f"  compacted: {p.tokens_before:,} -> {p.tokens_after:,} tokens in context"),
            )
            for number in range(1, 31):
                question = f"Question {number}: what about item {number * 7}?"
                messages = await session.context_for_next_turn()
                messages.append({"role": "user", "content": question})
                answer, read, written = client.chat(messages)
                result = await session.record(
                    user_message=question,
                    assistant_response=answer,
                    tokens=TokenUsage(input=read, output=written),
                )
                if number % 10 == 0 or result.compaction_triggered:
                    print(f"turn {number}: {len(messages)} messages sent, {session.context_tokens:,} tokens in context")
            print(f"The log holds all {len(await session.messages())} messages.")


if __name__ == "__main__":
    asyncio.run(main())
