"""An adapter as the conformance suite of adapters calls it. Imports one framework only, because other processes load it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from mnesis.testing.adapter_suite import AdapterDriver
from pydantic_ai_mnesis import MnesisHistory
from tests.support.pydantic_ai_messages import EVERY_PART, NOW, plain, tool_calls_have_results

WORDS = "word " * 20


class PydanticAIDriver(AdapterDriver):
    """Drives `pydantic_ai_mnesis.MnesisHistory`."""

    every_item = EVERY_PART

    def create_adapter(self) -> MnesisHistory:
        return MnesisHistory(self.session_id, db_path=self.db_path, token_limit=self.token_limit)

    def make_turn(self, number: int, text: str) -> list[ModelMessage]:
        call = ToolCallPart("look", {"q": text}, tool_call_id=f"call_{number}")
        found = ToolReturnPart("look", f"found {WORDS}", tool_call_id=f"call_{number}", timestamp=NOW)
        return [
            ModelRequest(parts=[UserPromptPart(text, timestamp=NOW)], run_id=f"run_{number}"),
            ModelResponse(parts=[call], timestamp=NOW),
            ModelRequest(parts=[found]),
            ModelResponse(parts=[TextPart(f"answer {number} {WORDS}")], timestamp=NOW),
        ]

    async def add(self, items: Sequence[Any]) -> None:
        await self.adapter.add(self.session_id, items)

    async def read(self) -> list[Any]:
        return list(await self.adapter.messages(self.session_id))

    async def read_log(self) -> list[Any]:
        return list(await self.adapter.all_messages(self.session_id))

    async def clear(self) -> None:
        await self.adapter.clear(self.session_id)

    async def close(self) -> None:
        await self.adapter.close()

    def text_of(self, item: ModelMessage) -> str:
        return " ".join(str(getattr(part, "content", None) or getattr(part, "args", "")) for part in item.parts)

    def check_request(self, items: Sequence[ModelMessage]) -> None:
        assert tool_calls_have_results(list(items))
        assert items[0].kind == "request"

    def expected(self, items: Sequence[Any]) -> list[ModelMessage]:
        return plain([dataclasses.replace(item) for item in items])
