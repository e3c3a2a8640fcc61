"""`LLMMap`: the same question about many inputs, each answer validated against a schema."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Generic, Unpack, get_args, overload

from pydantic import BaseModel
from typing_extensions import TypeVar  # with defaults (PEP 696)

from mnesis.config import ConfigOrDict, OperatorConfig, RetryConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError
from mnesis.events.bus import EventBus
from mnesis.llm.base import LLM
from mnesis.llm.resolve import is_mock_enabled, resolve
from mnesis.models.map import MapBatch, MapResult
from mnesis.models.run import MapRun
from mnesis.operators.inputs import Inputs
from mnesis.operators.item_queue import FinishedItem
from mnesis.operators.llm_items import ModelQuestion
from mnesis.operators.map_runner import MapRunner
from mnesis.operators.map_settings import MapSettings, operator_config
from mnesis.operators.model_calls import check_llm_options
from mnesis.operators.options import LLMMapOptions, WorkOptions, resolve_options
from mnesis.operators.run_plan import (
    decode_plan,
    decode_schema,
    decode_template,
    encode_plan,
    merge_options,
)
from mnesis.operators.schema import RETRY_GUIDANCE, OutputSchema
from mnesis.operators.template import PromptTemplate, as_template
from mnesis.operators.worker import STALL_SECONDS, find_run, work_on_run, worker_settings
from mnesis.validation import check_integer

T = TypeVar("T")
Output = TypeVar("Output", default=Any)
M = TypeVar("M", bound=BaseModel)

KIND = "llm"
TIMEOUT_SECONDS = 60.0
MAX_RETRIES = 20
TEMPERATURE = 0.0


class LLMMap(Generic[Output]):
    """Asks a model about every input, many at a time, and validates each answer.

    The results are typed by the schema. `LLMMap[Label](…)` names it once, for all runs that pass no `output_schema`.

    `config` sets the limits; a `MnesisConfig` provides its `operators`, and None uses those of the engine. With
    `engine` the state of every item is stored in its database: a run that was killed continues under its `run_id`,
    and several processes may share it. `model` is a litellm model string. `llm` is a client, as for `Engine`; None
    uses the engine's. Events go to `event_bus`, or else to `engine.events`. One object may run several maps at the
    same time.
    """

    def __init__(
        self,
        config: OperatorConfig | ConfigOrDict | None = None,
        model: str | None = None,
        event_bus: EventBus | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> None:
        self.config: OperatorConfig = operator_config(config, engine)
        self.model, self._bus, self._engine = model, event_bus, engine
        self._has_llm = llm is not None or (engine is not None and engine.has_own_llm)
        self._llm: LLM = engine.llm if llm is None and engine is not None else resolve(llm)

    @overload
    def run(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: type[M],
        **options: Unpack[LLMMapOptions],
    ) -> AsyncGenerator[MapResult[M], None]: ...
    @overload
    def run(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: Mapping[str, Any],
        **options: Unpack[LLMMapOptions],
    ) -> AsyncGenerator[MapResult[Any], None]: ...
    @overload
    def run(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: None = None,
        **options: Unpack[LLMMapOptions],
    ) -> AsyncGenerator[MapResult[Output], None]: ...
    def run(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: type[BaseModel] | Mapping[str, Any] | None = None,
        **options: Unpack[LLMMapOptions],
    ) -> AsyncGenerator[MapResult[Any], None]:
        """Ask the model about every input and yield each result, in the order of the inputs.

        `inputs` are JSON values, or the path of a JSONL file; they are read as they are needed. `prompt_template` is
        a Jinja template over `item`. `output_schema` is a pydantic class or a JSON Schema; without it, the class of
        `LLMMap[Class]`. An answer that does not satisfy it is returned to the model with its errors. Temporary failures
        are repeated after a wait, during which other items are processed. `order="completion"` yields each result as
        soon as it is ready. See `LLMMapOptions` for the options.

        Leaving the loop early, or a cancellation, stops the calls in progress. Their items become pending again. All
        arguments are checked before anything runs.

        Raises `ConfigurationError`, `FileError` and `TypeError` (unknown option) for wrong arguments. While running,
        raises `LLMAuthenticationError`, and `LLMError` for an unknown model, without losing any result, and
        `RunMismatchError` if `run_id` belongs to a different run.

            async for result in LLMMap(model="openai/gpt-4o").run(reviews, "Is this positive? {{ item }}", Verdict):
                print(result.index, result.output.is_positive)
        """
        options = resolve_options("LLMMap.run", LLMMapOptions, options)
        runner, schema = self._runner(inputs, prompt_template, output_schema, options)
        return _stream_results(runner, schema)

    async def enqueue(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: type[BaseModel] | Mapping[str, Any] | None = None,
        **options: Unpack[LLMMapOptions],
    ) -> MapRun:
        """Store a run for workers, without processing any item, and return it. Repeating it is safe.

        Workers join it with `work()` or `mnesis worker`. `run()` with the same arguments and the `run_id` of the
        returned run works too, and yields the results. The arguments are those of `run()`. Raises the errors that
        `run()` raises before anything runs, and `ConfigurationError` without an engine.
        """
        options = resolve_options("LLMMap.enqueue", LLMMapOptions, options)
        runner, _ = self._runner(inputs, prompt_template, output_schema, options)
        return await runner.enqueue()

    async def work(self, run_id: str, **options: Unpack[WorkOptions]) -> MapRun:
        """Join a stored run: process its items, together with other workers on any machine, until every item is finished.

        The run was started with `run()` or `enqueue()` and an engine. Prompt, schema, model and options come from the
        database; keys and headers do not. Items of a worker that dies are processed by the others. Results are stored once;
        read them with `run()`. See `WorkOptions` for the options; `progress` shows the whole run.

        Returns the run with its counts and sums. Cancelling makes unfinished items pending again. Raises
        `RunNotFoundError`, `ConfigurationError` if the run cannot be joined, `RunMismatchError` if this worker would
        give other results, and the `LLMError`s that end a run.

            run = await LLMMap(engine=Engine("postgresql://app@db.example/chat")).work("reviews-2026")
        """
        options = resolve_options("LLMMap.work", WorkOptions, options)
        engine, run, text = await find_run(self._engine, run_id)
        plan = decode_plan(run_id, KIND, text)
        question = self._planned_question(run_id, plan, options)
        return await work_on_run(
            engine,
            run,
            question.answer_item,
            question.fingerprint,
            worker_settings(plan, options),
            stall_seconds=options.get("stall_seconds", STALL_SECONDS),
            bus=self._bus,
        )

    def _runner(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: type[BaseModel] | Mapping[str, Any] | None,
        options: LLMMapOptions,
    ) -> tuple[MapRunner, OutputSchema]:
        """Check all arguments of a run. Returns its runner and the schema of its results."""
        model = options.get("model") or self.model
        if model is None and not self._has_llm and not is_mock_enabled():
            raise ConfigurationError("no model: pass model=, or a client with llm=")
        question = ModelQuestion(
            llm=self._llm,
            model=model or "",
            template=as_template(prompt_template),
            schema=OutputSchema(self._schema(output_schema)),
            system_prompt=options.get("system_prompt") or "",
            retry_guidance=options.get("retry_guidance", RETRY_GUIDANCE),
            timeout_seconds=_or_default(options.get("timeout_seconds"), TIMEOUT_SECONDS),
            retry=_retry_config(options.get("retry"), _or_default(options.get("max_retries"), self.config.max_retries)),
            options=_llm_options(options.get("temperature", TEMPERATURE), options.get("llm_options")),
        )
        settings = MapSettings.from_options(options, default_concurrency=self.config.llm_map_concurrency)
        runner = MapRunner(
            inputs,
            question.answer_item,
            settings,
            kind=KIND,
            fingerprint=question.fingerprint,
            model=question.model,
            plan=encode_plan(KIND, question.plan_facts, settings) if self._engine is not None else "",
            engine=self._engine,
            bus=self._bus,
        )
        return runner, question.schema

    def _planned_question(self, run_id: str, plan: dict[str, Any], options: WorkOptions) -> ModelQuestion:
        schema = decode_schema(run_id, plan["schema"], options.get("output_schema"))
        assert schema is not None  # noqa: S101  # a map always has one
        return ModelQuestion(
            llm=self._llm,
            model=plan["model"],
            template=decode_template(plan["template"]),
            schema=schema,
            system_prompt=plan["system_prompt"],
            retry_guidance=plan["retry_guidance"],
            timeout_seconds=plan["timeout_seconds"],
            retry=RetryConfig(**plan["retry"]),
            options=merge_options(run_id, plan, check_llm_options(options.get("llm_options"))),
        )

    @overload
    async def run_all(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: type[M],
        **options: Unpack[LLMMapOptions],
    ) -> MapBatch[M]: ...
    @overload
    async def run_all(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: Mapping[str, Any],
        **options: Unpack[LLMMapOptions],
    ) -> MapBatch[Any]: ...
    @overload
    async def run_all(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: None = None,
        **options: Unpack[LLMMapOptions],
    ) -> MapBatch[Output]: ...
    async def run_all(
        self,
        inputs: Inputs,
        prompt_template: str | PromptTemplate,
        output_schema: type[BaseModel] | Mapping[str, Any] | None = None,
        **options: Unpack[LLMMapOptions],
    ) -> MapBatch[Any]:
        """Call `run` and return all results in one batch. Raises what `run` raises."""
        schema = self._schema(output_schema)
        async with aclosing(self.run(inputs, prompt_template, schema, **options)) as results:
            return MapBatch.of([result async for result in results], options.get("run_id") or "")

    def _schema(self, output_schema: type[M] | Mapping[str, Any] | None) -> type[M] | Mapping[str, Any]:
        """Return the schema of a run: the argument, or the class of `LLMMap[Class]`."""
        if output_schema is not None:
            return output_schema
        # Set by `typing` on an object that is created as LLMMap[Class](…).
        arguments: tuple[Any, ...] = get_args(getattr(self, "__orig_class__", None))
        if not arguments:
            raise ConfigurationError(
                "output_schema is missing; pass a pydantic class or a JSON Schema, or create the map as LLMMap[Class](…)"
            )
        schema: type[M] = arguments[0]
        return schema


async def _stream_results(runner: MapRunner, schema: OutputSchema) -> AsyncGenerator[MapResult[Any], None]:
    async with aclosing(runner.results()) as finished_items:
        async for item in finished_items:
            yield _map_result(item, schema, runner.run_id)


def _map_result(item: FinishedItem, schema: OutputSchema, run_id: str) -> MapResult[Any]:
    outcome = item.outcome
    output = outcome.value
    if outcome.success and output is None:
        output = schema.restore(outcome.record["output"])
    return MapResult(
        index=item.index,
        input=item.input,
        output=output,
        success=outcome.success,
        error=outcome.record.get("error"),
        error_kind=outcome.record.get("error_kind"),
        attempts=outcome.attempts,
        usage=outcome.usage,
        cost=outcome.cost,
        run_id=run_id,
        resumed=item.resumed,
    )


def _retry_config(retry: RetryConfig | Mapping[str, Any] | None, max_retries: int) -> RetryConfig:
    check_integer("max_retries", max_retries, minimum=0, maximum=MAX_RETRIES)
    if isinstance(retry, Mapping):
        retry = RetryConfig(**retry)
    if retry is not None and not isinstance(retry, RetryConfig):
        raise ConfigurationError(f"retry must be a RetryConfig, not {retry!r:.100}")
    return (retry or RetryConfig()).model_copy(update={"max_retries": max_retries})


def _llm_options(temperature: float | None, llm_options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**({} if temperature is None else {"temperature": temperature}), **check_llm_options(llm_options)}


def _or_default(value: T | None, default: T) -> T:
    return default if value is None else value
