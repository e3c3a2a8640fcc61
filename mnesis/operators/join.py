"""Joining a stored run of any kind by its name alone."""

from __future__ import annotations

from typing import Unpack

from mnesis.config import ConfigOrDict
from mnesis.engine.engine import Engine
from mnesis.models.run import MapRun
from mnesis.operators import agentic_map, delegation_run, llm_map
from mnesis.operators.options import AgentWorkOptions, WorkOptions, resolve_options


async def join_run(
    engine: Engine, run_id: str, *, llm: object | None = None, **options: Unpack[AgentWorkOptions]
) -> MapRun:
    """Process the items of a stored run, together with other workers on any machine, until every item is finished.

    The run may be a map of model calls, a map of agents, or a delegation. `tools` and `stop` are for agents only. Raises what
    `LLMMap.work()` raises.
    """
    options = resolve_options("join_run", AgentWorkOptions, options)
    await engine.open()
    kind = (await engine.store.run(run_id)).kind
    if kind == delegation_run.KIND:
        return await delegation_run.work_on_tasks(engine, run_id, llm=llm, **options)
    config: ConfigOrDict | None = options.get("config")
    if kind == agentic_map.KIND:
        return await agentic_map.AgenticMap(config, engine=engine, llm=llm).work(run_id, **options)
    own_options: WorkOptions = {}
    for name in WorkOptions.__annotations__:
        if name in options:
            own_options[name] = options[name]  # type: ignore[literal-required]  # a name of both
    return await llm_map.LLMMap(config, engine=engine, llm=llm).work(run_id, **own_options)
