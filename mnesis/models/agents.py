"""What comes of agents at work: one item of a map, a whole map, a delegation."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from mnesis.models.map import Batch
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
    intermediate_outputs: list[str] = []


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


class AgentMapBatch(Batch[AgentMapResult]):
    """All results of a run of `AgenticMap`."""
