"""Sweeps over a store, with models that summarise well, badly or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mnesis.compaction.plan import Trigger
from mnesis.compaction.summarize import Writer
from mnesis.compaction.sweep import Sweep
from mnesis.config import CompactionConfig, RetryConfig
from mnesis.context.assemble import assemble
from mnesis.formats.openai import chat_messages
from mnesis.ids import new_id
from mnesis.llm.base import LLMRequest
from mnesis.models.context import ActiveContext, Budget
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.base import Append, Store
from mnesis.store.memory import MemoryStore
from mnesis.testing import ScriptedLLM
from tests.support.histories import check_chat, count, numbered

SESSION = "s"
_WORDS_ASKED = re.compile(r"at most (?:about )?(\d+)\s+words")


def budget_of(usable: int = 4_000, low_water: int | None = None) -> Budget:
    """The marks of a small model with the default fractions."""
    low = low_water if low_water is not None else int(usable * 0.15)
    return Budget(
        context_limit=usable * 2,
        max_output_tokens=usable // 2,
        usable_tokens=usable,
        soft_tokens=int(usable * 0.6),
        low_water_tokens=low,
        summary_tokens=low // 2,
    )


def read_by(request: LLMRequest) -> str:
    """What a summariser call was given to read."""
    return str(request.messages[-1]["content"])


class Summariser(ScriptedLLM):
    """A model that gives a short good summary to whatever it reads; each is different from all others."""

    def __init__(self) -> None:
        super().__init__(self._answer, repeat_last=True)

    def _answer(self, request: LLMRequest) -> str:
        number = len(self.requests)
        asked = int(_WORDS_ASKED.findall(read_by(request))[-1])
        words = [f"fact{number}x{i}" for i in range(max(min(asked // 4, 12), 2))]
        return f"Decided in part {number}: {' '.join(words)}."

    @property
    def read(self) -> str:
        """Everything it was ever given to read."""
        return "\n".join(map(read_by, self.requests))


def writer_of(llm: object, **fields: Any) -> Writer:
    """A writer around a fake model."""
    settings = {"input_tokens": 100_000, "timeout_seconds": 30.0, "retry": RetryConfig(), **fields}
    return Writer(llm=llm, model="openai/test", **settings)  # type: ignore[arg-type]  # a fake with the two methods


@dataclass
class Bench:
    """One session in a store, and sweeps over it. `log` is what was appended, as the store gave it back."""

    store: Store = field(default_factory=MemoryStore)
    budget: Budget = field(default_factory=budget_of)
    config: CompactionConfig = field(default_factory=CompactionConfig)
    log: list[Message] = field(default_factory=list)

    async def begin(self, messages: Iterable[Message] = ()) -> Bench:
        await self.store.open()
        await self.store.create_session(SessionRecord(id=SESSION, model="openai/test"))
        await self.append(messages)
        return self

    async def append(self, messages: Iterable[Message]) -> None:
        fresh = [m.model_copy(update={"id": new_id("msg"), "seq": 0}) for m in numbered(messages)]
        if fresh:
            stored = await self.store.append(SESSION, Append(fresh, ends_turn=True))
            self.log.extend(stored.messages)

    def sweep_of(self, llm: object | None, trigger: Trigger = "manual", **fields: Any) -> Sweep:
        return Sweep(
            store=self.store,
            session_id=SESSION,
            budget=self.budget,
            config=self.config,
            count=count,
            writer=writer_of(llm, **fields) if llm is not None else None,
            trigger=trigger,
        )

    async def sweep(self, llm: object | None = None, trigger: Trigger = "manual", **fields: Any) -> CompactionResult:
        result, _, _ = await self.sweep_of(llm, trigger, **fields).run()
        return result

    async def context(self) -> ActiveContext:
        return await self.store.active_context(SESSION)

    async def tokens(self) -> int:
        return (await self.context()).session.stored_tokens

    async def summaries(self) -> dict[str, Summary]:
        return {summary.id: summary for summary in await self.store.summaries(SESSION)}

    async def check(self) -> None:
        """Nothing is out of reach, nothing is damaged, the window fits and is valid."""
        assert await self.store.check(session_id=SESSION) == []
        context = await self.context()
        seen: list[Message] = []
        for item in context.items:
            if isinstance(item, Summary):
                seen.extend(await self.store.covered_messages(SESSION, item.id))
            else:
                seen.append(item)
        assert seen == self.log, "every original comes back, in order, equal to what was stored"
        window = assemble(context, budget_tokens=self.budget.usable_tokens, count=count)
        assert window.tokens <= self.budget.usable_tokens
        check_chat(chat_messages(window.messages))


def counting(function: Callable[[LLMRequest], Any], usage: Any = "estimate") -> ScriptedLLM:
    """A model made of one function of the request."""
    return ScriptedLLM(function, repeat_last=True, usage=usage)
