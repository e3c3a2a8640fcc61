"""`AgenticMap`: the same task for many items, each processed by an agent in its own session."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Unpack

from mnesis.config import ConfigOrDict, OperatorConfig, parse_config
from mnesis.engine.engine import Engine
from mnesis.errors import SessionNotFoundError
from mnesis.events.bus import EventBus
from mnesis.ids import new_id
from mnesis.models.agents import AgentMapBatch, AgentMapResult
from mnesis.operators.agent_run import AgentOutcome, has_final_failure, make_agent, run_agent, tool_names
from mnesis.operators.agent_steps import Agent
from mnesis.operators.child_sessions import MAX_DEPTH, ChildSessionRequest, ChildSessions, open_child_sessions
from mnesis.operators.inputs import Inputs, to_json
from mnesis.operators.item_queue import FinishedItem, Outcome
from mnesis.operators.map_runner import MapRunner
from mnesis.operators.map_settings import MapSettings, operator_config
from mnesis.operators.model_calls import CONNECTION_OPTIONS
from mnesis.operators.options import AgenticMapOptions, resolve_options
from mnesis.operators.scheduler import Item, Slots
from mnesis.operators.schema import OutputSchema
from mnesis.operators.template import PromptTemplate, TemplateError, as_template
from mnesis.validation import check_integer

MAX_CONCURRENCY = 32
MAX_RETRIES = 100


class AgenticMap:
    """Gives every item to an agent: a full session with tools, which works until it is finished.

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

    def run(
        self, inputs: Inputs, agent_prompt_template: str | PromptTemplate, **options: Unpack[AgenticMapOptions]
    ) -> AsyncGenerator[AgentMapResult, None]:
        """Run an agent for every item and yield each result, in the order of the inputs.

        `inputs` are JSON values, or the path of a JSONL file. `agent_prompt_template` is a Jinja template over
        `item`. See `AgenticMapOptions` for the options: `tools`, `stop`, `output_schema`, `max_turns`, `run_id` and
        others.

        Sessions are children of `parent`, in its database; else they are in the database of the engine or `db_path`.
        The run is stored there too: the same `run_id` again processes only what is missing.

        Raises, before any model is called, `ConfigurationError`, `ToolDefinitionError`, `FileError`, `TypeError`
        (unknown option), `SessionNotFoundError` for an unknown parent, `DelegationDeniedError` beyond `max_depth`,
        and `RunMismatchError` if `run_id` belongs to a different run. A rejected API key and an unknown model end the
        run with that `LLMError`; its items stay pending.

            async for result in AgenticMap(engine=engine, model=model).run(paths, "Review {{ item }}.", tools=[read_file]):
                print(result.index, result.output)
        """
        options = resolve_options("AgenticMap.run", AgenticMapOptions, options)
        max_retries = options.get("max_retries")
        options["max_retries"] = self._operator_config.max_retries if max_retries is None else max_retries
        check_integer("max_retries", options["max_retries"], minimum=0, maximum=MAX_RETRIES)
        if options.get("run_id") is None:
            options["run_id"] = new_id("run")
        settings = MapSettings.from_options(
            options,
            default_concurrency=self._operator_config.agentic_map_concurrency,
            max_concurrency=MAX_CONCURRENCY,
            prefetch_items=0,
        )
        plan = _AgentPlan(make_agent(options), as_template(agent_prompt_template))
        request = ChildSessionRequest(
            parent=options.get("parent"),
            engine=self._engine,
            db_path=options.get("db_path"),
            config=parse_config(options.get("config")) or self._session_config,
            model=options.get("model") or self._model,
            llm=self._llm,
            max_depth=options.get("max_depth", MAX_DEPTH),
        )
        return _stream_results(inputs, request, plan, settings, self._bus)

    async def run_all(
        self, inputs: Inputs, agent_prompt_template: str | PromptTemplate, **options: Unpack[AgenticMapOptions]
    ) -> AgentMapBatch:
        """Call `run` and return all results in one batch. Raises what `run` raises."""
        async with aclosing(self.run(inputs, agent_prompt_template, **options)) as results:
            return AgentMapBatch.of([result async for result in results], options.get("run_id") or "")


