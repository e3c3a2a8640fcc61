"""Delegation as a stored run: the tasks of `delegate_all(run_id=…)`, which workers on other machines can share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

from mnesis.config import parse_config
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.models.agents import DelegateResult
from mnesis.models.run import MapRun
from mnesis.operators.agent_items import (
    MAX_CONCURRENCY,
    AgentItemRunner,
    AgentTask,
    agent_fingerprint,
    agent_plan_facts,
    planned_agent,
    tools_by_name,
)
from mnesis.operators.agent_run import tool_names
from mnesis.operators.agent_steps import Agent
from mnesis.operators.child_sessions import ChildSessionRequest, ChildSessions, open_child_sessions
from mnesis.operators.item_queue import FinishedItem
from mnesis.operators.map_runner import MapRunner
from mnesis.operators.map_settings import MapSettings
from mnesis.operators.options import AgentWorkOptions, resolve_options
from mnesis.operators.run_plan import decode_plan, decode_schema, encode_plan, encode_schema, select_tools
from mnesis.operators.schema import OutputSchema
from mnesis.operators.worker import STALL_SECONDS, find_run, work_on_run, worker_settings

KIND = "delegation"


@dataclass(frozen=True, slots=True)
class DelegatedTask:
    """One task with the agent that does it. `model` is None for the model of the delegation."""

    prompt: str
    agent: Agent
    model: str | None = None


@dataclass(slots=True)
class _Tasks:
    """Creates the task of an item from its stored form. `tools` and `schemas` are those of this process."""

    run_id: str
    base: Agent
    tools: Mapping[str, Any]
    schemas: dict[str, OutputSchema] = field(default_factory=dict)

    def task(self, item_input: Any) -> AgentTask:
        """Return the task of an item."""
        agent = replace(
            self.base,
            name=item_input["agent"],
            system_prompt=item_input["system_prompt"],
            tools=tuple(select_tools(self.run_id, item_input["tools"], self.tools)),
            schema=self._schema(item_input["schema"]),
        )
        return AgentTask(agent, item_input["prompt"], item_input["model"])

    def _schema(self, facts: Any) -> OutputSchema | None:
        own = self.schemas.get(str(facts))
        return own if own is not None else decode_schema(self.run_id, facts, None)


async def run_stored_tasks(
    child_sessions: ChildSessions, base: Agent, delegated: Sequence[DelegatedTask], run_id: str, concurrency: int
) -> list[DelegateResult]:
    """Run tasks as a stored run and return their results in order. Tasks that an earlier call finished are not
    repeated.

    Raises `RunMismatchError` if the run has other tasks, and `ConfigurationError` if two tools share a name.
    """
    tools = tools_by_name(tool for agent in (base, *(each.agent for each in delegated)) for tool in agent.tools)
    tasks = _Tasks(run_id, base, tools)
    inputs = []
    for each in delegated:
        schema = encode_schema(each.agent.schema)
        if each.agent.schema is not None:
            tasks.schemas[str(schema)] = each.agent.schema
        inputs.append(
            {
                "prompt": each.prompt,
                "agent": each.agent.name,
                "model": each.model,
                "system_prompt": each.agent.system_prompt,
                "tools": tool_names(each.agent.tools),
                "schema": schema,
            }
        )
    settings = MapSettings(
        concurrency=min(concurrency, MAX_CONCURRENCY), run_id=run_id, prefetch_items=0, max_concurrency=MAX_CONCURRENCY
    )
    item_runner = AgentItemRunner(child_sessions, tasks.task, run_id)
    facts = agent_plan_facts(base, child_sessions) | {"tools": list(tools), "base_tools": tool_names(base.tools)}
    runner = MapRunner(
        inputs,
        item_runner.run_item,
        settings,
        kind=KIND,
        fingerprint=agent_fingerprint(base, child_sessions.model, ""),
        model=child_sessions.model or "",
        plan=encode_plan(KIND, facts, settings),
        engine=child_sessions.engine,
    )
    async with aclosing(runner.results()) as results:
        return [_delegate_result(item, delegated[item.index].agent.schema) async for item in results]


async def work_on_tasks(
    engine: Engine | None,
    run_id: str,
    *,
    llm: object | None = None,
    **options: Unpack[AgentWorkOptions],
) -> MapRun:
    """Join a stored delegation as a worker, until every task is finished, and return its run.

    Pass the `tools` of all its tasks. Raises what `LLMMap.work()` raises.
    """
    options = resolve_options("work_on_tasks", AgentWorkOptions, options)
    engine, run, text = await find_run(engine, run_id)
    plan = decode_plan(run_id, KIND, text)
    tools = tools_by_name(options.get("tools"))
    select_tools(run_id, plan["tools"], tools)
    # The tools of the plan are those of all tasks; the base agent's own are part of the fingerprint.
    base = planned_agent(run_id, {**plan, "tools": plan["base_tools"]}, options)
    request = ChildSessionRequest(
        parent=plan["parent_id"],
        engine=engine,
        config=parse_config(options.get("config")),
        model=plan["model"],
        llm=llm,
        max_depth=plan["max_depth"],
    )
    settings = worker_settings(plan, options, max_concurrency=MAX_CONCURRENCY, prefetch_items=0)
    async with open_child_sessions(request) as child_sessions:
        item_runner = AgentItemRunner(child_sessions, _Tasks(run_id, base, tools).task, run_id)
        return await work_on_run(
            engine,
            run,
            item_runner.run_item,
            agent_fingerprint(base, plan["model"], ""),
            settings,
            stall_seconds=options.get("stall_seconds", STALL_SECONDS),
        )


def refuse_grant(grant: object | None) -> None:
    """Raise `ConfigurationError` for a grant, which other processes cannot use."""
    if grant is not None:
        raise ConfigurationError(
            "grant= opens the history of a session of this process, and tasks with a run_id may run in another one; omit one"
            " of them"
        )


def _delegate_result(item: FinishedItem, schema: OutputSchema | None) -> DelegateResult:
    outcome = item.outcome
    fields, output = dict(outcome.record), outcome.value
    json_output, text = fields.pop("output", None), fields.pop("output_text", "")
    if outcome.success and output is None:
        output = schema.restore(json_output) if schema is not None else json_output
    return DelegateResult(
        **fields,
        text=text,
        output=output,
        success=outcome.success,
        attempts=outcome.attempts,
        usage=outcome.usage,
        cost=outcome.cost,
    )
