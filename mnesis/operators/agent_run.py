"""The work of one agent: turns of one session until its task is finished or has failed."""

from __future__ import annotations

import asyncio
import inspect
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
from mnesis.operators.agent_steps import (
    AGENT_NAME,
    AGENT_PROMPT,
    INTERRUPTED,
    MAX_RETRIES,
    MAX_TURNS,
    Agent,
    AgentEnd,
    AgentProgress,
    NextMessage,
    StopCondition,
    StopTest,
)
from mnesis.operators.model_calls import check_llm_options, fails_every_item
from mnesis.operators.options import AgentOptions
from mnesis.operators.schema import OutputSchema
from mnesis.redaction import get_logger
from mnesis.session.session import MnesisSession
from mnesis.tools.toolset import Toolset
from mnesis.validation import check_integer, check_seconds, check_string

logger = get_logger(__name__)

MAX_UNBOUNDED = 1_000_000
"""The upper limit of turns and retries, far above practical values."""


@dataclass(frozen=True, slots=True)
class AgentOutcome:
    """The outcome of an agent's work and its cost.

    `fatal_error` is an error that every other agent would also raise. `attempts` is 1, plus 1 for each rejected answer
    and each repeated model call. `texts` are the texts of its turns.
    """

    end: AgentEnd
    session_id: str
    usage: TokenUsage
    cost: float
    turns: int
    attempts: int
    texts: tuple[str, ...]
    fatal_error: LLMError | None = None

    def result_fields(self) -> dict[str, Any]:
        """Return the fields that all results of agents share."""
        return {
            "session_id": self.session_id,
            "output": self.end.output,
            "success": self.end.error_kind is None,
            "error": self.end.error,
            "error_kind": self.end.error_kind,
            "cost": self.cost,
            "turns": self.turns,
            "attempts": self.attempts,
            "intermediate_outputs": list(self.texts[:-1]),
        }


async def run_agent(session: MnesisSession, agent: Agent, prompt: str) -> AgentOutcome:
    """Run an agent on a task until it is finished or has failed.

    Turns that are in the session's log are not repeated. A model that fails, takes too long or does not finish is an
    outcome, not an exception. Raises the exceptions of a `stop` function.
    """
    progress, repeated_calls, fatal_error = AgentProgress(agent), 0, None

    def count_retry(*_: object) -> None:
        nonlocal repeated_calls
        repeated_calls += 1

    unsubscribe = session.subscribe(MnesisEvent.LLM_RETRY, count_retry)
    try:
        end = await _run_to_end(session, progress, prompt)
    except LLMError as error:
        end, fatal_error = _failure(progress, "llm_error", _error_text(error)), error
    finally:
        unsubscribe()
    attempts = 1 + progress.rejected_outputs + repeated_calls
    texts = tuple(progress.texts)
    usage, cost = session.token_usage, session.cost
    return AgentOutcome(end, session.id, usage, cost, len(texts), attempts, texts, fatal_error)


async def has_final_failure(session: MnesisSession, agent: Agent, prompt: str) -> bool:
    """Return whether the session's log ends in a failure that further turns cannot change."""
    step = await _replay_log(session, AgentProgress(agent), prompt)
    return isinstance(step, AgentEnd) and step.error_kind is not None


async def _run_to_end(session: MnesisSession, progress: AgentProgress, prompt: str) -> AgentEnd:
    """Run turns until the work ends. Raises an `LLMError` that every other agent would also raise."""
    agent = progress.agent
    await session.prepare()
    try:
        async with asyncio.timeout(agent.timeout_seconds) as time_limit:
            step = await _replay_log(session, progress, prompt)
            while isinstance(step, NextMessage):
                tools = agent.tools or None
                result = await session.send(step.text, tools=tools, llm_options=agent.llm_options)
                step = progress.next_step(result, await _is_stop_met(agent, result))
            return step
    except TimeoutError:
        if not time_limit.expired():
            raise
        return _failure(progress, "timeout", f"not finished after {agent.timeout_seconds:g} seconds")
    except LLMTimeoutError as error:
        return _failure(progress, "timeout", str(error))
    except LLMError as error:
        if fails_every_item(error):
            raise
        return _failure(progress, "llm_error", _error_text(error))
    except ContextIrreducibleError as error:
        return _failure(progress, "context", str(error))


