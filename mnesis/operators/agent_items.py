"""Items that agents process: each in its own session, which a later worker continues."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.operators.agent_run import AgentOutcome, check_stop, has_final_failure, run_agent, tool_names
from mnesis.operators.agent_steps import Agent, StopTest
from mnesis.operators.child_sessions import ChildSessions
from mnesis.operators.inputs import to_json
from mnesis.operators.item_queue import Outcome
from mnesis.operators.model_calls import check_llm_options, without_connection
from mnesis.operators.options import AgentWorkOptions
from mnesis.operators.run_plan import decode_schema, encode_schema, merge_options, select_tools, storable_options
from mnesis.operators.scheduler import Item, Slots
from mnesis.operators.template import TemplateError

MAX_CONCURRENCY = 32


@dataclass(frozen=True, slots=True)
class AgentTask:
    """The agent and the prompt for one item. `model` is None for the model of the run."""

    agent: Agent
    prompt: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class AgentItemRunner:
    """Processes the items of one run. `task` creates the task of an item from its input, and may raise
    `TemplateError`.
    """

    child_sessions: ChildSessions
    task: Callable[[Any], AgentTask]
    run_id: str
    retry_failed: bool = False

    async def run_item(self, item: Item, slots: Slots) -> Outcome:
        """Process one item. Raises errors that every other item would also raise."""
        try:
            task = self.task(item.input)
        except TemplateError as error:
            return _template_failure(str(error))
        if not task.prompt.strip():
            return _template_failure("the template renders an empty prompt for this item")
        async with slots.acquire():
            result = await self._run_latest_session(item.index, task)
        if result.fatal_error is not None:
            raise result.fatal_error
        fields = result.result_fields()
        record = {name: fields[name] for name in ("session_id", "error", "error_kind", "turns", "intermediate_outputs")}
        record |= {"output_text": result.end.text, "output": result.end.json_output}
        return Outcome(fields["success"], record, result.attempts, result.usage, result.cost, result.end.output)

    async def _run_latest_session(self, index: int, task: AgentTask) -> AgentOutcome:
        """Continue the item's latest session.

        With `retry_failed`, replace a session that cannot continue by a new one.
        """
        agent, number = task.agent, await self._latest_session_number(index)
        sessions = replace(self.child_sessions, model=task.model or self.child_sessions.model)
        while True:
            session_id = self._session_id(index, number)
            async with sessions.open(agent, task.prompt, session_id=session_id) as session:
                if not (self.retry_failed and await has_final_failure(session, agent, task.prompt)):
                    return await run_agent(session, agent, task.prompt)
            number += 1

    async def _latest_session_number(self, index: int) -> int:
        """Return the number of the item's latest session, or 1 if there is none."""
        number = 1
        while await self._session_exists(self._session_id(index, number + 1)):
            number += 1
        return number

    async def _session_exists(self, session_id: str) -> bool:
        try:
            await self.child_sessions.engine.store.session(session_id)
        except SessionNotFoundError:
            return False
        return True

    def _session_id(self, index: int, number: int) -> str:
        return f"{self.run_id}.item-{index}.{number}"


def agent_fingerprint(agent: Agent, model: str | None, template: str) -> str:
    """Hash everything except the inputs that determines the results.

    Limits (turns, retries, time) and connection options are not part of it: a run may continue with other values.
    """
    options = {name: _json_or_type_name(value) for name, value in without_connection(agent.llm_options).items()}
    facts = {
        "template": template,
        "model": model,
        "schema": agent.schema.text if agent.schema is not None else None,
        "system_prompt": agent.system_prompt,
        "continuation_message": agent.continuation_message,
        "stop": _stop_facts(agent.stop),
        "tools": tool_names(agent.tools),
        "llm_options": sorted(options.items()),
    }
    return hashlib.sha256(to_json(facts).encode()).hexdigest()


def agent_plan_facts(agent: Agent, child_sessions: ChildSessions) -> dict[str, Any]:
    """Return the plan with which a worker runs the same agent, without code and secrets."""
    options, omitted_options = storable_options(agent.llm_options)
    return {
        "model": child_sessions.model,
        "parent_id": child_sessions.parent_id,
        "max_depth": child_sessions.max_depth,
        "name": agent.name,
        "tools": tool_names(agent.tools),
        "max_turns": agent.max_turns,
        "continuation_message": agent.continuation_message,
        "stop": _stop_facts(agent.stop),
        "schema": encode_schema(agent.schema),
        "max_retries": agent.max_retries,
        "timeout_seconds": agent.timeout_seconds,
        "system_prompt": agent.system_prompt,
        "llm_options": options,
        "omitted_options": omitted_options,
    }


def planned_agent(run_id: str, plan: Mapping[str, Any], options: AgentWorkOptions) -> Agent:
    """Return the agent of a plan, with the worker's own tools.

    Raises `ConfigurationError` if the worker does not have a tool, a function or an option that the agent needs.
    """
    return Agent(
        name=plan["name"],
        tools=tuple(select_tools(run_id, plan["tools"], tools_by_name(options.get("tools")))),
        max_turns=plan["max_turns"],
        continuation_message=plan["continuation_message"],
        stop=_planned_stop(run_id, plan["stop"], options),
        schema=decode_schema(run_id, plan["schema"], options.get("output_schema")),
        max_retries=plan["max_retries"],
        timeout_seconds=plan["timeout_seconds"],
        system_prompt=plan["system_prompt"],
        llm_options=merge_options(run_id, plan, check_llm_options(options.get("llm_options"))),
    )


def tools_by_name(tools: Any) -> dict[str, Any]:
    """Return tools by their names. Raises `ConfigurationError` if two of them share a name."""
    named: dict[str, Any] = {}
    for tool in tools or ():
        (name,) = tool_names((tool,))
        if named.setdefault(name, tool) is not tool:
            raise ConfigurationError(f"two tools are named {name!r}; a stored run finds tools by name")
    return named


def _stop_facts(stop: StopTest) -> Any:
    """Return the texts of a stop condition, or the name of its function."""
    if not callable(stop):
        return stop
    return f"{getattr(stop, '__module__', '')}.{getattr(stop, '__qualname__', type(stop).__qualname__)}"


def _planned_stop(run_id: str, facts: Any, options: AgentWorkOptions) -> StopTest:
    own = options.get("stop")
    if own is None and isinstance(facts, str):
        raise ConfigurationError(
            f"agents of run {run_id!r} are finished when the function {facts} says so; pass it with stop= (in a command, --stop)"
        )
    return check_stop(own) if own is not None else None if facts is None else tuple(facts)


def _template_failure(error: str) -> Outcome:
    return Outcome(False, {"error": error, "error_kind": "template"}, attempts=0)


def _json_or_type_name(value: Any) -> Any:
    try:
        return to_json(value)
    except (TypeError, ValueError):
        return type(value).__qualname__
