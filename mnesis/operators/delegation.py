"""Handing a task to a sub-agent, and the guard that keeps a sub-agent from handing on everything it was given.

The guard is the paper's (LCM, section 3.2): a sub-agent that delegates says which part it hands over and which part it
keeps. Without both, work could be passed on for ever with nobody doing it. Independent tasks side by side need no such
words, only the limit in depth.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnesis.config import MnesisConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, DelegationRefusedError
from mnesis.models.agents import DelegateResult
from mnesis.models.tool import ToolSpec
from mnesis.operators.agent_run import make_agent, work
from mnesis.operators.agent_steps import MAX_TURNS, Agent, Stop
from mnesis.operators.child_sessions import MAX_DEPTH, Origin, Wanted, current_station, opened
from mnesis.recall.grants import Grant
from mnesis.session.session import MnesisSession
from mnesis.validation import check_integer

NOTHING = frozenset({"none", "nothing", "nothing at all", "n/a", "na", "no", "null", "nil", "-", "0", "no work"})
EVERYTHING = frozenset({"everything", "all", "all of it", "it all", "the whole task", "the entire task", "all work"})
"""Ways to say that nothing is kept, or that all is handed over."""


@dataclass(frozen=True, slots=True)
class Task:
    """One of several independent tasks for `delegate_all`. Each None is what the call says for all of them."""

    prompt: str
    tools: Iterable[Any] | None = None
    model: str | None = None
    output_schema: Any = None
    system_prompt: str | None = None
    agent: str | None = None


async def delegate(
    prompt: str,
    *,
    session: MnesisSession | None = None,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    model: str | None = None,
    tools: Iterable[Any] | None = None,
    read_only: bool = True,
    delegated_scope: str | None = None,
    kept_work: str | None = None,
    max_turns: int = MAX_TURNS,
    continuation_message: str = "",
    stop: Stop | None = None,
    output_schema: Any = None,
    agent: str = "general",
    system_prompt: str | None = None,
    max_retries: int = 3,
    timeout_seconds: float | None = None,
    config: MnesisConfig | None = None,
    llm: object | None = None,
    llm_options: Mapping[str, Any] | None = None,
    grant: Grant | None = None,
    max_depth: int = MAX_DEPTH,
) -> DelegateResult:
    """Let a sub-agent do a task in a session of its own, a child of `session`, and get what it made of it.

    Everything not given (database, model, client, settings) is the delegating session's. Called from a tool of a sub-agent
    without `session`, that sub-agent delegates. A session that is itself a sub-agent must say what it hands over
    (`delegated_scope`) and what it goes on doing itself (`kept_work`); a top-level session may. Both are told to the
    sub-agent. `grant` lets it look things up in the delegating session's history. The other arguments are those of
    `AgenticMap.run`.

    A sub-agent that fails is a result with `success=False`. Raises `DelegationRefusedError` where the guard or the depth
    limit (`max_depth`) forbids it, `ConfigurationError` and `ToolDefinitionError` for settings that cannot work: all
    before a model is called.
    """
    _refuse_empty_prompt(prompt)
    worker = make_agent(
        tools=tools,
        read_only=read_only,
        max_turns=max_turns,
        continuation_message=continuation_message,
        stop=stop,
        output_schema=output_schema,
        max_retries=max_retries,
        timeout_seconds=timeout_seconds,
        system_prompt=system_prompt,
        llm_options=llm_options,
    )
    wanted = Wanted(session, engine, db_path, config, model, llm, max_depth)
    async with opened(wanted) as origin:
        if origin.depth > 1:
            station = current_station()
            check_scope(delegated_scope, kept_work, prompt, station.task if station is not None else ())
        asked = prompt_with_scope(prompt, delegated_scope, kept_work)
        return await _delegated(origin, worker, asked, agent, grant, (prompt, delegated_scope or prompt))


async def delegate_all(
    tasks: Iterable[Task | str],
    *,
    session: MnesisSession | None = None,
    engine: Engine | None = None,
    db_path: str | os.PathLike[str] | None = None,
    model: str | None = None,
    tools: Iterable[Any] | None = None,
    read_only: bool = True,
    concurrency: int = 4,
    max_turns: int = MAX_TURNS,
    continuation_message: str = "",
    stop: Stop | None = None,
    output_schema: Any = None,
    agent: str = "general",
    system_prompt: str | None = None,
    max_retries: int = 3,
    timeout_seconds: float | None = None,
    config: MnesisConfig | None = None,
    llm: object | None = None,
    llm_options: Mapping[str, Any] | None = None,
    grant: Grant | None = None,
    max_depth: int = MAX_DEPTH,
) -> list[DelegateResult]:
    """Let sub-agents do independent tasks side by side, at most `concurrency` at once; results in order of the tasks.

    A task that fails does not end the others. The words of the guard are not asked for, the depth limit holds. All tasks
    are checked before the first one starts; raises as `delegate`. Cancelling ends them all and closes their sessions.
    """
    check_integer("concurrency", concurrency, least=1)
    planned = []
    common = tuple(tools or ())
    for task in _tasks(tasks):
        worker = make_agent(
            tools=common if task.tools is None else task.tools,
            read_only=read_only,
            max_turns=max_turns,
            continuation_message=continuation_message,
            stop=stop,
            output_schema=output_schema if task.output_schema is None else task.output_schema,
            max_retries=max_retries,
            timeout_seconds=timeout_seconds,
            system_prompt=system_prompt if task.system_prompt is None else task.system_prompt,
            llm_options=llm_options,
        )
        planned.append((task, worker))
    wanted = Wanted(session, engine, db_path, config, model, llm, max_depth)
    limiter = asyncio.Semaphore(concurrency)

    async def one(origin: Origin, task: Task, worker: Agent) -> DelegateResult:
        async with limiter:
            of_task = replace(origin, model=task.model or origin.model)
            return await _delegated(of_task, worker, task.prompt, task.agent or agent, grant, (task.prompt,))

    async with opened(wanted) as origin:
        return await _side_by_side([one(origin, task, worker) for task, worker in planned])


def check_scope(
    delegated_scope: str | None, kept_work: str | None, prompt: str = "", own_task: Iterable[str] = ()
) -> None:
    """The guard. Raises `DelegationRefusedError` unless both say something and something is kept. `own_task` is what the
    sub-agent was asked to do itself: handing that on is keeping nothing, whatever else is said."""
    scope, kept = _normal(delegated_scope), _normal(kept_work)
    wrong = ""
    if not scope:
        wrong = "delegated_scope is missing: say which part of your task you hand over"
    elif not kept or kept in NOTHING:
        wrong = "kept_work is missing: say which part of your task you go on doing yourself"
    elif kept == scope:
        wrong = "delegated_scope and kept_work are the same: what is handed over is not kept"
    elif scope in EVERYTHING or {scope, _normal(prompt)} & set(map(_normal, own_task)):
        wrong = "this hands over your whole task: hand over a part of it only"
    if wrong:
        raise DelegationRefusedError(
            f"{wrong}. A sub-agent may hand over a part of its work (delegated_scope) only while it keeps another part"
            " (kept_work). If nothing can be split off, do the work yourself"
        )


def prompt_with_scope(prompt: str, delegated_scope: str | None, kept_work: str | None) -> str:
    """What a sub-agent is asked, with what is its part and what is not."""
    lines = [prompt]
    if _normal(delegated_scope):
        lines.append(f"Your part of the work: {delegated_scope}")
    if _normal(kept_work):
        lines.append(f"Not your part, it is done by whoever asks you: {kept_work}")
    return "\n\n".join(lines)


def parent_recall(origin: Origin, grant: Grant | None) -> list[ToolSpec]:
    """Tools that look things up in the delegating session, under names of their own beside the sub-agent's."""
    if grant is None:
        return []
    if origin.parent is None:
        raise ConfigurationError("grant= opens the delegating session's history; give that session with session=")
    return [
        replace(
            spec,
            name=f"parent_{spec.name}",
            description=f"In the conversation that handed you this task: {spec.description}",
        )
        for spec in origin.parent.recall_tools(grant)
    ]


