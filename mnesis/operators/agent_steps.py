"""How far an agent is with its task, and what comes next. No I/O: the same turns always lead to the same decisions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mnesis.models.message import FinishReason
from mnesis.models.results import TurnResult
from mnesis.operators.schema import InvalidOutputError, OutputSchema

MAX_TURNS = 20
AGENT_PROMPT = (
    "You work on one task on your own. Nobody answers questions in between: decide yourself, and use your tools where they"
    " help. Your last message is the result that is handed on."
)
CUT_OFF = "Your answer was cut off. Continue exactly where it stopped, without repeating anything."
ROUNDS_USED_UP = "Go on with the task. When it is done, give the result."
NO_ANSWER = "That was no answer. Give the result of the task."
NOT_FINISHED = "The task is not finished yet. Go on."
INTERRUPTED = "The work was interrupted here. Go on from where it stopped."
NO_ANSWER_REASONS = ("error", "content_filter")
"""Reasons for which a model stops without having answered; what it said until then is no result."""

Stop = str | Iterable[str] | Callable[[TurnResult], bool | Awaitable[bool]]
"""When an agent is finished: its answer holds this text, one of these texts, or this function of the turn says so."""

StopTest = tuple[str, ...] | Callable[[TurnResult], bool | Awaitable[bool]] | None
"""The same, checked."""


@dataclass(frozen=True, slots=True)
class Agent:
    """How an agent works. All of it was checked; `tools` are those it is offered."""

    tools: tuple[Any, ...] = ()
    max_turns: int = MAX_TURNS
    continuation_message: str = ""
    stop: StopTest = None
    schema: OutputSchema | None = None
    max_retries: int = 3
    timeout_seconds: float | None = None
    system_prompt: str = AGENT_PROMPT
    llm_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def full_system_prompt(self) -> str:
        """With what the answer has to look like: there it is never folded."""
        if self.schema is None:
            return self.system_prompt
        return f"{self.system_prompt}\n\nWhen the task is done: {self.schema.instructions}".strip()


@dataclass(frozen=True, slots=True)
class Say:
    """The next message to the agent."""

    message: str


@dataclass(frozen=True, slots=True)
class End:
    """The agent's work is over: finished if `kind` is None, else failed. `value` is `output` as JSON can hold it."""

    text: str
    output: Any = None
    value: Any = None
    kind: str | None = None
    error: str | None = None


@dataclass
class Progress:
    """How far an agent is. `texts` are what it said, turn by turn; `cut` what it said of an answer that was cut off."""

    agent: Agent
    texts: list[str] = field(default_factory=list)
    cut: str = ""
    refused: int = 0

    def after(self, result: TurnResult, stop_met: bool | None) -> Say | End:
        """What comes after a turn. `stop_met` is None if there is no stop condition."""
        text = self.cut + result.text
        self.texts.append(result.text)
        unfinished = _unfinished(result, text, stop_met)
        self.cut = text if unfinished == CUT_OFF else ""
        if result.finish_reason in NO_ANSWER_REASONS:
            return End(text, kind="llm_error", error=f"the model stopped for {result.finish_reason!r}")
        if unfinished == ROUNDS_USED_UP and result.doom_loop_detected:
            return End(text, kind="doom_loop", error="the same tool was called with the same arguments again and again")
        if unfinished:
            return self._go_on(text, self.agent.continuation_message or unfinished, unfinished)
        return self._checked(text)

    def _checked(self, text: str) -> Say | End:
        schema = self.agent.schema
        if schema is None:
            return End(text, text, text)
        try:
            value, output = schema.read(text)
            return End(text, output, value)
        except InvalidOutputError as error:
            if self.refused == self.agent.max_retries:
                return End(text, kind="validation", error=str(error))
            self.refused += 1
            return self._go_on(text, schema.feedback(error), f"its answer does not satisfy the schema: {error}")

    def _go_on(self, text: str, message: str, why: str) -> Say | End:
        turns = len(self.texts)
        if turns < self.agent.max_turns:
            return Say(message)
        return End(text, kind="max_turns", error=f"not finished after {turns} turn(s), the last because: {why}")


def _unfinished(result: TurnResult, text: str, stop_met: bool | None) -> str:
    """What to say to an agent that is not finished; "" if it is."""
    if stop_met:
        return ""
    if result.finish_reason in (FinishReason.LENGTH, FinishReason.MAX_TOKENS):
        return CUT_OFF
    if result.finish_reason == FinishReason.MAX_TOOL_ROUNDS:
        return ROUNDS_USED_UP
    if result.tool_calls or not text.strip():
        return NO_ANSWER
    return NOT_FINISHED if stop_met is False else ""
