"""Random sessions across all providers: whatever happens, requests are accepted, paired, marked sparingly and keep their prefix."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnesis import Engine
from mnesis.errors import LLMError
from mnesis.models.message import ImagePart
from tests.support.providers.strict_server import Failure, ProviderRequest, Reply, StrictServer, ToolCall, dump
from tests.support.samples import sampled
from tests.support.strict_session import CLAUDES, CLOUD_MODELS, MODELS, THINKING, strict_server, talking_to, weather

pytest.importorskip("botocore", reason="litellm needs botocore for Bedrock")
pytest.importorskip("google.auth", reason="litellm needs google-auth for Vertex AI")

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ACTIONS = st.sampled_from(["plain", "think", "parallel", "loop", "image", "interrupted", "compact", "streamed", "long"])
STEPS = st.lists(st.tuples(st.sampled_from(sorted(MODELS | CLOUD_MODELS)), ACTIONS), min_size=2, max_size=7)
SEES_IMAGES = ("anthropic", "gemini", "openai", "azure", *CLOUD_MODELS)
CHANGES_CONTEXT = ("compact", "long")
SENDS_CHAT_MESSAGES = ("openai", "azure", "openrouter", "xai", "deepseek", "moonshot", "mistral")


def script_of(action: str) -> list[Reply | Failure]:
    calls = tuple(ToolCall("weather", {"city": f"City {n}"}) for n in range(3))
    return {
        "think": [Reply("Right.", "Let me think.")],
        "parallel": [Reply("Looking.", "Hm.", calls), Reply("Done.", "So.")],
        "streamed": [Reply("Looking.", "Hm.", calls[:2]), Reply("Done.", "So.")],
        "loop": [Reply("", "One.", calls[:1]), Reply("Two.", "", calls[:2]), Reply("Done.")],
        "interrupted": [Reply("Looking.", "Hm.", calls), Failure(400, "broken")],
    }.get(action, [Reply("OK.")])


async def act(server: StrictServer, db: Path, action: str) -> None:
    """Resume the session with the server's model, and take one turn. Afterwards the session is closed."""
    options: dict[str, Any] = {"thinking": THINKING} if flavour_of(server) in CLAUDES else {}
    compaction = {"prune_protect_tokens": 20, "prune_minimum_tokens": 10}
    async with talking_to(
        server, db, options=options, compaction_model=lambda messages: "They spoke. " * 20, compaction=compaction
    ) as session:
        if action in CHANGES_CONTEXT:
            await session.compact(keep_tokens=200 if action == "long" else None)
        server.script(*script_of(action))
        can_see = action == "image" and flavour_of(server) in SEES_IMAGES
        content = ["What is this?", ImagePart(data=PIXEL)] if can_see else f"question {action} " * 20
        with contextlib.suppress(LLMError) if action == "interrupted" else contextlib.nullcontext():
            if action == "streamed":
                async for _ in session.stream(content, tools=[weather]):
                    pass
            else:
                await session.send(content, tools=[weather])


def flavour_of(server: StrictServer) -> str:
    return str(server.flavour)  # type: ignore[attr-defined]  # every provider's server has one


def check_pairs(messages: list[dict[str, Any]]) -> None:
    """Check that each tool call has one result, directly after the message that makes it, and each result a call."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
            continue
        assert waiting == []
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
        assert len(set(waiting)) == len(waiting)
    assert waiting == []


def blocks(request: ProviderRequest) -> list[str]:
    """Return the conversation of a request as a flat list of blocks with their roles, without cache marks."""
    flat: list[str] = []
    for message in request.body.get("messages") or request.body.get("contents") or []:
        if message["role"] == "system":
            continue
        content = message.get("content", message.get("parts")) or []
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        rest = {key: message[key] for key in message if key not in ("role", "content", "parts", "tool_calls")}
        for part in [rest, *parts, *(message.get("tool_calls") or ())]:
            plain = {key: value for key, value in part.items() if key not in ("cache_control", "cachePoint")}
            if plain:
                flat.append(f"{message['role']} {dump(plain)}")
    return flat


def check_prefix(earlier: ProviderRequest, later: ProviderRequest) -> None:
    """Check that a request begins with the one before. Its last block may have grown, where neighbors are merged."""
    before, after = blocks(earlier), blocks(later)
    assert after[: len(before) - 1] == before[:-1]
    assert after[len(before) - 1].startswith(before[-1].rstrip('"}'))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=sampled(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_random_sessions_across_providers_keep_every_law(steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
            db = Path(directory, "db")
            servers = {name: stack.enter_context(strict_server(name)) for name in {name for name, _ in steps}}
            newest: dict[str, ProviderRequest] = {}
            for name, action in steps:
                if action in CHANGES_CONTEXT:
                    newest.clear()
                known = len(servers[name].requests)
                await act(servers[name], db, action)
                for request in servers[name].requests[known:]:
                    assert sum(dump(request.body).count(mark) for mark in ('"cache_control"', '"cachePoint"')) <= 4
                    if name in SENDS_CHAT_MESSAGES:
                        check_pairs(request.messages)
                    if name in newest:
                        check_prefix(newest[name], request)
                    newest[name] = request
            assert [fault for server in servers.values() for fault in server.rejections] == []
            async with Engine(db) as engine:
                assert await engine.store.check() == []

    asyncio.run(run())
