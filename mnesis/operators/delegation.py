"""Delegation of tasks to sub-agents, and the guard against delegating a whole task.

The guard comes from the LCM paper (section 3.2): a sub-agent that delegates says which part it delegates and which
part it keeps. Otherwise agents could pass a task on forever without working on it. Independent tasks that run
concurrently are subject to the depth limit only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from pydantic import BaseModel

from mnesis.config import parse_config
from mnesis.errors import ConfigurationError, DelegationDeniedError
from mnesis.models.agents import DelegateResult
from mnesis.models.tool import ToolSpec
from mnesis.operators.agent_run import make_agent, run_agent
from mnesis.operators.agent_steps import Agent
from mnesis.operators.child_sessions import (
    MAX_DEPTH,
    ChildSessionRequest,
    ChildSessions,
    current_agent,
    open_child_sessions,
)
from mnesis.operators.delegation_run import DelegatedTask, refuse_grant, run_stored_tasks
from mnesis.operators.options import DelegateOptions, resolve_options
from mnesis.recall.grants import Grant
from mnesis.session.session import MnesisSession
from mnesis.validation import check_integer

CONCURRENCY = 4

NOTHING_KEPT_PHRASES = frozenset(
    {"none", "nothing", "nothing at all", "n/a", "na", "no", "null", "nil", "-", "0", "no work"}
)
WHOLE_TASK_PHRASES = frozenset(
    {"everything", "all", "all of it", "it all", "the whole task", "the entire task", "all work"}
)


@dataclass(frozen=True, slots=True)
class Task:
    """One of several independent tasks for `delegate_all`.

    None means the value passed for all tasks.
    """

    prompt: str
    tools: Iterable[Any] | None = None
    model: str | None = None
    output_schema: type[BaseModel] | dict[str, Any] | None = None
    system_prompt: str | None = None
    agent: str | None = None


async def delegate(
    prompt: str,
    *,
    session: MnesisSession | None = None,
    delegated_scope: str | None = None,
    kept_work: str | None = None,
    **options: Unpack[DelegateOptions],
) -> DelegateResult:
    """Run a task in a sub-agent, in a child session of `session`, and return its result.

    The database, model, client and settings default to those of the delegating session. In a tool of a sub-agent,
    `session` defaults to that sub-agent's. If the delegating session is itself a sub-agent, it must say which part it
    delegates (`delegated_scope`) and which part it keeps (`kept_work`). Otherwise both are optional. The sub-agent is
    told both. See `DelegateOptions` for the options.

    A sub-agent that fails is a result with `success=False`. Raises, before any model is called,
    `DelegationDeniedError` if the guard or the depth limit forbids the delegation, `ConfigurationError` and
    `ToolDefinitionError` for options that cannot work, and `TypeError` for unknown ones.

        result = await delegate("Find every caller of parse().", session=session, tools=[read_file])
    """
    options = resolve_options("delegate", DelegateOptions, options)
    _check_prompt(prompt)
    agent = make_agent(options)
    async with open_child_sessions(_child_session_request(session, options)) as child_sessions:
        if child_sessions.depth > 1:
            caller = current_agent()
            check_scope(delegated_scope, kept_work, prompt, caller.task if caller is not None else ())
        full_prompt = prompt_with_scope(prompt, delegated_scope, kept_work)
        task = (prompt, delegated_scope or prompt)
        return await _run_sub_agent(child_sessions, agent, full_prompt, options.get("grant"), task)


async def delegate_all(
    tasks: Iterable[Task | str],
    *,
    session: MnesisSession | None = None,
    concurrency: int = CONCURRENCY,
    run_id: str | None = None,
    **options: Unpack[DelegateOptions],
) -> list[DelegateResult]:
    """Run independent tasks in sub-agents, and return their results in the order of the tasks.

    At most `concurrency` tasks run at the same time. A task that fails does not stop the others. The guard does not
    apply, but the depth limit does. All tasks are checked before the first one starts. Cancellation stops all
    sub-agents and closes their sessions. See `DelegateOptions` for the options.

    With `run_id` the tasks are a stored run in the database of the sub-agents: the same call again continues it, and workers
    on other machines share it (`mnesis worker`). Tools are then found by name.

    Raises the errors of `delegate`, and `RunMismatchError` if `run_id` belongs to other tasks.
    """
    options = resolve_options("delegate_all", DelegateOptions, options)
    check_integer("concurrency", concurrency, minimum=1)
    options["tools"] = tuple(options.get("tools") or ())
    plans = [(task, make_agent(_task_options(task, options))) for task in _parse_tasks(tasks)]
    limiter = asyncio.Semaphore(concurrency)

    if run_id is not None:
        refuse_grant(options.get("grant"))
        base, delegated = make_agent(options), [DelegatedTask(task.prompt, agent, task.model) for task, agent in plans]
        async with open_child_sessions(_child_session_request(session, options)) as child_sessions:
            return await run_stored_tasks(child_sessions, base, delegated, run_id, concurrency)

    async def run_task(child_sessions: ChildSessions, task: Task, agent: Agent) -> DelegateResult:
        async with limiter:
            child_sessions = replace(child_sessions, model=task.model or child_sessions.model)
            return await _run_sub_agent(child_sessions, agent, task.prompt, options.get("grant"), (task.prompt,))

    async with open_child_sessions(_child_session_request(session, options)) as child_sessions:
        return await _run_concurrently([run_task(child_sessions, task, agent) for task, agent in plans])


def check_scope(
    delegated_scope: str | None, kept_work: str | None, prompt: str = "", own_task: Iterable[str] = ()
) -> None:
    """Raise `DelegationDeniedError` unless a part is delegated and another part is kept.

    `own_task` contains the wordings of the sub-agent's own task. Delegating the own task is denied, regardless of
    `kept_work`.
    """
    scope, kept = _normalize(delegated_scope), _normalize(kept_work)
    problem = None
    if not scope:
        problem = "delegated_scope is missing: say which part of your task you hand over"
    elif not kept or kept in NOTHING_KEPT_PHRASES:
        problem = "kept_work is missing: say which part of your task you continue to do yourself"
    elif kept == scope:
        problem = "delegated_scope and kept_work are the same: what is handed over is not kept"
    elif scope in WHOLE_TASK_PHRASES or {scope, _normalize(prompt)} & set(map(_normalize, own_task)):
        problem = "this hands over your whole task: hand over a part of it only"
    if problem is not None:
        raise DelegationDeniedError(
            f"{problem}. A sub-agent may hand over a part of its work (delegated_scope) only while it keeps another part"
            " (kept_work). If nothing can be split off, do the work yourself"
        )


def prompt_with_scope(prompt: str, delegated_scope: str | None, kept_work: str | None) -> str:
    """Return the prompt of a sub-agent, with its own part and the part that the caller keeps."""
    lines = [prompt]
    if _normalize(delegated_scope):
        lines.append(f"Your part of the work: {delegated_scope}")
    if _normalize(kept_work):
        lines.append(f"Not your part, because the agent that asks you does it: {kept_work}")
    return "\n\n".join(lines)


def parent_recall_tools(child_sessions: ChildSessions, grant: Grant | None) -> list[ToolSpec]:
    """Return recall tools for the delegating session.

    Their names differ from those of the sub-agent's own tools.
    Returns an empty list without a grant. Raises `ConfigurationError` if there is a grant but no delegating session.
    """
    if grant is None:
        return []
    if child_sessions.parent is None:
        raise ConfigurationError("grant= opens the delegating session's history; pass that session with session=")
    return [
        replace(
            spec,
            name=f"parent_{spec.name}",
            description=f"In the conversation that handed you this task: {spec.description}",
        )
        for spec in child_sessions.parent.recall_tools(grant)
    ]


async def _run_sub_agent(
    child_sessions: ChildSessions, agent: Agent, prompt: str, grant: Grant | None, task: Sequence[str]
) -> DelegateResult:
    agent = replace(agent, tools=(*agent.tools, *parent_recall_tools(child_sessions, grant)))
    async with child_sessions.open(agent, *task) as session:
        outcome = await run_agent(session, agent, prompt)
    return DelegateResult(text=outcome.end.text, usage=outcome.usage, **outcome.result_fields())


async def _run_concurrently(runs: Sequence[Coroutine[Any, Any, DelegateResult]]) -> list[DelegateResult]:
    """Return the results in order.

    If a run raises or the caller is cancelled, cancel the others and wait for them.
    """
    running = [asyncio.create_task(run) for run in runs]
    try:
        return await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _child_session_request(session: MnesisSession | None, options: DelegateOptions) -> ChildSessionRequest:
    return ChildSessionRequest(
        parent=session,
        engine=options.get("engine"),
        db_path=options.get("db_path"),
        config=parse_config(options.get("config")),
        model=options.get("model"),
        llm=options.get("llm"),
        max_depth=options.get("max_depth", MAX_DEPTH),
    )


def _task_options(task: Task, options: DelegateOptions) -> DelegateOptions:
    """Return the options, replaced by those of the task."""
    merged: DelegateOptions = {**options}
    if task.tools is not None:
        merged["tools"] = task.tools
    if task.output_schema is not None:
        merged["output_schema"] = task.output_schema
    if task.system_prompt is not None:
        merged["system_prompt"] = task.system_prompt
    if task.agent:
        merged["agent"] = task.agent
    return merged


def _normalize(text: str | None) -> str:
    if text is not None and not isinstance(text, str):
        raise ConfigurationError(f"delegated_scope and kept_work must be strings, not {text!r}")
    return " ".join((text or "").casefold().split()).strip(" .!-–—:;\"'`")


def _parse_tasks(tasks: Iterable[Task | str]) -> list[Task]:
    if isinstance(tasks, str | Task) or not isinstance(tasks, Iterable):
        raise ConfigurationError(f"tasks must be a list of Task objects or strings, not {tasks!r:.100}")
    parsed = [task if isinstance(task, Task) else Task(task) for task in tasks]
    for task in parsed:
        _check_prompt(task.prompt)
    return parsed


def _check_prompt(prompt: object) -> None:
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigurationError(f"the task of a sub-agent must be a non-empty string, not {prompt!r}")
