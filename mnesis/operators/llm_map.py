"""LLMMap: one question asked of many inputs, each answer checked against a schema."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from pydantic import BaseModel

from mnesis.config import MnesisConfig, OperatorConfig, RetryConfig
from mnesis.engine.engine import Engine
from mnesis.errors import ConfigurationError, LLMAuthenticationError, LLMError, LLMTimeoutError
from mnesis.events.bus import EventBus
from mnesis.llm.base import LLM, LLMReply, LLMRequest
from mnesis.llm.resolve import mock_is_on, resolve
from mnesis.llm.retry import retry_delay
from mnesis.models.map import MapBatch, MapResult
from mnesis.models.usage import TokenUsage
from mnesis.operators.inputs import Inputs
from mnesis.operators.item_queue import Finished, Outcome
from mnesis.operators.map_progress import Progress
from mnesis.operators.map_runner import MapRunner, checked_options
from mnesis.operators.map_settings import LEASE_SECONDS, MAX_CLAIMS, MapSettings, Order
from mnesis.operators.scheduler import Item, Slots
from mnesis.operators.schema import RETRY_GUIDANCE, InvalidOutputError, OutputSchema
from mnesis.operators.template import Template, TemplateError
from mnesis.validation import check_integer, check_seconds, check_string

TIMEOUT_SECONDS = 60.0
MAX_RETRIES = 20
NOT_FOUND = 404
PLACES = frozenset({"api_base", "api_key", "base_url", "extra_headers", "headers", "timeout"})
"""Options that say how the model is reached, not what it answers: a run may go on with others."""


class LLMMap:
    """Asks a model about every input, many at a time, and checks each answer.

    `config` are the limits (a `MnesisConfig` gives its `operators`; without any the engine's count). With `engine` every item's state is in its database:
    a run that was killed goes on under its `run_id`, and several processes may share it. `model` is a litellm model
    string; `llm` a client, as for `Engine`, else the engine's own. Events go to `event_bus`, else to `engine.events`. One
    LLMMap may run several maps at once.
    """

    def __init__(
        self,
        config: OperatorConfig | MnesisConfig | None = None,
        model: str | None = None,
        event_bus: EventBus | None = None,
        engine: Engine | None = None,
        llm: object | None = None,
    ) -> None:
        self.config = operator_config(config, engine)
        self.model, self._bus, self._engine = model, event_bus, engine
        self._has_llm = llm is not None or (engine is not None and engine.has_own_llm)
        self._llm = engine.llm if llm is None and engine is not None else resolve(llm)

    def run(
        self,
        inputs: Inputs,
        prompt_template: str,
        output_schema: type[BaseModel] | Mapping[str, Any],
        *,
        model: str | None = None,
        concurrency: int | None = None,
        max_retries: int | None = None,
        system_prompt: str | None = None,
        temperature: float | None = 0.0,
        timeout_secs: float = TIMEOUT_SECONDS,
        timeout_seconds: float | None = None,
        retry_guidance: str = RETRY_GUIDANCE,
        retry: RetryConfig | None = None,
        run_id: str | None = None,
        order: Order = "completion",
        progress: Progress = False,
        output_path: str | PathLike[str] | None = None,
        llm_options: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        lease_seconds: float = LEASE_SECONDS,
        max_claims: int = MAX_CLAIMS,
    ) -> AsyncGenerator[MapResult, None]:
        """The result of every input, as each is finished (`order="input"`: in the order of the inputs).

        `inputs` are JSON values, or the path of a JSONL file, read as they are needed. `prompt_template` is a Jinja
        template over `item`. An answer that does not satisfy `output_schema` is shown to the model again with what is
        wrong; that and passing failures are repeated `max_retries` times per item, passing failures after the waits of
        `retry`, during which other items are worked on. `timeout_secs` (or `timeout_seconds`) limits each call. `llm_options`
        are passed on with each call; `temperature=None` leaves it to the provider.

        `run_id` names the run in the engine's database: the same id again gives stored results and does what is missing,
        failed items too with `retry_failed`. A worker that is silent for `lease_seconds` loses its items; an item whose
        workers died `max_claims` times is given up. `output_path` becomes a JSONL file with a line per item.

        Leaving the loop early, or a cancellation, stops outstanding calls and gives their items back. Everything given is
        checked before anything runs: `ConfigurationError`, `FileError`. While running: `LLMAuthenticationError` and an
        unknown model end the run with nothing lost, `RunMismatchError` says that the id is taken by another run.
        """
        chosen = model or self.model
        if chosen is None and not self._has_llm and not mock_is_on():
            raise ConfigurationError("no model: name one with model=, or give a client with llm=")
        call = _Call(
            llm=self._llm,
            model=chosen or "",
            template=Template(prompt_template),
            schema=OutputSchema(output_schema),
            system_prompt=system_prompt or "",
            guidance=retry_guidance,
            timeout_seconds=timeout_secs if timeout_seconds is None else timeout_seconds,
            retry=_retrying(retry, self.config.max_retries if max_retries is None else max_retries),
            options=_options(temperature, llm_options),
        )
        settings = MapSettings(
            kind="llm",
            fingerprint=call.fingerprint,
            model=call.model,
            concurrency=self.config.llm_map_concurrency if concurrency is None else concurrency,
            run_id=run_id,
            order=order,
            progress=progress,
            output_path=output_path,
            retry_failed=retry_failed,
            lease_seconds=lease_seconds,
            max_claims=max_claims,
        )
        runner = MapRunner(inputs, call.work, settings, engine=self._engine, bus=self._bus)
        return _results(runner, call.schema)

    async def run_all(
        self,
        inputs: Inputs,
        prompt_template: str,
        output_schema: type[BaseModel] | Mapping[str, Any],
        **options: Any,
    ) -> MapBatch:
        """All results at once. Takes what `run` takes, and raises what it raises."""
        async with aclosing(self.run(inputs, prompt_template, output_schema, **options)) as running:
            return MapBatch.of([result async for result in running], options.get("run_id") or "")


def operator_config(config: OperatorConfig | MnesisConfig | None, engine: Engine | None) -> OperatorConfig:
    """The limits of maps in what a user gave, else those of the engine. Raises `ConfigurationError` for anything else."""
    if engine is not None and not isinstance(engine, Engine):
        raise ConfigurationError(f"engine is an Engine, not {engine!r:.100}")
    if config is None and engine is not None:
        return engine.config.operators
    if isinstance(config, MnesisConfig):
        return config.operators
    if config is None or isinstance(config, OperatorConfig):
        return config or OperatorConfig()
    raise ConfigurationError(f"config is an OperatorConfig or a MnesisConfig, not {config!r:.100}")


async def _results(runner: MapRunner, schema: OutputSchema) -> AsyncGenerator[MapResult, None]:
    async with aclosing(runner.results()) as finished:
        async for one in finished:
            yield _result(one, schema, runner.run_id)


def _result(finished: Finished, schema: OutputSchema, run_id: str) -> MapResult:
    outcome = finished.outcome
    output = outcome.value
    if outcome.success and output is None:
        output = schema.restore(outcome.record["output"])
    return MapResult(
        index=finished.index,
        input=finished.input,
        output=output,
        success=outcome.success,
        error=outcome.record.get("error"),
        error_kind=outcome.record.get("error_kind"),
        attempts=outcome.attempts,
        usage=outcome.usage,
        cost=outcome.cost,
        run_id=run_id,
        resumed=finished.resumed,
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked about each item, and how."""

    llm: LLM
    model: str
    template: Template
    schema: OutputSchema
    system_prompt: str
    guidance: str
    timeout_seconds: float
    retry: RetryConfig
    options: dict[str, Any]

    def __post_init__(self) -> None:
        check_seconds("timeout_secs", self.timeout_seconds)
        check_string("model", self.model)
        check_string("system_prompt", self.system_prompt)
        check_string("retry_guidance", self.guidance)

    @property
    def fingerprint(self) -> str:
        """Equal for calls whose answers mean the same."""
        options = {name: repr(value) for name, value in sorted(self.options.items()) if name not in PLACES}
        facts = [self.template.source, self.schema.text, self.model, self.system_prompt, self.guidance, options]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    async def work(self, item: Item, slots: Slots) -> Outcome:
        """The work on one item, for the runner."""
        spent = _Spent()
        try:
            messages = self._messages(self.template.render(item.input))
            while True:
                try:
                    async with slots.taken():
                        reply = await self._ask(messages, spent)
                    value, output = self.schema.read(reply.text)
                    return Outcome(True, {"output": value}, spent.attempts, spent.usage, spent.cost, output)
                except InvalidOutputError as error:
                    if spent.attempts > self.retry.max_retries:
                        return spent.failed("validation", str(error))
                    messages = [*messages[:2], *self._correction(reply, error)]
                except LLMError as error:
                    delay = retry_delay(self.retry, spent.attempts, error)
                    if delay is None:
                        return _failed_call(error, spent)
                    await slots.rest(delay)
        except TemplateError as error:
            return spent.failed("template", str(error))

    async def _ask(self, messages: list[dict[str, Any]], spent: _Spent) -> LLMReply:
        spent.attempts += 1
        request = LLMRequest(
            model=self.model,
            messages=messages,
            timeout_seconds=self.timeout_seconds,
            options=dict(self.options),
            purpose="map",
            response_schema=self.schema.json_schema,
        )
        try:
            async with asyncio.timeout(self.timeout_seconds) as limit:
                reply = await self.llm.complete(request)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise LLMTimeoutError(f"no answer within {self.timeout_seconds:g} s", model=self.model) from error
        spent.usage += reply.usage or TokenUsage()
        spent.cost += reply.cost
        return reply

    def _messages(self, prompt: str) -> list[dict[str, Any]]:
        system = f"{self.system_prompt}\n\n{self.schema.instructions}".strip()
        return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]

    def _correction(self, reply: LLMReply, error: InvalidOutputError) -> list[dict[str, Any]]:
        """The newest wrong answer and what is wrong with it; earlier ones would only make the request longer."""
        return [
            {"role": "assistant", "content": reply.text or "(no answer)"},
            {"role": "user", "content": self.schema.feedback(error, self.guidance)},
        ]


