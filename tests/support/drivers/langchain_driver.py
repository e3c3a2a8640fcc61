"""An adapter as the conformance suite of adapters calls it. Imports one framework only, because other processes load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage

from langchain_mnesis import MnesisChatMessageHistory
from mnesis import CompactionConfig, MnesisConfig, ModelOverrides
from mnesis.testing.adapter_suite import AdapterDriver
from tests.support.langchain_messages import SHAPES

WORDS = "word " * 20
SUMMARY_TOKENS = 1_000


class LangChainDriver(AdapterDriver):
    """Drives `MnesisChatMessageHistory`."""

    # A history acts on a RemoveMessage instead of storing it.
    every_item = [message for message in SHAPES.values() if not isinstance(message, RemoveMessage)]

    def create_adapter(self) -> MnesisChatMessageHistory:
        return self._history("window")

    def _history(self, view: Any) -> MnesisChatMessageHistory:
        config = MnesisConfig(
            compaction=CompactionConfig(compaction_output_budget=SUMMARY_TOKENS),
            model_overrides=ModelOverrides(context_limit=self.token_limit + SUMMARY_TOKENS + 1, max_output_tokens=1),
        )
        return MnesisChatMessageHistory(
            self.session_id, db_path=self.db_path, config=config, view=view, keep_chunks=True
        )

    def make_turn(self, number: int, text: str) -> list[BaseMessage]:
        call = {"name": "look", "args": {"q": text}, "id": f"call_{number}", "type": "tool_call"}
        return [
            HumanMessage(text, id=f"q{number}"),
            AIMessage("", tool_calls=[call], id=f"c{number}"),
            ToolMessage(f"found {WORDS}", tool_call_id=f"call_{number}", id=f"r{number}", artifact={"rows": (1, 2)}),
            AIMessage(f"answer {number} {WORDS}", id=f"a{number}"),
        ]

    async def add(self, items: Sequence[Any]) -> None:
        await self.adapter.aadd_messages(items)

    async def read(self) -> list[Any]:
        self.adapter.refresh()
        return list(await self.adapter.aget_messages())

    async def read_log(self) -> list[Any]:
        log = self._history("log")
        messages = await log.aget_messages()
        await log.engine.close()
        return messages

    async def clear(self) -> None:
        await self.adapter.aclear()

    async def close(self) -> None:
        await self.adapter.engine.close()

    def text_of(self, item: BaseMessage) -> str:
        return f"{item.text} {json.dumps(getattr(item, 'tool_calls', []))}"

    def check_request(self, items: Sequence[BaseMessage]) -> None:
        waiting: set[str | None] = set()
        for message in items:
            if isinstance(message, ToolMessage):
                assert message.tool_call_id in waiting
                waiting.discard(message.tool_call_id)
            else:
                assert not waiting
                waiting = {call["id"] for call in message.tool_calls} if isinstance(message, AIMessage) else set()
        assert not waiting
        spoken = [message for message in items if not isinstance(message, SystemMessage)]
        assert isinstance(spoken[0], HumanMessage)