async def _replay_log(session: MnesisSession, progress: AgentProgress, prompt: str) -> NextMessage | AgentEnd:
    """Evaluate the turns in the session's log again, and return the next step."""
    step: NextMessage | AgentEnd = NextMessage(prompt)
    messages = await session.messages()
    turn_ends = {snapshot.seq for snapshot in session.history()}
    reply_text = ""
    for message in messages:
        if isinstance(step, AgentEnd):
            return step
        if message.role == "assistant":
            reply_text = message.text_content()
        if message.seq in turn_ends:
            rounds_used_up = message.role == "tool"
            reason = FinishReason.MAX_TOOL_ROUNDS if rounds_used_up else message.finish_reason or FinishReason.STOP
            result = TurnResult(
                message_id=message.id, text=reply_text, finish_reason=reason, tokens=message.tokens or TokenUsage()
            )
            step = progress.next_step(result, await _is_stop_met(progress.agent, result))
    is_interrupted = bool(messages) and messages[-1].seq not in turn_ends
    return NextMessage(INTERRUPTED) if is_interrupted and isinstance(step, NextMessage) else step


async def _is_stop_met(agent: Agent, result: TurnResult) -> bool | None:
    if agent.stop is None:
        return None
    if isinstance(agent.stop, tuple):
        return any(text in result.text for text in agent.stop)
    answer = agent.stop(result)
    return bool(await answer) if inspect.isawaitable(answer) else bool(answer)


def _failure(progress: AgentProgress, error_kind: str, error: str) -> AgentEnd:
    return AgentEnd(progress.texts[-1] if progress.texts else "", error_kind=error_kind, error=error)


def _error_text(error: LLMError) -> str:
    return f"{type(error).__name__}: {error}"


def make_agent(options: AgentOptions) -> Agent:
    """Build the agent that these options describe.

    Raises `ConfigurationError` and `ToolDefinitionError` for options that cannot work, before anything runs.
    """
    max_turns = options.get("max_turns", MAX_TURNS)
    max_retries = options.get("max_retries")
    max_retries = MAX_RETRIES if max_retries is None else max_retries
    continuation_message = options.get("continuation_message", "")
    timeout_seconds = options.get("timeout_seconds")
    output_schema = options.get("output_schema")
    system_prompt = options.get("system_prompt")
    check_integer("max_turns", max_turns, minimum=1, maximum=MAX_UNBOUNDED)
    check_integer("max_retries", max_retries, minimum=0, maximum=MAX_UNBOUNDED)
    check_string("continuation_message", continuation_message)
    if timeout_seconds is not None:
        check_seconds("timeout_seconds", timeout_seconds)
    return Agent(
        name=options.get("agent", AGENT_NAME),
        tools=allowed_tools(options.get("tools"), options.get("read_only", True)),
        max_turns=max_turns,
        continuation_message=continuation_message,
        stop=check_stop(options.get("stop")),
        schema=OutputSchema(output_schema) if output_schema is not None else None,
        max_retries=max_retries,
        timeout_seconds=timeout_seconds,
        system_prompt=AGENT_PROMPT if system_prompt is None else system_prompt,
        llm_options=check_llm_options(options.get("llm_options")),
    )


def allowed_tools(tools: Iterable[Any] | None, read_only: bool) -> tuple[Any, ...]:
    """Return the tools that an agent may use.

    With `read_only` these are the tools that are declared read-only (`ToolSpec.read_only`). Logs which tools are
    withheld. Raises `ConfigurationError` if no tool is read-only, and `ToolDefinitionError` for tools without a
    handler, such as provider dicts.
    """
    all_tools = tuple(tools or ())
    names = tool_names(all_tools)
    for name, tool in zip(names, all_tools, strict=True):
        if isinstance(tool, Mapping) or not callable(getattr(tool, "handler", tool)):
            raise ToolDefinitionError(
                f"tool {name!r} has no function that runs it; pass a function, or a ToolSpec with a handler"
            )
    if not read_only:
        return all_tools
    allowed = tuple(tool for tool in all_tools if getattr(tool, "read_only", False) is True)
    withheld = ", ".join(name for name, tool in zip(names, all_tools, strict=True) if tool not in allowed)
    if all_tools and not allowed:
        raise ConfigurationError(
            f"read_only=True withholds every tool: {withheld}. Pass read_only=False to let agents make changes, or declare"
            " a tool that makes no changes with ToolSpec(…, read_only=True)"
        )
    if withheld:
        logger.warning("read_only=True withholds tools from agents: %s", withheld)
    return allowed


def tool_names(tools: Iterable[Any]) -> list[str]:
    """Return the names of tools as a model sees them.

    Raises `ToolDefinitionError` for an object that is not a tool.
    """
    return [definition["function"]["name"] for definition in Toolset(tools).definitions]


def check_stop(stop: StopCondition | None) -> StopTest:
    """Return a stop condition with its texts as a tuple. Raises `ConfigurationError` for any other value."""
    if stop is None or (callable(stop) and not isinstance(stop, str)):
        return stop
    texts = (stop,) if isinstance(stop, str) else tuple(stop)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConfigurationError(
            f"stop must be a non-empty string, a list of such strings, or a function of the TurnResult, not {stop!r}"
        )
    return texts
