"""A compaction inside a tool loop keeps the thinking that Claude demands at the beginning of the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.providers.strict_server import Reply, ToolCall
from tests.support.strict_session import THINKING, strict_server, talking_to

pytestmark = pytest.mark.filterwarnings("ignore::mnesis.context.budget.SmallModelWarning")
STEPS = 24


def read(page: int) -> str:
    """Read a page."""
    return f"Page {page}: " + f"line of page {page}. " * 120


def steps(*, every_step_thinks: bool) -> list[Reply]:
    return [
        Reply(f"Page {n}.", f"Thought {n}." if every_step_thinks or n == 0 else "", (ToolCall("read", {"page": n}),))
        for n in range(STEPS)
    ]


@pytest.mark.parametrize("every_step_thinks", [False, True])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-5"])
async def test_a_fold_in_a_loop_keeps_its_thinking(tmp_path: Path, every_step_thinks: bool, model: str) -> None:
    with strict_server("anthropic", enable=["roles-alternate"]) as server:
        chosen: dict[str, Any] = {"model": server.model(model), "context_limit": 12_000, "auto": True}  # type: ignore[attr-defined]
        options = {"thinking": THINKING}
        # The summarizer's own budget is not the subject here.
        chosen["compaction_model"] = lambda messages: "Pages were read. " * 20
        async with talking_to(server, tmp_path / "db", options=options, max_tool_rounds=40, **chosen) as session:
            await session.send("Hello")
            _script_turns(server, steps(every_step_thinks=every_step_thinks))
            result = await session.send("Read it all, please.", tools=[read])
            assert result.text == "All read."
            assert await session.summaries()
        turns = [r for r in server.requests if "tools" in r.body and "thinking" in r.body]
        assert len(turns) > STEPS // 2, "thinking stays on after the fold"
        assert server.rejections == []


def _script_turns(server: Any, replies: list[Reply]) -> None:
    """Answer requests with tools from the script, and summarizer calls, which come between, with a summary."""
    pending = [*replies, Reply("All read.")]

    respond = server.respond

    def answer(request: Any) -> Any:
        if request.body.get("tools"):
            server.pending_answers[:] = [pending[0]]
            response = respond(request)
            if not server.pending_answers:
                pending.pop(0)
            server.pending_answers.clear()
            return response
        return respond(request)

    server.respond = answer
