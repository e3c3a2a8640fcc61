"""The body of a chat-completions request, for endpoints that are called without litellm. Pure functions, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mnesis.llm.base import LLMRequest
from mnesis.llm.refusals import SCHEMA_NAME

CONNECTION_NAMES = frozenset({"api_base", "base_url", "api_key", "headers", "extra_headers", "timeout"})
"""Options for reaching the endpoint. The body does not contain them."""
_CLIENT_NAMES = frozenset(
    {"num_retries", "max_retries", "custom_llm_provider", "drop_params", "additional_drop_params", "ssl_verify"}
    | {"allowed_openai_params", "mock_response", "caching", "cache", "fallbacks", "metadata_tags", "extra_body"}
)
"""Options that litellm takes for itself (docs.litellm.ai/docs/completion/input)."""
_MESSAGE_FIELDS = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "prefix"}
    | {"reasoning", "reasoning_content", "reasoning_details"}
)
_CALL_FIELDS = frozenset({"id", "type", "function", "index"})
PROVIDERS = frozenset(
    [
        "anyscale",
        "aiml",
        "azure_ai",
        "baseten",
        "cerebras",
        "codestral",
        "cohere",
        "dashscope",
        "databricks",
        "deepinfra",
        "deepseek",
        "featherless_ai",
        "fireworks_ai",
        "friendliai",
        "galadriel",
        "github",
        "groq",
        "hosted_vllm",
        "huggingface",
        "hyperbolic",
        "lambda_ai",
        "litellm_proxy",
        "llamafile",
        "lm_studio",
        "meta_llama",
        "mistral",
        "moonshot",
        "morph",
        "nebius",
        "novita",
        "nscale",
        "nvidia_nim",
        "ollama",
        "ollama_chat",
        "openai",
        "openrouter",
        "ovhcloud",
        "perplexity",
        "sambanova",
        "text-completion-openai",
        "together_ai",
        "vllm",
        "volcengine",
        "wandb",
        "xai",
        "xinference",
        "zai",
    ]
)
"""Providers with an OpenAI-compatible endpoint, by litellm's names (docs.litellm.ai/docs/providers)."""
# OpenAI rejects `max_tokens` for these (platform.openai.com/docs/api-reference/chat/create, `max_completion_tokens`).
_NEEDS_COMPLETION_TOKENS = re.compile(r"(o\d|gpt-5)")


def endpoint_model(model: str) -> str:
    """Return the name of a model at its endpoint: the model string without the provider in front."""
    provider, _, name = model.partition("/")
    return name if name and provider in PROVIDERS else model


def build_body(model: str, request: LLMRequest, *, is_streamed: bool) -> dict[str, Any]:
    """Return the body of a request. The caller's options take precedence, and `extra_body` over them."""
    name = endpoint_model(model)
    limit_name = "max_completion_tokens" if _NEEDS_COMPLETION_TOKENS.match(name) else "max_tokens"
    optional = {
        limit_name: request.max_output_tokens,
        "tools": list(request.tools) or None,
        "response_format": _response_format(request.response_schema),
        "stream": is_streamed or None,
        "stream_options": {"include_usage": True} if is_streamed else None,
    }
    options = {
        key: value
        for key, value in request.options.items()
        if key not in CONNECTION_NAMES and key not in _CLIENT_NAMES and value is not None
    }
    if "max_tokens" in options or "max_completion_tokens" in options:
        del optional[limit_name]
    return {
        "model": name,
        "messages": [_clean_message(message) for message in request.messages],
        **{key: value for key, value in optional.items() if value is not None},
        **options,
        **(request.options.get("extra_body") or {}),
    }


def _response_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if schema is None or schema.get("type") != "object":
        return None
    return {"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "schema": schema, "strict": False}}


def _clean_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message without the fields in which litellm carries data of other interfaces."""
    cleaned = {name: value for name, value in message.items() if name in _MESSAGE_FIELDS}
    if calls := message.get("tool_calls"):
        cleaned["tool_calls"] = [{name: call[name] for name in call if name in _CALL_FIELDS} for call in calls]
    return cleaned
