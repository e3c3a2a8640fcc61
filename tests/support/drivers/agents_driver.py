"""An adapter as the conformance suite of adapters calls it. Imports one framework only, because other processes load it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agents_mnesis import MnesisAgentSession
from mnesis.testing.adapter_suite import AdapterDriver
from tests.support.agents_fakes import check_items
from tests.support.agents_items import EVERY_TYPE

WORDS = "word " * 20


class AgentsDriver(AdapterDriver):
    """Drives `MnesisAgentSession`."""

    every_item = EVERY_TYPE

    def create_adapter(self) -> MnesisAgentSession:
        return MnesisAgentSession(self.session_id, db_path=self.db_path, token_limit=self.token_limit)

    def make_turn(self, number: int, text: str) -> list[Any]:
        call_id = f"call_{number}"
        return [
            {"role": "user", "content": text},
            {"type": "function_call", "call_id": call_id, "name": "look", "arguments": json.dumps({"q": text})},
            {"type": "function_call_output", "call_id": call_id, "output": f"found {WORDS}"},
            {"role": "assistant", "content": f"answer {number} {WORDS}"},
        ]

    async def add(self, items: Sequence[Any]) -> None:
        await self.adapter.add_items(list(items))

    async def read(self) -> list[Any]:
        return list(await self.adapter.get_items())

    async def read_log(self) -> list[Any]:
        return list(await self.adapter.get_all_items())

    async def clear(self) -> None:
        await self.adapter.clear_session()

    async def close(self) -> None:
        await self.adapter.close()

    def text_of(self, item: Any) -> str:
        return " ".join(str(item[key]) for key in ("content", "arguments", "output") if key in item)

    def check_request(self, items: Sequence[Any]) -> None:
        check_items(list(items))
