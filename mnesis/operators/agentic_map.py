"""`AgenticMap`: the same task for many items, each done by an agent in a session of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from mnesis.config import MnesisConfig, OperatorConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, SessionNotFoundError
from mnesis.events.bus import EventBus
from mnesis.ids import new_id
from mnesis.models.agents import AgentMapBatch, AgentMapResult
from mnesis.operators.agent_run import Worked, has_failed, make_agent, tool_names, work
from mnesis.operators.agent_steps import MAX_TURNS, Agent, Stop
from mnesis.operators.child_sessions import MAX_DEPTH, Origin, Wanted, opened
from mnesis.operators.inputs import Inputs, json_text
from mnesis.operators.item_queue import Finished, Outcome
from mnesis.operators.llm_map import PLACES, operator_config
from mnesis.operators.map_progress import Progress
from mnesis.operators.map_runner import MapRunner
from mnesis.operators.map_settings import LEASE_SECONDS, MAX_CLAIMS, MapSettings, Order
from mnesis.operators.scheduler import Item, Slots
from mnesis.operators.schema import OutputSchema
from mnesis.operators.template import Template, TemplateError
from mnesis.session.session import MnesisSession
from mnesis.validation import check_integer

MAX_CONCURRENCY = 32


class AgenticMap:
    """Gives every item to an agent: a full session with tools, which works until it is finished.

    `config` is an `OperatorConfig`, or a `MnesisConfig` whose `operators` part counts here and whose rest the sessions use.
    `model`, `engine` and `llm` are what runs use unless they say otherwise. The map's events go to `event_bus`, or else
    to the engine's, which hears of the sessions in any case. Several runs of one object at once are fine.
    """

    def __init__(
        self,
        config: OperatorConfig | MnesisConfig | None = None,
        event_bus: EventBus | None = None,
        model: str | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> None:
        self._operators = operator_config(config, engine)
        whole = config if isinstance(config, MnesisConfig) else None
        self._config, self._bus, self._model, self._engine, self._llm = whole, event_bus, model, engine, llm

    def run(
        self,
        inputs: Inputs,
        agent_prompt_template: str,
        *,
        model: str | None = None,
        concurrency: int | None = None,
        read_only: bool = True,
        tools: Iterable[Any] | None = None,
        max_turns: int = MAX_TURNS,
        continuation_message: str = "",
        stop: Stop | None = None,
        output_schema: Any = None,
        parent: MnesisSession | None = None,
        parent_session_id: str | None = None,
        agent: str = "general",
        config: MnesisConfig | None = None,
        lcm_config: MnesisConfig | None = None,
        db_path: str | os.PathLike[str] | None = None,
        system_prompt: str | None = None,
        max_retries: int | None = None,
        timeout_seconds: float | None = None,
        llm_options: Mapping[str, Any] | None = None,
        max_depth: int = MAX_DEPTH,
        run_id: str | None = None,
        retry_failed: bool = False,
        order: Order = "completion",
        progress: Progress = False,
        output_path: str | os.PathLike[str] | None = None,
        lease_seconds: float = LEASE_SECONDS,
        max_claims: int = MAX_CLAIMS,
    ) -> AsyncGenerator[AgentMapResult, None]:
        """Work on every item; results as they finish, or with `order="input"` in order of the inputs.

        `inputs` are JSON values, or the path of a JSONL file; the template makes the prompt of each (`{{ item }}`). An agent
        is finished when its answer is complete, or with `stop` (a text, several, or a function of the `TurnResult`) when
        that condition is met; until then it is told `continuation_message`, for at most `max_turns` turns. With an
        `output_schema` its answer is validated, and what is wrong is told to it at most `max_retries` times; so often
        passing failures of the model are repeated, too. `timeout_seconds` limits one item (None: no limit).

        With `read_only` only tools that are declared so are offered. Sub-sessions are children of `parent` (or of the
        session `parent_session_id`) in its database, else in that of the engine or `db_path`; `config` (also under the
        name `lcm_config`) is what they are opened with. The run is kept there, too: the same `run_id` again does what
        is missing, `retry_failed` also what failed. A worker that is silent for `lease_seconds` loses its items; an item
        whose workers died `max_claims` times is given up. `output_path` becomes a JSONL file with a line per item.

        Raises before any model is called: `ConfigurationError`, `ToolDefinitionError`, `SessionNotFoundError` for an
        unknown parent, `DelegationRefusedError` past `max_depth`, `RunMismatchError` for a run id of another run, and
        `FileError`s. A refused API key or an unknown model ends the run with that `LLMError`; its items stay pending.
        """
        check_integer("max_retries", max_retries := _or(max_retries, self._operators.max_retries), least=0, most=100)
        concurrency = _or(concurrency, self._operators.agentic_map_concurrency)
        check_integer("concurrency", concurrency, least=1, most=MAX_CONCURRENCY)
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
        template = Template(agent_prompt_template)
        wanted = Wanted(
            _one_of("parent", parent, "parent_session_id", parent_session_id),
            self._engine,
            db_path,
            _one_of("config", config, "lcm_config", lcm_config) or self._config,
            model or self._model,
            self._llm,
            max_depth,
        )
        settings = MapSettings(
            "agentic",
            fingerprint="",
            model="",
            concurrency=concurrency,
            run_id=new_id("run") if run_id is None else run_id,
            order=order,
            progress=progress,
            output_path=output_path,
            retry_failed=retry_failed,
            lease_seconds=lease_seconds,
            max_claims=max_claims,
            ahead=0,
        )
        return _results(inputs, wanted, _Plan(worker, template, agent), settings, self._bus)

    async def run_all(self, inputs: Inputs, agent_prompt_template: str, **settings: Any) -> AgentMapBatch:
        """`run()`, with all results in one batch. `settings` are those of `run()`; raises as it does."""
        async with aclosing(self.run(inputs, agent_prompt_template, **settings)) as results:
            return AgentMapBatch.of([result async for result in results], settings.get("run_id") or "")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done with every item: by which kind of agent, asked what, in sessions of which agent name."""

    worker: Agent
    template: Template
    agent: str

    def fingerprint(self, model: str | None) -> str:
        """What stands for everything that decides the results, besides the inputs. Limits (turns, retries, time) do not,
        nor how the model is reached: a run may go on with others."""
        stop: Any = self.worker.stop
        if callable(stop):
            stop = f"{getattr(stop, '__module__', '')}.{getattr(stop, '__qualname__', type(stop).__qualname__)}"
        options = {name: _described(value) for name, value in self.worker.llm_options.items() if name not in PLACES}
        decides = {
            "template": self.template.source,
            "model": model,
            "schema": self.worker.schema.text if self.worker.schema is not None else None,
            "system_prompt": self.worker.system_prompt,
            "continuation_message": self.worker.continuation_message,
            "stop": stop,
            "tools": tool_names(self.worker.tools),
            "llm_options": sorted(options.items()),
        }
        return hashlib.sha256(json_text(decides).encode()).hexdigest()


