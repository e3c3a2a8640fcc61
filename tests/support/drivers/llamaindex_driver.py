"""An adapter as the conformance suite of adapters calls it. Imports one framework only, because other processes load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.memory.mnesis import MnesisMemory

from mnesis.testing.adapter_suite import AdapterDriver
from tests.support.llamaindex_messages import BLOCKS

WORDS = "word " * 20


class LlamaIndexDriver(AdapterDriver):
    """Drives LlamaIndex's `MnesisMemory`."""

    every_item = [
        ChatMessage(role=role, blocks=[block], additional_kwargs={"tool_call_id": "c1"})
        for block in BLOCKS
        for role in ("user", "assistant", "tool")
    ]

    def create_adapter(self) -> MnesisMemory:
        return MnesisMemory.from_defaults(
            session_id=self.session_id, db_path=self.db_path, token_limit=self.token_limit
        )

    def make_turn(self, number: int, text: str) -> list[ChatMessage]:
        call = {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": "look", "arguments": json.dumps({"q": text})},
        }
        return [
            ChatMessage(role="user", content=text),
            ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [call]}),
            ChatMessage(role="tool", content=f"found {WORDS}", additional_kwargs={"tool_call_id": f"call_{number}"}),
            ChatMessage(role="assistant", content=f"answer {number} {WORDS}"),
        ]

    async def add(self, items: Sequence[Any]) -> None:
        await self.adapter.aput_messages(list(items))

    async def read(self) -> list[Any]:
        return list(await self.adapter.aget())

    async def read_log(self) -> list[Any]:
        return list(await self.adapter.ahistory())

    async def clear(self) -> None:
        await self.adapter.areset()

    async def close(self) -> None:
        await self.adapter.aclose()

    def text_of(self, item: ChatMessage) -> str:
        arguments = [block.tool_kwargs for block in item.blocks if block.block_type == "tool_call"]
        return f"{item.content} {json.dumps(item.additional_kwargs.get('tool_calls', ''))} {arguments or ''}"

    def check_request(self, items: Sequence[ChatMessage]) -> None:
        waiting: set[str] = set()
        for message in items:
            if message.role == "tool":
                assert message.additional_kwargs["tool_call_id"] in waiting
                waiting.discard(message.additional_kwargs["tool_call_id"])
            else:
                assert not waiting
                waiting = {call["id"] for call in message.additional_kwargs.get("tool_calls", ())}
                waiting |= {block.tool_call_id for block in message.blocks if block.block_type == "tool_call"}
        assert not waiting
        assert next(message for message in items if message.role != "system").role == "user"