@dataclass
class _Spent:
    """What the calls for one item took so far."""

    attempts: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: float = 0.0

    def failed(self, kind: str, error: str) -> Outcome:
        return Outcome(False, {"error": error, "error_kind": kind}, self.attempts, self.usage, self.cost)


def _failed_call(error: LLMError, spent: _Spent) -> Outcome:
    """The outcome of a call that is not repeated; what every other item would meet too is raised."""
    if meets_all(error):
        raise error
    kind = "timeout" if isinstance(error, LLMTimeoutError) else "llm_error"
    return spent.failed(kind, f"{type(error).__name__}: {error}")


def meets_all(error: LLMError) -> bool:
    """Whether every other item would meet this error too: a wrong key, an unknown model."""
    return isinstance(error, LLMAuthenticationError) or error.status_code == NOT_FOUND


def _retrying(retry: RetryConfig | None, max_retries: int) -> RetryConfig:
    check_integer("max_retries", max_retries, least=0, most=MAX_RETRIES)
    if retry is not None and not isinstance(retry, RetryConfig):
        raise ConfigurationError(f"retry is a RetryConfig, not {retry!r:.100}")
    return (retry or RetryConfig()).model_copy(update={"max_retries": max_retries})


def _options(temperature: float | None, llm_options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**({} if temperature is None else {"temperature": temperature}), **checked_options(llm_options)}