async def _results(
    inputs: Inputs, wanted: Wanted, plan: _Plan, settings: MapSettings, bus: EventBus | None
) -> AsyncGenerator[AgentMapResult, None]:
    async with opened(wanted) as origin:
        of_run = replace(settings, fingerprint=plan.fingerprint(origin.model), model=origin.model or "")
        items = _Items(origin, plan.worker, plan.template, plan.agent, str(settings.run_id), settings.retry_failed)
        runner = MapRunner(inputs, items.worked_on, of_run, engine=origin.engine, bus=bus)
        async with aclosing(runner.results()) as results:
            async for finished in results:
                yield _result(finished, runner.run_id, plan.worker.schema)


@dataclass(frozen=True, slots=True)
class _Items:
    """The work on the items of one run."""

    origin: Origin
    worker: Agent
    template: Template
    agent: str
    run_id: str
    retry_failed: bool

    async def worked_on(self, item: Item, slots: Slots) -> Outcome:
        """What came of one item. Raises what would come of every other one, too."""
        try:
            prompt = self.template.render(item.input)
        except TemplateError as error:
            return _not_begun(str(error))
        if not prompt.strip():
            return _not_begun("the prompt that the template makes of this item is empty")
        async with slots.taken():
            worked = await self._worked(item.index, prompt)
        if worked.fatal is not None:
            raise worked.fatal
        fields = worked.fields()
        record = {name: fields[name] for name in ("session_id", "error", "error_kind", "turns", "intermediate_outputs")}
        record |= {"output_text": worked.end.text, "output": worked.end.value}
        return Outcome(fields["success"], record, worked.attempts, worked.usage, worked.cost, worked.end.output)

    async def _worked(self, index: int, prompt: str) -> Worked:
        """The work of the item's newest session, which goes on where it ended; of a new one if that has failed for good
        and failures are to be tried again."""
        number = await self._newest(index)
        while True:
            async with self.origin.session(
                prompt,
                system_prompt=self.worker.full_system_prompt,
                agent=self.agent,
                max_retries=self.worker.max_retries,
                session_id=self._session_id(index, number),
            ) as session:
                if not (self.retry_failed and await has_failed(session, self.worker, prompt)):
                    return await work(session, self.worker, prompt)
            number += 1

    async def _newest(self, index: int) -> int:
        """The number of the newest session of an item, 1 if there is none."""
        number = 1
        while await self._exists(self._session_id(index, number + 1)):
            number += 1
        return number

    async def _exists(self, session_id: str) -> bool:
        try:
            await self.origin.engine.store.session(session_id)
        except SessionNotFoundError:
            return False
        return True

    def _session_id(self, index: int, number: int) -> str:
        return f"{self.run_id}.item-{index}.{number}"


def _not_begun(error: str) -> Outcome:
    return Outcome(False, {"error": error, "error_kind": "template"}, attempts=0)


def _result(finished: Finished, run_id: str, schema: OutputSchema | None) -> AgentMapResult:
    outcome = finished.outcome
    fields, output = dict(outcome.record), outcome.value
    stored = fields.pop("output", None)
    if outcome.success and output is None:
        output = schema.restore(stored) if schema is not None else stored
    return AgentMapResult(
        **fields,
        index=finished.index,
        input=finished.input,
        output=output,
        success=outcome.success,
        attempts=outcome.attempts,
        token_usage=outcome.usage,
        cost=outcome.cost,
        run_id=run_id,
        resumed=finished.resumed,
    )


def _described(value: Any) -> Any:
    """An option as JSON, by its type where it is none."""
    try:
        return json_text(value)
    except (TypeError, ValueError):
        return type(value).__qualname__


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _one_of(name: str, value: Any, other_name: str, other: Any) -> Any:
    if value is not None and other is not None:
        raise ConfigurationError(f"{name} and {other_name} say the same thing; give one of them")
    return value if value is not None else other
