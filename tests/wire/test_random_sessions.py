"""Random sessions across all providers: whatever happens, no strict server rejects a request."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnesis.errors import LLMError
from mnesis.models.message import ImagePart
from tests.support.providers.strict_server import Failure, Reply, StrictServer, ToolCall
from tests.support.strict_session import MODELS, THINKING, strict_server, talking_to, weather

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ACTIONS = st.sampled_from(["plain", "think", "parallel", "loop", "image", "interrupted", "compact"])
STEPS = st.lists(st.tuples(st.sampled_from(sorted(MODELS)), ACTIONS), min_size=2, max_size=6)


def script_of(action: str) -> list[Reply | Failure]:
    calls = tuple(ToolCall("weather", {"city": f"City {n}"}) for n in range(3))
    return {
        "think": [Reply("Right.", "Let me think.")],
        "parallel": [Reply("Looking.", "Hm.", calls), Reply("Done.", "So.")],
        "loop": [Reply("", "One.", calls[:1]), Reply("Two.", "", calls[:2]), Reply("Done.")],
        "interrupted": [Reply("Looking.", "Hm.", calls), Failure(400, "broken")],
    }.get(action, [Reply("OK.")])


async def act(server: StrictServer, db: Path, action: str) -> None:
    options: dict[str, Any] = {"thinking": THINKING} if server.flavour == "anthropic" else {}  # type: ignore[attr-defined]
    async with talking_to(
        server, db, options=options, compaction_model=lambda messages: "They spoke. " * 20
    ) as session:
        if action == "compact":
            await session.compact()
        server.script(*script_of(action))
        can_see = action == "image" and server.flavour in ("anthropic", "gemini", "openai", "azure")
        content = ["What is this?", ImagePart(data=PIXEL)] if can_see else f"question {action} " * 20
        with contextlib.suppress(LLMError) if action == "interrupted" else contextlib.nullcontext():
            await session.send(content, tools=[weather])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_random_sessions_across_providers_are_never_rejected(steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(strict_server(name)) for name in {name for name, _ in steps}}
            for name, action in steps:
                await act(servers[name], Path(directory, "db"), action)
            assert [fault for server in servers.values() for fault in server.rejections] == []

    asyncio.run(run())