async def _delegated(
    origin: Origin, worker: Agent, prompt: str, agent: str, grant: Grant | None, task: Sequence[str]
) -> DelegateResult:
    worker = replace(worker, tools=(*worker.tools, *parent_recall(origin, grant)))
    async with origin.session(
        *task, system_prompt=worker.full_system_prompt, agent=agent, max_retries=worker.max_retries
    ) as session:
        worked = await work(session, worker, prompt)
    return DelegateResult(text=worked.end.text, usage=worked.usage, **worked.fields())


async def _side_by_side(works: Sequence[Coroutine[Any, Any, DelegateResult]]) -> list[DelegateResult]:
    """The outcomes in order. If one raises, or whoever waits is cancelled, the others are ended first."""
    running = [asyncio.create_task(each) for each in works]
    try:
        return await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _normal(text: str | None) -> str:
    if text is not None and not isinstance(text, str):
        raise ConfigurationError(f"delegated_scope and kept_work are texts, not {text!r}")
    return " ".join((text or "").casefold().split()).strip(" .!-–—:;\"'`")


def _tasks(tasks: Iterable[Task | str]) -> list[Task]:
    if isinstance(tasks, str | Task) or not isinstance(tasks, Iterable):
        raise ConfigurationError(f"tasks are a list of Task objects or texts, not {tasks!r:.100}")
    found = [each if isinstance(each, Task) else Task(each) for each in tasks]
    for task in found:
        _refuse_empty_prompt(task.prompt)
    return found


def _refuse_empty_prompt(prompt: object) -> None:
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigurationError(f"the task of a sub-agent is a text that says something, not {prompt!r}")
