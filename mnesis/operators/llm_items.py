"""Items that a model answers: one question for each, asked until the answer is valid."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from mnesis.config import RetryConfig
from mnesis.errors import LLMError, LLMTimeoutError
from mnesis.llm.base import LLM, LLMReply, LLMRequest, prepare_client
from mnesis.llm.retry import retry_delay
from mnesis.models.usage import TokenUsage
from mnesis.operators.item_queue import Outcome
from mnesis.operators.model_calls import fails_every_item, without_connection
from mnesis.operators.run_plan import encode_schema, encode_template, storable_options
from mnesis.operators.scheduler import Item, Slots
from mnesis.operators.schema import InvalidOutputError, OutputSchema
from mnesis.operators.template import PromptTemplate, TemplateError
from mnesis.tokens.model_info import context_limit_options
from mnesis.validation import check_seconds, check_string


@dataclass(frozen=True, slots=True)
class ModelQuestion:
    """The question about each item, and the arguments of the model calls."""

    llm: LLM
    model: str
    template: PromptTemplate
    schema: OutputSchema
    system_prompt: str
    retry_guidance: str
    timeout_seconds: float
    retry: RetryConfig
    options: dict[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        check_seconds("timeout_seconds", self.timeout_seconds)
        check_string("model", self.model)
        check_string("system_prompt", self.system_prompt)
        check_string("retry_guidance", self.retry_guidance)

    @property
    def plan_facts(self) -> dict[str, Any]:
        """The plan with which a worker makes the same calls."""
        options, omitted_options = storable_options(self.options)
        return {
            "template": encode_template(self.template),
            "schema": encode_schema(self.schema),
            "model": self.model,
            "system_prompt": self.system_prompt,
            "retry_guidance": self.retry_guidance,
            "timeout_seconds": self.timeout_seconds,
            "retry": self.retry.model_dump(mode="json"),
            "llm_options": options,
            "omitted_options": omitted_options,
        }

    @property
    def fingerprint(self) -> str:
        """A hash that is equal for calls whose answers are interchangeable."""
        options = {name: repr(value) for name, value in sorted(without_connection(self.options).items())}
        facts = [
            self.template.source, self.schema.text, self.model, self.system_prompt, self.retry_guidance, options,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    async def answer_item(self, item: Item, slots: Slots) -> Outcome:
        """Ask about one item until there is a valid answer or no attempt is left."""
        totals = _Totals()
        try:
            messages = self._messages(self.template.render(item.input))
            while True:
                try:
                    async with slots.acquire():
                        reply = await self._call_model(messages, totals)
                    json_output, output = self.schema.extract(reply.text)
                    record = {"output": json_output}
                    return Outcome(True, record, totals.attempts, totals.usage, totals.cost, output)
                except InvalidOutputError as error:
                    if totals.attempts > self.retry.max_retries:
                        return totals.failure("validation", str(error))
                    messages = [*messages[:2], *self._correction(reply, error)]
                except LLMError as error:
                    delay_seconds = retry_delay(self.retry, totals.attempts, error)
                    if delay_seconds is None:
                        return _final_failure(error, totals)
                    await slots.sleep_without_slot(delay_seconds)
        except TemplateError as error:
            return totals.failure("template", str(error))

    async def _call_model(self, messages: list[dict[str, Any]], totals: _Totals) -> LLMReply:
        totals.attempts += 1
        request = LLMRequest(
            model=self.model,
            messages=messages,
            timeout_seconds=self.timeout_seconds,
            options=context_limit_options(self.model) | self.options,
            purpose="map",
            response_schema=self.schema.json_schema,
        )
        await prepare_client(self.llm)
        try:
            async with asyncio.timeout(self.timeout_seconds) as time_limit:
                reply = await self.llm.complete(request)
        except TimeoutError as error:
            if not time_limit.expired():
                raise
            raise LLMTimeoutError(f"no answer within {self.timeout_seconds:g} s", model=self.model) from error
        totals.usage += reply.usage or TokenUsage()
        totals.cost += reply.cost
        return reply

    def _messages(self, prompt: str) -> list[dict[str, Any]]:
        system_text = f"{self.system_prompt}\n\n{self.schema.instructions}".strip()
        return [{"role": "system", "content": system_text}, {"role": "user", "content": prompt}]

    def _correction(self, reply: LLMReply, error: InvalidOutputError) -> list[dict[str, Any]]:
        """Return the latest invalid answer and its errors.

        Earlier answers would only make the request longer.
        """
        return [
            {"role": "assistant", "content": reply.text or "(no answer)"},
            {"role": "user", "content": self.schema.feedback(error, self.retry_guidance)},
        ]


@dataclass
class _Totals:
    """The attempts, usage and cost of all calls for one item so far."""

    attempts: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: float = 0.0

    def failure(self, error_kind: str, error: str) -> Outcome:
        """Return the outcome of an item that failed."""
        return Outcome(False, {"error": error, "error_kind": error_kind}, self.attempts, self.usage, self.cost)


def _final_failure(error: LLMError, totals: _Totals) -> Outcome:
    """Return the outcome of a call that is not repeated.

    Raises errors that every other item would also raise.
    """
    if fails_every_item(error):
        raise error
    error_kind = "timeout" if isinstance(error, LLMTimeoutError) else "llm_error"
    return totals.failure(error_kind, f"{type(error).__name__}: {error}")
