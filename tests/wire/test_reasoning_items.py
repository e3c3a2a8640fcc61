"""Reasoning items of the Responses API go back to OpenAI, Azure and xAI, and to nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis.errors import LLMError
from tests.support.providers.strict_responses import StrictResponses
from tests.support.providers.strict_server import Failure, ProviderRequest, Reply, Response, ToolCall, dump
from tests.support.strict_session import RESPONSES_MODELS, strict_server, talking_to, weather

PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})
LOOP = (Reply("Looking.", "I should look.", (PARIS, ROME)), Reply("", "Another.", (PARIS,)), Reply("Sunny.", "Good."))


def reasoning_ids(request: Any) -> list[str]:
    return [item["id"] for item in request.body["input"] if item["type"] == "reasoning"]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("provider", RESPONSES_MODELS)
async def test_own_reasoning_items_go_back_in_order(tmp_path: Path, provider: str, streams: bool) -> None:
    with strict_server(provider, *LOOP, *LOOP) as server:
        async with talking_to(server, tmp_path / "db", system_prompt="Be kind.") as session:
            for question in ("Weather?", "And now?"):
                if streams:
                    events = [event async for event in session.stream(question, tools=[weather])]
                    assert events[-1].result.text == "Sunny."  # type: ignore[union-attr]  # the last event has the result
                else:
                    assert (await session.send(question, tools=[weather])).text == "Sunny."
        assert server.rejections == []
        issued = list(server.issued)  # type: ignore[attr-defined]  # this server keeps what it issued
        assert [reasoning_ids(request) for request in server.requests] == [issued[:n] for n in range(6)]


@pytest.mark.parametrize("other", ["anthropic", "openai", "openrouter", "gemini", "xai", "deepseek", "azure-responses"])
async def test_reasoning_items_stay_with_their_model(tmp_path: Path, other: str) -> None:
    """There and back, in both directions, once from inside a tool loop."""
    for first, second in (("responses", other), (other, "responses")):
        db = tmp_path / f"{first}.db"
        with strict_server(first, *LOOP, LOOP[0], Failure(400, "broken")) as one, strict_server(second, *LOOP) as two:
            async with talking_to(one, db) as session:
                await session.send("Weather?", tools=[weather])
                with pytest.raises(LLMError):
                    await session.send("And now?", tools=[weather])
            async with talking_to(two, db) as session:
                assert (await session.send("Go on.", tools=[weather])).text == "Sunny."
            one.script(*LOOP)
            async with talking_to(one, db) as session:
                await session.compact(keep_tokens=100)
                assert (await session.send("Again.", tools=[weather])).text == "Sunny."
            assert [*one.rejections, *two.rejections] == []
            if first == "responses":
                assert not [item for item in one.issued if item in dump([r.body for r in two.requests])]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("provider", "name"), [("responses", "gpt-5.4"), ("azure-responses", "gpt-5.4")])
async def test_reasoning_items_go_back_where_litellm_chooses_the_api(tmp_path: Path, provider: str, name: str) -> None:
    """litellm sends requests with tools of these models to the Responses API, and others to chat completions."""

    class BothApis(StrictResponses):
        """Answers chat completions as well, and refuses reasoning items there."""

        def side_request(self, request: ProviderRequest) -> Response | None:
            if not request.path.split("?")[0].endswith("/chat/completions"):
                return super().side_request(request)
            chat_requests.append(request)
            if "reasoning_items" in dump(request.body):
                return Response(400, self.error(Failure(400, "Unknown parameter: 'messages[1].reasoning_items'.")))
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Bye."}}
            usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
            head = {"id": "c", "object": "chat.completion", "created": 1, "model": request.model}
            return Response(200, {**head, "choices": [choice], "usage": usage})

    chat_requests: list[ProviderRequest] = []
    with BothApis(provider, *LOOP, LOOP[2], route="") as server:
        model, options = server.model(name), {"reasoning_effort": "low"}
        async with talking_to(server, tmp_path / "db", model=model, options=options) as session:
            await session.send("Weather?", tools=[weather])
            assert (await session.send("Without tools.")).text == "Bye."
            await session.send("With tools again.", tools=[weather])
            shown = await session.context_for_next_turn(provider="litellm")
            assert "reasoning_items" not in str(shown), "the caller's own request may be one of chat completions"
        assert server.rejections == []
        assert [reasoning_ids(request) for request in server.requests[1:]] == [
            list(server.issued)[:n] for n in (1, 2, 3)
        ]
        assert len(chat_requests) == 1


async def test_reasoning_that_expired_at_the_provider_is_left_out(tmp_path: Path) -> None:
    with strict_server("responses", *LOOP, Reply("Fine.")) as server:
        async with talking_to(server, tmp_path / "db") as session:
            await session.send("Weather?", tools=[weather])
            server.issued.clear()  # type: ignore[attr-defined]  # this server keeps what it issued
            assert (await session.send("And now?", tools=[weather])).text == "Fine."
        assert [fault.rule for fault in server.rejections] == ["reasoning-unknown"]
        assert reasoning_ids(server.requests[-1]) == []
