"""One agent at work: turns of one session until its task is finished, or it is clear that it will not be."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mnesis.errors import (
    ConfigurationError,
    ContextIrreducibleError,
    LLMError,
    LLMTimeoutError,
    ToolDefinitionError,
)
from mnesis.events.bus import MnesisEvent
from mnesis.models.message import FinishReason
from mnesis.models.results import TurnResult
from mnesis.models.usage import TokenUsage
from mnesis.operators.agent_steps import AGENT_PROMPT, INTERRUPTED, Agent, End, Progress, Say, Stop, StopTest
from mnesis.operators.llm_map import meets_all
from mnesis.operators.map_runner import checked_options
from mnesis.operators.schema import OutputSchema
from mnesis.session.session import MnesisSession
from mnesis.tools.toolset import Toolset
from mnesis.validation import check_integer, check_seconds, check_string

logger = logging.getLogger(__name__)

MANY = 1_000_000
"""More turns and retries than anybody waits for."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What came of an agent's work, with everything it took. `fatal` is an error that every other agent would meet too."""

    end: End
    session_id: str
    usage: TokenUsage
    cost: float
    turns: int
    attempts: int
    texts: tuple[str, ...]
    fatal: LLMError | None = None

    def fields(self) -> dict[str, Any]:
        """The fields that all results of agents share."""
        return {
            "session_id": self.session_id,
            "output": self.end.output,
            "success": self.end.kind is None,
            "error": self.end.error,
            "error_kind": self.end.kind,
            "cost": self.cost,
            "turns": self.turns,
            "attempts": self.attempts,
            "intermediate_outputs": list(self.texts[:-1]),
        }


async def work(session: MnesisSession, agent: Agent, prompt: str) -> Worked:
    """Give a task to a session and let it work until it is over. What the session did of it already is not done again.

    A model that fails, takes too long or does not come to an end is an outcome, not an exception; what a `stop` function
    raises is one.
    """
    progress, repeated, fatal = Progress(agent), 0, None

    def count(*_: object) -> None:
        nonlocal repeated
        repeated += 1

    unsubscribe = session.subscribe(MnesisEvent.LLM_RETRY, count)
    try:
        end = await _worked(session, progress, prompt)
    except LLMError as error:
        end, fatal = _failed(progress, "llm_error", _described(error)), error
    finally:
        unsubscribe()
    attempts = 1 + progress.refused + repeated
    texts = tuple(progress.texts)
    return Worked(end, session.id, session.token_usage, session.cost, len(texts), attempts, texts, fatal)


async def has_failed(session: MnesisSession, agent: Agent, prompt: str) -> bool:
    """Whether the turns in a session's log are those of an agent that failed, and would not get further."""
    step = await _taken_up(session, Progress(agent), prompt)
    return isinstance(step, End) and step.kind is not None


async def _worked(session: MnesisSession, progress: Progress, prompt: str) -> End:
    """The end of the work, whatever ended it. Raises an `LLMError` that every other agent would meet, too."""
    agent = progress.agent
    try:
        async with asyncio.timeout(agent.timeout_seconds) as limit:
            step = await _taken_up(session, progress, prompt)
            while isinstance(step, Say):
                tools = agent.tools or None
                result = await session.send(step.message, tools=tools, llm_options=agent.llm_options)
                step = progress.after(result, await _stop_met(agent, result))
            return step
    except TimeoutError:
        if not limit.expired():
            raise
        return _failed(progress, "timeout", f"not finished after {agent.timeout_seconds:g} seconds")
    except LLMTimeoutError as error:
        return _failed(progress, "timeout", str(error))
    except LLMError as error:
        if meets_all(error):
            raise
        return _failed(progress, "llm_error", _described(error))
    except ContextIrreducibleError as error:
        return _failed(progress, "context", str(error))


