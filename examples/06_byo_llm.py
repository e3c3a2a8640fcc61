"""Bring your own client: mnesis manages the conversation and the context, and you call the model.

MNESIS_MOCK_LLM=1 uv run python examples/06_byo_llm.py        # with a mock client
ANTHROPIC_API_KEY=… uv run python examples/06_byo_llm.py [model]
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from mnesis import CompactionConfig, MnesisConfig, MnesisEvent, MnesisSession, TokenUsage


class YourClient:
    """Any SDK that takes chat messages and returns an answer with its usage."""

    def __init__(self, model: str) -> None:
        self.model = model

    def chat(self, messages: list[dict[str, Any]]) -> tuple[str, int, int]:
        import litellm

        reply = litellm.completion(model=self.model, messages=messages, max_tokens=500)
        return reply.choices[0].message.content or "…", reply.usage.prompt_tokens, reply.usage.completion_tokens


class EchoClient:
    """A mock of the client that needs no key."""

    def chat(self, messages: list[dict[str, Any]]) -> tuple[str, int, int]:
        asked = messages[-1]["content"]
        answer = f"You said: {asked} " + "This answer is longer than it has to be. " * 12
        return answer, sum(len(str(m["content"])) for m in messages) // 4, len(answer) // 4


async def main(model: str) -> None:
    client = EchoClient() if os.environ.get("MNESIS_MOCK_LLM") == "1" else YourClient(model)
    # A small window, so that a few turns trigger a compaction.
    config = MnesisConfig(
        compaction=CompactionConfig(compaction_output_budget=1_000),
        model_overrides={"context_limit": 6_000, "max_output_tokens": 1_000},
    )
    with tempfile.TemporaryDirectory() as directory:
        # model=None: the session only records turns, and compacts without a model.
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
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "anthropic/claude-opus-4-6"))
