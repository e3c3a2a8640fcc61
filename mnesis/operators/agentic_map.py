"""`AgenticMap`: the same task for many items, each processed by an agent in its own session."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack, get_args, overload

from pydantic import BaseModel

from mnesis.config import ConfigOrDict, OperatorConfig, parse_config
from mnesis.engine.engine import Engine
from mnesis.events.bus import EventBus
from mnesis.ids import new_id
from mnesis.models.agents import AgentMapBatch, AgentMapResult
from mnesis.models.map import Output
from mnesis.models.run import MapRun
from mnesis.operators.agent_items import (
    MAX_CONCURRENCY,
    AgentItemRunner,
    AgentTask,
    agent_fingerprint,
    agent_plan_facts,
    planned_agent,
)
from mnesis.operators.agent_run import make_agent
from mnesis.operators.agent_steps import Agent
from mnesis.operators.child_sessions import MAX_DEPTH, ChildSessionRequest, open_child_sessions
from mnesis.operators.inputs import Inputs
from mnesis.operators.item_queue import FinishedItem
from mnesis.operators.map_runner import MapRunner
from mnesis.operators.map_settings import MapSettings, operator_config
from mnesis.operators.options import AgenticMapOptions, AgenticMapSettings, AgentWorkOptions, resolve_options
from mnesis.operators.run_plan import decode_plan, decode_template, encode_plan, encode_template
from mnesis.operators.schema import OutputSchema
from mnesis.operators.template import PromptTemplate, as_template
from mnesis.operators.worker import STALL_SECONDS, find_run, work_on_run, worker_settings
from mnesis.validation import check_integer

KIND = "agentic"
MAX_RETRIES = 100
M = TypeVar("M", bound=BaseModel)


class AgenticMap(Generic[Output]):
    """Gives every item to an agent: a full session with tools, which works until it is finished.

    The results are typed by the schema. `AgenticMap[Label](…)` names it once, for all runs that pass no `output_schema`.

    `config` is an `OperatorConfig`, or a `MnesisConfig` whose `operators` apply to the map and whose other parts
    apply to the sessions. `model`, `engine` and `llm` are the defaults of all runs. The map's events go to
    `event_bus`, or else to the engine's bus; the sessions' events always go to the engine's. One object may run
    several maps at the same time.
    """

    def __init__(
        self,
        config: OperatorConfig | ConfigOrDict | None = None,
        event_bus: EventBus | None = None,
        model: str | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> None:
        self._operator_config = operator_config(config, engine)
        self._session_config = None if isinstance(config, OperatorConfig) else parse_config(config)
        self._bus, self._model, self._engine, self._llm = event_bus, model, engine, llm

    @overload
    def run(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        *,
        output_schema: type[M],
        **options: Unpack[AgenticMapSettings],
    ) -> AsyncGenerator[AgentMapResult[M], None]: ...
    @overload
    def run(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        *,
        output_schema: Mapping[str, Any],
        **options: Unpack[AgenticMapSettings],
    ) -> AsyncGenerator[AgentMapResult[Any], None]: ...
    @overload
    def run(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        *,
        output_schema: None = None,
        **options: Unpack[AgenticMapSettings],
    ) -> AsyncGenerator[AgentMapResult[Output], None]: ...
    @overload
    def run(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        **options: Unpack[AgenticMapOptions],
    ) -> AsyncGenerator[AgentMapResult[Any], None]: ...
    def run(
        self, inputs: Inputs, agent_prompt_template: str | PromptTemplate, **options: Unpack[AgenticMapOptions]
    ) -> AsyncGenerator[AgentMapResult[Any], None]:
        """Run an agent for every item and yield each result, in the order of the inputs.

        `inputs` are JSON values, or the path of a JSONL file. `agent_prompt_template` is a Jinja template over
        `item`. See `AgenticMapOptions` for the options: `tools`, `stop`, `output_schema`, `max_turns`, `run_id` and
        others.

        Sessions are children of `parent`, in its database; else they are in the database of the engine or `db_path`.
        The run is stored there too: the same `run_id` again processes only what is missing.

        Raises, before any model is called, `ConfigurationError`, `ToolDefinitionError`, `FileError`, `TypeError`
        (unknown option), `SessionNotFoundError` for an unknown parent, `DelegationDeniedError` beyond `max_depth`, and
        `RunMismatchError` if `run_id` belongs to a different run. A rejected API key or an unknown model ends the run
        with its `LLMError`; the items remain pending.

            async for result in AgenticMap(engine=engine, model=model).run(paths, "Review {{ item }}.", tools=[read_file]):
                print(result.index, result.output)
        """
        options = resolve_options("AgenticMap.run", AgenticMapOptions, options)
        return _stream_results(self._job(inputs, agent_prompt_template, options))

    async def enqueue(
        self, inputs: Inputs, agent_prompt_template: str | PromptTemplate, **options: Unpack[AgenticMapOptions]
    ) -> MapRun:
        """Store a run for workers, without processing any item, and return it. Repeating it is safe.

        Workers join it with `work()` or `mnesis worker`; `run()` with the same arguments and its `run_id` yields the
        results. The arguments are those of `run()`. Raises the errors that `run()` raises before any model is called.
        """
        options = resolve_options("AgenticMap.enqueue", AgenticMapOptions, options)
        async with _open_runner(self._job(inputs, agent_prompt_template, options)) as runner:
            return await runner.enqueue()

    async def work(self, run_id: str, **options: Unpack[AgentWorkOptions]) -> MapRun:
        """Join a stored run: process its items, together with other workers on any machine, until every item is finished.

        Prompt, schema, model and options come from the database. Code and secrets are not stored: pass the `tools` of
        the agents, which are found by name. If a worker dies, another one continues the session of its item without
        repeating turns. See `AgentWorkOptions` for the options; `progress` shows the whole run.

        Returns the run with its counts and sums. Raises the errors of `LLMMap.work()`.
        """
        options = resolve_options("AgenticMap.work", AgentWorkOptions, options)
        engine, run, text = await find_run(self._engine, run_id)
        plan = decode_plan(run_id, KIND, text)
        agent, template = planned_agent(run_id, plan, options), decode_template(plan["template"])
        request = ChildSessionRequest(
            parent=plan["parent_id"],
            engine=engine,
            config=parse_config(options.get("config")) or self._session_config,
            model=plan["model"],
            llm=self._llm,
            max_depth=plan["max_depth"],
        )
        settings = worker_settings(plan, options, max_concurrency=MAX_CONCURRENCY, prefetch_items=0)
        async with open_child_sessions(request) as child_sessions:
            item_runner = AgentItemRunner(child_sessions, _Tasks(agent, template).task, run_id)
            return await work_on_run(
                engine,
                run,
                item_runner.run_item,
                agent_fingerprint(agent, plan["model"], template.source),
                settings,
                stall_seconds=options.get("stall_seconds", STALL_SECONDS),
                bus=self._bus,
            )

    def _job(
        self, inputs: Inputs, agent_prompt_template: str | PromptTemplate, options: AgenticMapOptions
    ) -> _AgentMapJob:
        """Check all arguments of a run."""
        max_retries = options.get("max_retries")
        options["max_retries"] = self._operator_config.max_retries if max_retries is None else max_retries
        if options.get("output_schema") is None:
            # Set by `typing` on an object that is created as AgenticMap[Class](…).
            arguments: tuple[Any, ...] = get_args(getattr(self, "__orig_class__", None))
            options["output_schema"] = arguments[0] if arguments else None
        check_integer("max_retries", options["max_retries"], minimum=0, maximum=MAX_RETRIES)
        if options.get("run_id") is None:
            options["run_id"] = new_id("run")
        settings = MapSettings.from_options(
            options,
            default_concurrency=self._operator_config.agentic_map_concurrency,
            max_concurrency=MAX_CONCURRENCY,
            prefetch_items=0,
        )
        request = ChildSessionRequest(
            parent=options.get("parent"),
            engine=self._engine,
            db_path=options.get("db_path"),
            config=parse_config(options.get("config")) or self._session_config,
            model=options.get("model") or self._model,
            llm=self._llm,
            max_depth=options.get("max_depth", MAX_DEPTH),
        )
        tasks = _Tasks(make_agent(options), as_template(agent_prompt_template))
        return _AgentMapJob(inputs, request, tasks, settings, self._bus)

    @overload
    async def run_all(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        *,
        output_schema: type[M],
        **options: Unpack[AgenticMapSettings],
    ) -> AgentMapBatch[M]: ...
    @overload
    async def run_all(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        *,
        output_schema: Mapping[str, Any],
        **options: Unpack[AgenticMapSettings],
    ) -> AgentMapBatch[Any]: ...
    @overload
    async def run_all(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        *,
        output_schema: None = None,
        **options: Unpack[AgenticMapSettings],
    ) -> AgentMapBatch[Output]: ...
    @overload
    async def run_all(
        self,
        inputs: Inputs,
        agent_prompt_template: str | PromptTemplate,
        **options: Unpack[AgenticMapOptions],
    ) -> AgentMapBatch[Any]: ...
    async def run_all(
        self, inputs: Inputs, agent_prompt_template: str | PromptTemplate, **options: Unpack[AgenticMapOptions]
    ) -> AgentMapBatch[Any]:
        """Call `run` and return all results in one batch. Raises the errors of `run`."""
        async with aclosing(self.run(inputs, agent_prompt_template, **options)) as results:
            return AgentMapBatch.of([result async for result in results], options.get("run_id") or "")


@dataclass(frozen=True, slots=True)
class _Tasks:
    """The agent and the prompt template that process every item."""

    agent: Agent
    template: PromptTemplate

    def task(self, item_input: Any) -> AgentTask:
        """Return the task of an item. Raises `TemplateError`."""
        return AgentTask(self.agent, self.template.render(item_input))


@dataclass(frozen=True, slots=True)
class _AgentMapJob:
    """The checked arguments of one run."""

    inputs: Inputs
    request: ChildSessionRequest
    tasks: _Tasks
    settings: MapSettings
    bus: EventBus | None


@asynccontextmanager
async def _open_runner(job: _AgentMapJob) -> AsyncIterator[MapRunner]:
    """Open the sessions' database and yield the runner of the map."""
    agent, template, settings = job.tasks.agent, job.tasks.template, job.settings
    async with open_child_sessions(job.request) as child_sessions:
        item_runner = AgentItemRunner(child_sessions, job.tasks.task, str(settings.run_id), settings.retry_failed)
        facts = agent_plan_facts(agent, child_sessions) | {"template": encode_template(template)}
        yield MapRunner(
            job.inputs,
            item_runner.run_item,
            settings,
            kind=KIND,
            fingerprint=agent_fingerprint(agent, child_sessions.model, template.source),
            model=child_sessions.model or "",
            plan=encode_plan(KIND, facts, settings),
            engine=child_sessions.engine,
            bus=job.bus,
        )


async def _stream_results(job: _AgentMapJob) -> AsyncGenerator[AgentMapResult[Any], None]:
    async with _open_runner(job) as runner, aclosing(runner.results()) as results:
        async for result in results:
            yield _map_result(result, runner.run_id, job.tasks.agent.schema)


def _map_result(item: FinishedItem, run_id: str, schema: OutputSchema | None) -> AgentMapResult[Any]:
    outcome = item.outcome
    fields, output = dict(outcome.record), outcome.value
    json_output = fields.pop("output", None)
    if outcome.success and output is None:
        output = schema.restore(json_output) if schema is not None else json_output
    return AgentMapResult(
        **fields,
        index=item.index,
        input=item.input,
        output=output,
        success=outcome.success,
        attempts=outcome.attempts,
        token_usage=outcome.usage,
        cost=outcome.cost,
        run_id=run_id,
        resumed=item.resumed,
    )
