"""Sessions that talk to the strict provider servers through the real litellm client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mnesis import Engine, MnesisConfig, MnesisSession, SessionConfig
from mnesis.config import CompactionConfig, RecallConfig
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_bedrock import StrictBedrock
from tests.support.providers.strict_chat_completions import StrictChatCompletions
from tests.support.providers.strict_gemini import StrictGemini
from tests.support.providers.strict_responses import StrictResponses
from tests.support.providers.strict_server import StrictServer
from tests.support.providers.strict_vertex import StrictVertexAnthropic, StrictVertexGemini

MODELS = {
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-3-pro-preview",
    "openai": "gpt-5-mini",
    "azure": "gpt-4o",
    "openrouter": "anthropic/claude-sonnet-4.5",
    "xai": "grok-4",
    "deepseek": "deepseek-reasoner",
    "moonshot": "kimi-k2-thinking",
    "mistral": "mistral-large-latest",
    "alternating": "gemma-3-12b-it",
    "ollama": "qwen3:8b",
}
"""A model of each strict server."""

CLOUD_MODELS = {
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "nova": "amazon.nova-pro-v1:0",
    "vertex-anthropic": "claude-sonnet-4-5",
    "vertex-gemini": "gemini-3-pro-preview",
}
"""A model of each strict server of a cloud that hosts models of several makers. litellm needs botocore or google-auth for them."""

RESPONSES_MODELS = {"responses": "gpt-5-mini", "azure-responses": "gpt-5-mini", "xai-responses": "grok-4"}
"""A model of each strict server of the Responses API."""

CLAUDES = ("anthropic", "bedrock", "vertex-anthropic")

EPOCH_SECONDS = 1_750_000_000
"""What the engine's clock shows when the server's shows 0."""

THINKING = {"type": "enabled", "budget_tokens": 1_024}


def strict_server(provider: str, *script: Any, **options: Any) -> StrictServer:
    """Start the strict server of a provider. Signatures of Claude hold on all its platforms (Claude docs, extended thinking)."""
    if provider in CLAUDES:
        options.setdefault("secret", "claude")
    if provider == "anthropic":
        return StrictAnthropic(*script, **options)
    if provider == "gemini":
        return StrictGemini(*script, **options)
    if provider in ("bedrock", "nova"):
        return StrictBedrock(*script, flavour=provider, **options)
    if provider == "vertex-anthropic":
        return StrictVertexAnthropic(*script, **options)
    if provider == "vertex-gemini":
        return StrictVertexGemini(*script, **options)
    if provider in RESPONSES_MODELS:
        return StrictResponses(provider, *script, **options)
    return StrictChatCompletions(provider, *script, **options)


def model_of(server: Any) -> str:
    """Return the model string with which litellm reaches a server."""
    return str(server.model((MODELS | CLOUD_MODELS | RESPONSES_MODELS)[server.flavour]))


@asynccontextmanager
async def talking_to(
    server: StrictServer,
    db: Path,
    *,
    id: str = "wire",
    model: str | None = None,
    options: dict[str, Any] | None = None,
    system_prompt: str | None = None,
    context_limit: int = 200_000,
    dialect: str | None = None,
    auto: bool = False,
    compaction_model: Any = None,
    compaction: dict[str, Any] | None = None,
    **session_fields: Any,
) -> AsyncIterator[MnesisSession]:
    """Open or continue session `id` with a server's model. The session is closed at the end."""
    config = MnesisConfig(
        model_overrides={"context_limit": context_limit, "max_output_tokens": 2_000, "dialect": dialect},  # type: ignore[arg-type]  # a dict is accepted
        compaction=CompactionConfig(auto=auto, compaction_model=compaction_model, **(compaction or {})),
        recall=RecallConfig(tools=False),
        session=SessionConfig(llm_options=server.options | (options or {}), **session_fields),
    )
    model = model or model_of(server)
    fields = {"system_prompt": system_prompt} if system_prompt is not None else {}
    async with (
        Engine(db, clock=lambda: EPOCH_SECONDS + server.clock()) as engine,
        MnesisSession.open(model=model, session_id=id, engine=engine, config=config, **fields) as session,
    ):
        yield session


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"Sunny in {city}."
