"""Spans and metrics of OpenTelemetry. Only this file imports its API.

Names follow the semantic conventions for generative AI: docs/gen-ai/gen-ai-spans.md, gen-ai-agent-spans.md and
gen-ai-metrics.md of open-telemetry/semantic-conventions 1.41 (status: development), and the stable
docs/database/database-metrics.md. Names that they do not define begin with `mnesis.`. A test compares the names with
the constants of `opentelemetry.semconv`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from mnesis.redaction import redact
from mnesis.telemetry.hooks import Observation, Operation

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
SESSION_ID_KEY = context.create_key("mnesis-session-id")
"""Attributes of the session around an operation, with which calls of models and tools also name the conversation."""
MAX_CONTENT_CHARS = 100_000
"""Longer content is cut: exporters refuse large attributes."""

# litellm's names of providers, and the values of gen_ai.provider.name where they differ.
PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_KINDS: Mapping[Operation, SpanKind] = {"model call": SpanKind.CLIENT}
_OPERATION_NAMES: Mapping[Operation, str] = {
    "turn": "invoke_agent",
    "model call": "chat",
    "tool": "execute_tool",
    "search": "retrieval",
}
# The attribute of each fact. Other facts are not attributes.
ATTRIBUTES = {
    "session_id": "gen_ai.conversation.id",
    "agent": "gen_ai.agent.name",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "response_model": "gen_ai.response.model",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "is_streamed": "gen_ai.request.stream",
    "tool": "gen_ai.tool.name",
    "tool_call_id": "gen_ai.tool.call.id",
    "purpose": "mnesis.purpose",
    "cost": "mnesis.cost",
    "context_tokens": "mnesis.context.tokens",
    "trigger": "mnesis.compaction.trigger",
    "level": "mnesis.compaction.level",
    "folded_messages": "mnesis.compaction.messages",
    "tokens_before": "mnesis.compaction.tokens_before",
    "tokens_after": "mnesis.compaction.tokens_after",
    "hits": "mnesis.search.hits",
    "mode": "mnesis.search.mode",
    "run_id": "mnesis.map.run_id",
    "index": "mnesis.map.index",
    "kind": "mnesis.map.kind",
    "attempts": "mnesis.map.attempts",
    "success": "mnesis.map.success",
    "is_error": "mnesis.tool.is_error",
}
CONTENT_ATTRIBUTES = {
    "input_messages": "gen_ai.input.messages",
    "output_messages": "gen_ai.output.messages",
    "arguments": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
    "query": "gen_ai.retrieval.query.text",
}
"""Recorded on request only."""


class OtelObserver:
    """Records operations as spans and metrics of the given providers; None means the global ones."""

    def __init__(self, *, content: bool, tracer_provider: Any, meter_provider: Any) -> None:
        self.content = content
        self.tracer = trace.get_tracer("mnesis", None, tracer_provider, SCHEMA_URL)
        meter = metrics.get_meter("mnesis", "", meter_provider, SCHEMA_URL)
        self.duration = meter.create_histogram("gen_ai.client.operation.duration", "s", "Duration of model calls.")
        self.usage = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of model calls.")
        self.cached = meter.create_histogram("mnesis.cache.tokens", "{token}", "Input tokens read from the cache.")
        self.hit_share = meter.create_histogram("mnesis.cache.hit_share", "1", "Part of the input read from the cache.")
        self.context = meter.create_histogram("mnesis.context.tokens", "{token}", "Size of the context after a turn.")
        self.compaction = meter.create_histogram("mnesis.compaction.duration", "s", "Duration of compactions.")
        self.store = meter.create_histogram("db.client.operation.duration", "s", "Duration of store operations.")

    def start(self, operation: Operation, facts: dict[str, Any]) -> Observation:
        """Return the observation of an operation. The store is measured without spans, because it is called so
        often.
        """
        return _StoreTimer(self, facts) if operation == "store" else _Span(self, operation, facts)


class _StoreTimer(Observation):
    """The time of one operation of the store."""

    __slots__ = ("_facts", "_observer", "_started")

    def __init__(self, observer: OtelObserver, facts: dict[str, Any]) -> None:
        self._observer, self._facts = observer, facts

    def __enter__(self) -> Observation:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        attributes = {"db.system.name": self._facts["system"], "db.operation.name": self._facts["operation"]}
        if error is not None:
            attributes["error.type"] = _error_type(error)
        self._observer.store.record(time.perf_counter() - self._started, attributes)


class _Span(Observation):
    """An operation with a span, which is the current one within the `with` block."""

    __slots__ = ("_facts", "_observer", "_operation", "_span", "_started", "_token")

    is_recorded = True

    def __init__(self, observer: OtelObserver, operation: Operation, facts: dict[str, Any]) -> None:
        self._observer, self._operation, self._facts = observer, operation, facts

    def __enter__(self) -> Observation:
        self.begin()
        self._token = context.attach(self._context())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        context.detach(self._token)
        self.finish(error)

    def begin(self) -> Observation:
        self._started = time.perf_counter()
        self._facts.setdefault("session_id", context.get_value(SESSION_ID_KEY))
        kind = _KINDS.get(self._operation, SpanKind.INTERNAL)
        name = _span_name(self._operation, self._facts)
        self._span = self._observer.tracer.start_span(name, _parent_context(), kind=kind)
        return self

    def _context(self) -> Context:
        current = trace.set_span_in_context(self._span)
        return context.set_value(SESSION_ID_KEY, self._facts["session_id"], current)

    @contextmanager
    def _activate(self) -> Any:
        token = context.attach(self._context())
        try:
            yield self
        finally:
            context.detach(token)

    def current(self) -> Any:
        return self._activate()

    def set(self, **facts: Any) -> None:
        self._facts.update(facts)

    def finish(self, error: BaseException | None = None) -> None:
        seconds = time.perf_counter() - self._started
        attributes = self._attributes()
        if error is not None:
            attributes["error.type"] = _error_type(error)
            # The text of an error may repeat content.
            description = redact(str(error)) if self._observer.content else None
            if not isinstance(error, asyncio.CancelledError):
                self._span.set_status(Status(StatusCode.ERROR, description))
        elif self._facts.get("is_error") or self._facts.get("success") is False:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attributes(attributes)
        self._span.end()
        self._measure(seconds, attributes)

    def _attributes(self) -> dict[str, Any]:
        facts = self._facts
        attributes = {
            ATTRIBUTES[name]: value for name, value in facts.items() if name in ATTRIBUTES and value is not None
        }
        if self._operation in _OPERATION_NAMES:
            attributes["gen_ai.operation.name"] = _OPERATION_NAMES[self._operation]
        if model := facts.get("model"):
            attributes["gen_ai.provider.name"], attributes["gen_ai.request.model"] = split_model(model)
        if (usage := facts.get("usage")) is not None:
            attributes |= _usage_attributes(usage)
        if self._observer.content:
            attributes |= {
                CONTENT_ATTRIBUTES[name]: _content(value) for name, value in facts.items() if name in CONTENT_ATTRIBUTES
            }
        return attributes

    def _measure(self, seconds: float, attributes: Mapping[str, Any]) -> None:
        observer, facts = self._observer, self._facts
        if self._operation == "model call":
            names = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")
            labels = {name: attributes[name] for name in (*names, "error.type", "mnesis.purpose") if name in attributes}
            observer.duration.record(seconds, labels)
            if (usage := facts.get("usage")) is not None:
                observer.usage.record(usage.request_tokens, {**labels, "gen_ai.token.type": "input"})
                observer.usage.record(usage.output, {**labels, "gen_ai.token.type": "output"})
                observer.cached.record(usage.cache_read, labels)
                observer.hit_share.record(usage.cached_fraction, labels)
        elif self._operation == "compaction":
            kept = ("mnesis.compaction.level", "mnesis.compaction.trigger", "error.type")
            observer.compaction.record(seconds, {name: attributes[name] for name in kept if name in attributes})
        elif self._operation == "turn" and "context_tokens" in facts:
            labels = {name: attributes[name] for name in ("gen_ai.request.model",) if name in attributes}
            observer.context.record(facts["context_tokens"], labels)


def _parent_context() -> Context | None:
    """Return the context of the newest span around a call. None means the current context.

    OpenInference's instrumentation of LangChain does not make its spans current. Its `get_current_span()` returns the one of
    the runnable that runs (README of openinference-instrumentation-langchain).
    """
    instrumentation = sys.modules.get("openinference.instrumentation.langchain")
    find_span = getattr(instrumentation, "get_current_span", None)
    if find_span is None:
        return None
    try:
        span = find_span()
    except Exception:  # the application made LangChain's context, and tracing must not stop a call
        return None
    current = trace.get_current_span()
    if span is None or getattr(current, "start_time", 0) > getattr(span, "start_time", 0):
        return None
    return trace.set_span_in_context(span)


def split_model(model: str) -> tuple[str, str]:
    """Return the provider, as the conventions call it, and the model of a litellm model string."""
    provider, separator, name = model.partition("/")
    return (PROVIDERS.get(provider, provider), name) if separator else ("unknown", model)


def _span_name(operation: Operation, facts: Mapping[str, Any]) -> str:
    """Return the name of a span: the operation and its target, as the conventions recommend."""
    name = _OPERATION_NAMES.get(operation, operation.replace(" ", "_"))
    subject = {
        "turn": facts.get("agent"),
        "model call": split_model(str(facts.get("model", "")))[1],
        "tool": facts.get("tool"),
    }.get(operation)
    return f"{name} {subject}" if subject else name


def _usage_attributes(usage: Any) -> dict[str, Any]:
    """Return the attributes of a `TokenUsage`. The conventions count cached tokens as input too."""
    attributes = {"gen_ai.usage.input_tokens": usage.request_tokens, "gen_ai.usage.output_tokens": usage.output}
    optional = {
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }
    return attributes | {name: value for name, value in optional.items() if value}


def _error_type(error: BaseException) -> str:
    return type(error).__name__


def _content(value: object) -> str:
    """Return content as redacted text: a string unchanged, anything else as JSON."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = [_conventional(message) if isinstance(message, Mapping) else message for message in value]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return redact(text[:MAX_CONTENT_CHARS])


def _conventional(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat-completions message in the form of gen_ai.input.messages: a role and parts."""
    parts: list[dict[str, Any]] = []
    content = message.get("content")
    if message.get("role") == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "result": content})
    elif isinstance(content, str):
        parts.append({"type": "text", "content": content})
    else:
        parts += [_conventional_block(block) for block in content or ()]
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        arguments = function.get("arguments")
        parts.append({"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": arguments})
    return {"role": message.get("role"), "parts": parts}


def _conventional_block(block: Any) -> dict[str, Any]:
    if isinstance(block, Mapping) and isinstance(block.get("text"), str):
        return {"type": "text", "content": block["text"]}
    return {"type": str(block.get("type")) if isinstance(block, Mapping) else "unknown"}
