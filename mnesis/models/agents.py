"""What comes of agents at work: one item of a map, a whole map, a delegation."""

from __future__ import annotations

from functools import reduce
from typing import Any

from pydantic import BaseModel, ConfigDict

from mnesis.display.panel import Panel, Shown
from mnesis.models.showing import batch_panel
from mnesis.models.usage import TokenUsage


class _AgentResult(BaseModel):
    """What came of one agent.

    `session_id` names its session, which keeps everything it said and did ("" if none was opened). `success` is True only
    for a finished answer; else `error` says why not, and `error_kind` is `llm_error`, `timeout`, `validation` (no answer
    that satisfies the schema), `max_turns`, `doom_loop` (the same tool call over and over), `context` (it cannot be made to
    fit the model's window), `template` or `worker_died`. `output` is the validated value where a schema was given.
    `turns` are calls of `send()`; `attempts` is 1 and one more for each answer that was refused and each model call that
    was repeated. `intermediate_outputs` are the texts of the turns before the last. `cost` is in US dollars.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    session_id: str = ""
    output: Any = None
    success: bool = True
    error: str | None = None
    error_kind: str | None = None
    cost: float = 0.0
    turns: int = 0
    attempts: int = 1
    intermediate_outputs: tuple[str, ...] = ()


class AgentMapResult(_AgentResult):
    """One item of `AgenticMap`. `index` is its place among the inputs, from 0. `output_text` is the answer, or for a
    failure the last thing that was said. `resumed` marks one that an earlier run of this id had finished."""

    index: int = 0
    input: Any = None
    output_text: str = ""
    token_usage: TokenUsage = TokenUsage()
    run_id: str = ""
    resumed: bool = False

    @property
    def usage(self) -> TokenUsage:
        """`token_usage`, under the name that other results have for it."""
        return self.token_usage


class DelegateResult(_AgentResult):
    """What a sub-agent made of its task. `text` is its answer, or for a failure the last thing it said."""

    text: str = ""
    usage: TokenUsage = TokenUsage()


class AgentMapBatch(BaseModel, Shown):
    """A whole run of `AgenticMap`: successes and failures, each in order of the inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    successes: tuple[AgentMapResult, ...] = ()
    failures: tuple[AgentMapResult, ...] = ()
    run_id: str = ""

    @property
    def results(self) -> list[AgentMapResult]:
        """All of them, in order of the inputs."""
        return sorted((*self.successes, *self.failures), key=lambda result: result.index)

    @property
    def total(self) -> int:
        return len(self.successes) + len(self.failures)

    @property
    def total_attempts(self) -> int:
        return sum(result.attempts for result in (*self.successes, *self.failures))

    @property
    def usage(self) -> TokenUsage:
        """The sum over all items."""
        return reduce(TokenUsage.__add__, (result.token_usage for result in self.results), TokenUsage())

    @property
    def cost(self) -> float:
        return sum(result.cost for result in self.results)

    def _panel(self) -> Panel:
        return batch_panel("AgentMapBatch", self, (*self.failures, *self.successes))
