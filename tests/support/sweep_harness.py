"""A harness for sweeps over a store, and fake models that summarise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mnesis.compaction.plan import Trigger
from mnesis.compaction.summarizer import Summarizer
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
from tests.support.summaries import acceptable_summary

SESSION = "s"


def budget_of(usable: int = 4_000, low_water: int | None = None) -> Budget:
    """Return the budget of a small model with the default fractions."""
    low = low_water if low_water is not None else int(usable * 0.15)
    return Budget(
        context_limit=usable * 2,
        max_output_tokens=usable // 2,
        usable_tokens=usable,
        soft_tokens=int(usable * 0.6),
        low_water_tokens=low,
        summary_tokens=low // 2,
    )


def transcript_in(request: LLMRequest) -> str:
    """Return the transcript in a summary request."""
    return str(request.messages[-1]["content"])


class Summariser(ScriptedLLM):
    """A model that writes a short, good summary of any transcript. Each summary is different."""

    def __init__(self) -> None:
        super().__init__(self._answer, repeat_last=True)

    def _answer(self, request: LLMRequest) -> str:
        return acceptable_summary(request, f"Decided in part {len(self.requests)}:")

    @property
    def transcripts(self) -> str:
        """The transcripts of all requests, joined."""
        return "\n".join(map(transcript_in, self.requests))


def summarizer_of(llm: object, **fields: Any) -> Summarizer:
    """Return a summarizer that uses a fake model."""
    settings = {"input_tokens": 100_000, "timeout_seconds": 30.0, "retry": RetryConfig(), **fields}
    return Summarizer(llm=llm, model="openai/test", **settings)  # type: ignore[arg-type]  # a fake with the two methods


@dataclass
class SweepHarness:
    """A session in a store, and sweeps over it. `log` contains the appended messages as the store returned them."""

    store: Store = field(default_factory=MemoryStore)
    budget: Budget = field(default_factory=budget_of)
    config: CompactionConfig = field(default_factory=CompactionConfig)
    log: list[Message] = field(default_factory=list)

    async def begin(self, messages: Iterable[Message] = ()) -> SweepHarness:
        await self.store.open()
        await self.store.create_session(SessionRecord(id=SESSION, model="openai/test"))
        await self.append(messages)
        return self

    async def append(self, messages: Iterable[Message]) -> None:
        new_messages = [m.model_copy(update={"id": new_id("msg"), "seq": 0}) for m in numbered(messages)]
        if new_messages:
            stored = await self.store.append(SESSION, Append(new_messages, ends_turn=True))
            self.log.extend(stored.messages)

    def sweep_of(self, llm: object | None, trigger: Trigger = "manual", **fields: Any) -> Sweep:
        return Sweep(
            store=self.store,
            session_id=SESSION,
            budget=self.budget,
            config=self.config,
            count=count,
            summarizer=summarizer_of(llm, **fields) if llm is not None else None,
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
        """Check that every original is reachable and undamaged, and that the window fits and is valid."""
        assert await self.store.check(session_id=SESSION) == []
        context = await self.context()
        seen: list[Message] = []
        for item in context.items:
            if isinstance(item, Summary):
                seen.extend(await self.store.covered_messages(SESSION, item.id))
            else:
                seen.append(item)
        assert seen == self.log, "originals differ from the stored messages"
        window = assemble(context, budget_tokens=self.budget.usable_tokens, count=count)
        assert window.tokens <= self.budget.usable_tokens
        check_chat(chat_messages(window.messages))


def llm_from(function: Callable[[LLMRequest], Any], usage: Any = "estimate") -> ScriptedLLM:
    """Return a model whose replies are computed by a function of the request."""
    return ScriptedLLM(function, repeat_last=True, usage=usage)
