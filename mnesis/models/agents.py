"""The results of agents: one item of a map, a whole map, a delegation."""

from __future__ import annotations

from typing import Any, Generic

from pydantic import BaseModel, ConfigDict

from mnesis.models.map import Batch, Output
from mnesis.models.usage import TokenUsage


class _AgentResult(BaseModel, Generic[Output]):
    """The result of one agent.

    `session_id` is the agent's session, whose log has all its messages and tool calls ("" if none was opened).
    `success` is True only for a finished answer. Otherwise `error` says why, and `error_kind` is `llm_error`,
    `timeout`, `validation` (no answer satisfied the schema), `max_turns`, `doom_loop` (the same tool call again and
    again), `context` (the context does not fit the model's window), `template` or `worker_died`. `output` is the
    validated value if a schema was given. `turns` counts calls of `send()`. `attempts` is 1, plus one for each rejected
    answer and each repeated model call. `intermediate_outputs` are the texts of the turns before the last. `cost` is in
    US dollars.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    session_id: str = ""
    output: Output = None  # type: ignore[assignment]
    success: bool = True
    error: str | None = None
    error_kind: str | None = None
    cost: float = 0.0
    turns: int = 0
    attempts: int = 1
    intermediate_outputs: list[str] = []


class AgentMapResult(_AgentResult[Output], Generic[Output]):
    """The result of one item of `AgenticMap`. The type of `output` is that of the schema; a failure has None.

    `index` is the position of the input, from 0. `output_text` is the answer, or the last text of a failed agent.
    `resumed` is True if an earlier run with this id had finished the item.
    """

    index: int = 0
    input: Any = None
    output_text: str = ""
    token_usage: TokenUsage = TokenUsage()
    run_id: str = ""
    resumed: bool = False

    @property
    def usage(self) -> TokenUsage:
        """The same as `token_usage`, under the name that other results use."""
        return self.token_usage


class DelegateResult(_AgentResult[Any]):
    """The result of a sub-agent. `text` is its answer, or the last text of a failed agent."""

    text: str = ""
    usage: TokenUsage = TokenUsage()


class AgentMapBatch(Batch[AgentMapResult[Output]], Generic[Output]):
    """All results of a run of `AgenticMap`."""
