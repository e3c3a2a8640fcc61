"""Small cases of search and automatic recall, each a kind that once failed (`data/examples.json`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnesis import CompactionConfig, Message, MnesisConfig, MnesisSession, ModelOverrides, RecallConfig
from mnesis.formats.text import message_text
from mnesis.models.message import TextPart, ToolPart, ToolResultPart

EXAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "examples.json").read_text("utf-8"))
CONFIG = MnesisConfig(
    compaction=CompactionConfig(auto=False, compaction_output_budget=1_000, low_water_fraction=0.02),
    model_overrides=ModelOverrides(context_limit=40_000, max_output_tokens=256),
    recall=RecallConfig(enabled=True),
)


def build_messages(example: dict[str, Any]) -> list[Message]:
    """Return the messages of an example; the output of a tool follows its call."""
    messages: list[Message] = []
    for each in example["messages"]:
        time = {"created_at": each["at"]} if "at" in each else {}
        if each["role"] == "tool":
            call = ToolPart(tool_name="run", tool_call_id=each["id"], input={})
            messages.append(Message(id=f"call_{each['id']}", role="assistant", parts=(call,), **time))
            result = ToolResultPart(tool_call_id=each["id"], tool_name="run", output=each["text"])
            messages.append(Message(id=each["id"], role="tool", parts=(result,), **time))
        else:
            messages.append(Message(id=each["id"], role=each["role"], parts=(TextPart(text=each["text"]),), **time))
    return messages


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{each['kind']}: {each['question']}" for each in EXAMPLES])
async def test_each_example_is_answered(example: dict[str, Any]) -> None:
    async with MnesisSession.open(model=None, db_path=":memory:", system_prompt="", config=CONFIG) as session:
        await session.append(build_messages(example))
        if example["door"] == "search":
            hits = await session.search(example["question"], limit=5)
            assert hits[0].message_id == example["expected_ids"][0]
            return
        await session.compact()
        plain_ids = {message.id for message in (await session.window()).messages}
        window = await session.window(message=example["question"])
        added = "\n".join(message_text(message) for message in window.messages if message.id not in plain_ids)
        assert example["expected_text"] in added


def test_the_table_has_every_kind() -> None:
    assert len(EXAMPLES) == 25
    assert {example["door"] for example in EXAMPLES} == {"search", "recall"}
