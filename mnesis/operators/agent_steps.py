"""The decisions of an agent's work: the step after each turn.

No I/O: the same turns always lead to the same decisions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mnesis.models.message import FinishReason
from mnesis.models.results import TurnResult
from mnesis.operators.schema import InvalidOutputError, OutputSchema

AGENT_NAME = "general"
MAX_TURNS = 20
MAX_RETRIES = 3

AGENT_PROMPT = (
    "You work on one task on your own. Nobody answers questions in between: decide yourself, and use your tools where they"
    " help. Your last message is the result that is handed on."
)
CUT_OFF = "Your answer was cut off. Continue exactly where it stopped, without repeating anything."
ROUNDS_USED_UP = "Go on with the task. When it is done, give the result."
NO_ANSWER = "That was no answer. Give the result of the task."
NOT_FINISHED = "The task is not finished yet. Go on."
INTERRUPTED = "The work was interrupted here. Go on from where it stopped."

FAILURE_REASONS = ("error", "content_filter")
"""Finish reasons of a model that stopped without an answer. Its text is then not a result."""

StopCondition = str | Iterable[str] | Callable[[TurnResult], bool | Awaitable[bool]]
"""When an agent is finished: this text or one of these texts is in its answer, or this function returns true."""

StopTest = tuple[str, ...] | Callable[[TurnResult], bool | Awaitable[bool]] | None
"""A checked `StopCondition`."""


@dataclass(frozen=True, slots=True)
class Agent:
    """How an agent works.

    All values are checked. `tools` are the tools that it may use; `name` is recorded with its session.
    """

    name: str = AGENT_NAME
    tools: tuple[Any, ...] = ()
    max_turns: int = MAX_TURNS
    continuation_message: str = ""
    stop: StopTest = None
    schema: OutputSchema | None = None
    max_retries: int = MAX_RETRIES
    timeout_seconds: float | None = None
    system_prompt: str = AGENT_PROMPT
    llm_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def full_system_prompt(self) -> str:
        """The system prompt with the output schema. Compaction never removes it from there."""
        if self.schema is None:
            return self.system_prompt
        return f"{self.system_prompt}\n\nWhen the task is done: {self.schema.instructions}".strip()


@dataclass(frozen=True, slots=True)
class NextMessage:
    """The next message to the agent."""

    text: str


@dataclass(frozen=True, slots=True)
class AgentEnd:
    """The end of an agent's work: finished if `error_kind` is None, else failed.

    `json_output` is `output` as JSON.
    """

    text: str
    output: Any = None
    json_output: Any = None
    error_kind: str | None = None
    error: str | None = None


@dataclass
class AgentProgress:
    """The state of an agent's work.

    `texts` are the texts of its turns. `partial_text` is the part of an answer that was cut off. `rejected_outputs`
    counts the answers that did not satisfy the schema.
    """

    agent: Agent
    texts: list[str] = field(default_factory=list)
    partial_text: str = ""
    rejected_outputs: int = 0

    def next_step(self, result: TurnResult, stop_met: bool | None) -> NextMessage | AgentEnd:
        """Record a turn and decide the next step. `stop_met` is None if there is no stop condition."""
        text = self.partial_text + result.text
        self.texts.append(result.text)
        continuation = _continuation(result, text, stop_met)
        self.partial_text = text if continuation == CUT_OFF else ""
        if result.finish_reason in FAILURE_REASONS:
            return AgentEnd(text, error_kind="llm_error", error=f"the model stopped with {result.finish_reason!r}")
        if continuation == ROUNDS_USED_UP and result.doom_loop_detected:
            error = "the agent called the same tool with the same arguments again and again"
            return AgentEnd(text, error_kind="doom_loop", error=error)
        if continuation is not None:
            return self._continue_or_end(text, self.agent.continuation_message or continuation, continuation)
        return self._check_output(text)

    def _check_output(self, text: str) -> NextMessage | AgentEnd:
        schema = self.agent.schema
        if schema is None:
            return AgentEnd(text, text, text)
        try:
            json_output, output = schema.extract(text)
            return AgentEnd(text, output, json_output)
        except InvalidOutputError as error:
            if self.rejected_outputs == self.agent.max_retries:
                return AgentEnd(text, error_kind="validation", error=str(error))
            self.rejected_outputs += 1
            reason = f"its answer does not satisfy the schema: {error}"
            return self._continue_or_end(text, schema.feedback(error), reason)

    def _continue_or_end(self, text: str, message: str, reason: str) -> NextMessage | AgentEnd:
        turns = len(self.texts)
        if turns < self.agent.max_turns:
            return NextMessage(message)
        error = f"not finished after {turns} turn(s), the last because: {reason}"
        return AgentEnd(text, error_kind="max_turns", error=error)


def _continuation(result: TurnResult, text: str, stop_met: bool | None) -> str | None:
    """Return the message for an unfinished agent, or None if the agent is finished."""
    if stop_met:
        return None
    if result.finish_reason in (FinishReason.LENGTH, FinishReason.MAX_TOKENS):
        return CUT_OFF
    if result.finish_reason == FinishReason.MAX_TOOL_ROUNDS:
        return ROUNDS_USED_UP
    if result.tool_calls or not text.strip():
        return NO_ANSWER
    return NOT_FINISHED if stop_met is False else None