@dataclass(frozen=True, slots=True)
class _AgentPlan:
    """The agent and the prompt template that process every item."""

    agent: Agent
    template: PromptTemplate

    def fingerprint(self, model: str | None) -> str:
        """Hash everything, besides the inputs, that decides the results.

        Limits (turns, retries, time) and connection options are not part of it: a run may continue with other values.
        """
        agent = self.agent
        stop: Any = agent.stop
        if callable(stop):
            stop = f"{getattr(stop, '__module__', '')}.{getattr(stop, '__qualname__', type(stop).__qualname__)}"
        options = {
            name: _json_or_type_name(value)
            for name, value in agent.llm_options.items()
            if name not in CONNECTION_OPTIONS
        }
        facts = {
            "template": self.template.source,
            "model": model,
            "schema": agent.schema.text if agent.schema is not None else None,
            "system_prompt": agent.system_prompt,
            "continuation_message": agent.continuation_message,
            "stop": stop,
            "tools": tool_names(agent.tools),
            "llm_options": sorted(options.items()),
        }
        return hashlib.sha256(to_json(facts).encode()).hexdigest()


async def _stream_results(
    inputs: Inputs, request: ChildSessionRequest, plan: _AgentPlan, settings: MapSettings, bus: EventBus | None
) -> AsyncGenerator[AgentMapResult, None]:
    async with open_child_sessions(request) as child_sessions:
        item_runner = _ItemRunner(child_sessions, plan, str(settings.run_id), settings.retry_failed)
        runner = MapRunner(
            inputs,
            item_runner.run_item,
            settings,
            kind="agentic",
            fingerprint=plan.fingerprint(child_sessions.model),
            model=child_sessions.model or "",
            engine=child_sessions.engine,
            bus=bus,
        )
        async with aclosing(runner.results()) as results:
            async for result in results:
                yield _map_result(result, runner.run_id, plan.agent.schema)


@dataclass(frozen=True, slots=True)
class _ItemRunner:
    """Processes the items of one run."""

    child_sessions: ChildSessions
    plan: _AgentPlan
    run_id: str
    retry_failed: bool

    async def run_item(self, item: Item, slots: Slots) -> Outcome:
        """Process one item. Raises an error that every other item would meet too."""
        try:
            prompt = self.plan.template.render(item.input)
        except TemplateError as error:
            return _template_failure(str(error))
        if not prompt.strip():
            return _template_failure("the template renders an empty prompt for this item")
        async with slots.acquire():
            result = await self._run_latest_session(item.index, prompt)
        if result.fatal_error is not None:
            raise result.fatal_error
        fields = result.result_fields()
        record = {name: fields[name] for name in ("session_id", "error", "error_kind", "turns", "intermediate_outputs")}
        record |= {"output_text": result.end.text, "output": result.end.json_output}
        return Outcome(fields["success"], record, result.attempts, result.usage, result.cost, result.end.output)

    async def _run_latest_session(self, index: int, prompt: str) -> AgentOutcome:
        """Continue the item's latest session.

        With `retry_failed`, replace one that cannot get further by a new one.
        """
        agent, number = self.plan.agent, await self._latest_session_number(index)
        while True:
            session_id = self._session_id(index, number)
            async with self.child_sessions.open(agent, prompt, session_id=session_id) as session:
                if not (self.retry_failed and await has_final_failure(session, agent, prompt)):
                    return await run_agent(session, agent, prompt)
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


def _template_failure(error: str) -> Outcome:
    return Outcome(False, {"error": error, "error_kind": "template"}, attempts=0)


def _map_result(item: FinishedItem, run_id: str, schema: OutputSchema | None) -> AgentMapResult:
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


def _json_or_type_name(value: Any) -> Any:
    try:
        return to_json(value)
    except (TypeError, ValueError):
        return type(value).__qualname__