async def _taken_up(session: MnesisSession, progress: Progress, prompt: str) -> Say | End:
    """Where the session's log stands: the same decisions once more, over the turns it holds."""
    step: Say | End = Say(prompt)
    messages = await session.messages()
    ends = {snapshot.seq for snapshot in session.history()}
    said = ""
    for message in messages:
        if isinstance(step, End):
            return step
        if message.role == "assistant":
            said = message.text_content()
        if message.seq in ends:
            used_up = message.role == "tool"
            reason = FinishReason.MAX_TOOL_ROUNDS if used_up else message.finish_reason or FinishReason.STOP
            result = TurnResult(
                message_id=message.id, text=said, finish_reason=reason, tokens=message.tokens or TokenUsage()
            )
            step = progress.after(result, await _stop_met(progress.agent, result))
    unanswered = bool(messages) and messages[-1].seq not in ends
    return Say(INTERRUPTED) if unanswered and isinstance(step, Say) else step


async def _stop_met(agent: Agent, result: TurnResult) -> bool | None:
    if agent.stop is None:
        return None
    if isinstance(agent.stop, tuple):
        return any(text in result.text for text in agent.stop)
    met = agent.stop(result)
    return bool(await met) if inspect.isawaitable(met) else bool(met)


def _failed(progress: Progress, kind: str, error: str) -> End:
    return End(progress.texts[-1] if progress.texts else "", kind=kind, error=error)


def _described(error: LLMError) -> str:
    return f"{type(error).__name__}: {error}"


def make_agent(
    *,
    tools: Iterable[Any] | None,
    read_only: bool,
    max_turns: int,
    continuation_message: str,
    stop: Stop | None,
    output_schema: Any,
    max_retries: int,
    timeout_seconds: float | None,
    system_prompt: str | None,
    llm_options: Mapping[str, Any] | None,
) -> Agent:
    """The agent these settings describe. Raises `ConfigurationError` and `ToolDefinitionError` before anything runs."""
    check_integer("max_turns", max_turns, least=1, most=MANY)
    check_integer("max_retries", max_retries, least=0, most=MANY)
    check_string("continuation_message", continuation_message)
    if timeout_seconds is not None:
        check_seconds("timeout_seconds", timeout_seconds)
    return Agent(
        tools=offered(tools, read_only),
        max_turns=max_turns,
        continuation_message=continuation_message,
        stop=_stop(stop),
        schema=OutputSchema(output_schema) if output_schema is not None else None,
        max_retries=max_retries,
        timeout_seconds=timeout_seconds,
        system_prompt=AGENT_PROMPT if system_prompt is None else system_prompt,
        llm_options=checked_options(llm_options),
    )


def offered(tools: Iterable[Any] | None, read_only: bool) -> tuple[Any, ...]:
    """The tools an agent may have: with `read_only` those that are declared so (`ToolSpec.read_only`).

    Which are withheld is logged. Raises `ConfigurationError` if that would be all of them, and `ToolDefinitionError` for
    provider dicts: nobody could run those for an agent.
    """
    given = tuple(tools or ())
    names = tool_names(given)
    for name, tool in zip(names, given, strict=True):
        if isinstance(tool, Mapping) or not callable(getattr(tool, "handler", tool)):
            raise ToolDefinitionError(
                f"tool {name!r} has nothing that runs it; give a function, or a ToolSpec with a handler"
            )
    if not read_only:
        return given
    allowed = tuple(tool for tool in given if getattr(tool, "read_only", False) is True)
    withheld = ", ".join(name for name, tool in zip(names, given, strict=True) if tool not in allowed)
    if given and not allowed:
        raise ConfigurationError(
            f"read_only=True withholds every tool: {withheld}. Say read_only=False to let agents change things, or declare"
            " a tool that changes nothing with ToolSpec(…, read_only=True)"
        )
    if withheld:
        logger.warning("read_only=True: agents are not offered %s", withheld)
    return allowed


def tool_names(tools: Iterable[Any]) -> list[str]:
    """The names by which a model knows tools. Raises `ToolDefinitionError` for what is none."""
    return [definition["function"]["name"] for definition in Toolset(tools).definitions]


def _stop(stop: Stop | None) -> StopTest:
    if stop is None or (callable(stop) and not isinstance(stop, str)):
        return stop
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConfigurationError(f"stop is a function of the turn, a text, or texts that end the work, not {stop!r}")
    return texts
