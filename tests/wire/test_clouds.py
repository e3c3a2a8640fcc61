"""Bedrock and Vertex AI accept the requests of a session, with the authentication of each cloud, and cache what it marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnesis.errors import LLMError
from mnesis.models.message import ImagePart, ToolPart
from tests.support.providers.strict_bedrock import StrictBedrock
from tests.support.providers.strict_server import Failure, ProviderRequest, Reply, ToolCall, dump
from tests.support.strict_session import CLAUDES, CLOUD_MODELS, THINKING, strict_server, talking_to, weather

pytest.importorskip("botocore", reason="litellm needs botocore for Bedrock")
pytest.importorskip("google.auth", reason="litellm needs google-auth for Vertex AI")

PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})
LOOP = (Reply("Looking.", "I should look.", (PARIS, ROME)), Reply("", "Another.", (PARIS,)), Reply("Sunny.", "Good."))
OTHERS = ("anthropic", "openai", "gemini", "deepseek", "mistral")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def options_for(provider: str) -> dict[str, Any]:
    return {"thinking": THINKING} if provider in CLAUDES else {}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("provider", CLOUD_MODELS)
async def test_tool_loops_on_a_cloud_are_accepted(tmp_path: Path, provider: str, streams: bool) -> None:
    with strict_server(provider, *LOOP, *LOOP) as server:
        async with talking_to(
            server, tmp_path / "db", options=options_for(provider), system_prompt="Be kind."
        ) as session:
            for question in ("Weather?", "And now?"):
                if streams:
                    events = [event async for event in session.stream(question, tools=[weather])]
                    assert events[-1].result.text == "Sunny."  # type: ignore[union-attr]  # the last event has the result
                else:
                    assert (await session.send(question, tools=[weather])).text == "Sunny."
            await session.send("Without tools.")
            assert session.token_usage.output > 0
        assert server.rejections == []
        assert len(server.requests) == 7
        if provider in CLAUDES:
            assert dump(server.requests[-2].body).count(server.sign("I should look.")) == 2


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("cloud", CLOUD_MODELS)
async def test_a_session_moves_to_a_cloud_and_back_in_tool_histories(tmp_path: Path, cloud: str, other: str) -> None:
    """Half of the pairs begin in the cloud, half elsewhere. The first part ends inside a tool loop."""
    starts_in_cloud = (list(CLOUD_MODELS).index(cloud) + OTHERS.index(other)) % 2 == 0
    first, second = (cloud, other) if starts_in_cloud else (other, cloud)
    db = tmp_path / "db"
    with strict_server(first, *LOOP, LOOP[0], Failure(400, "broken")) as one, strict_server(second, *LOOP) as two:
        async with talking_to(one, db, options=options_for(first)) as session:
            await session.send("Weather?", tools=[weather])
            with pytest.raises(LLMError):
                await session.send("And now?", tools=[weather])
        async with talking_to(two, db, options=options_for(second)) as session:
            assert (await session.send("Go on.", tools=[weather])).text == "Sunny."
        one.script(*LOOP)
        async with talking_to(one, db, options=options_for(first)) as session:
            await session.compact(keep_tokens=100)
            assert (await session.send("Again.", tools=[weather])).text == "Sunny."
        assert [*one.rejections, *two.rejections] == []


async def test_signatures_of_claude_hold_on_all_its_platforms(tmp_path: Path) -> None:
    servers = [strict_server(name, *LOOP) for name in CLAUDES]
    for server in servers:
        async with talking_to(server, tmp_path / "db", options={"thinking": THINKING}) as session:
            assert (await session.send("Weather?", tools=[weather])).text == "Sunny."
        assert server.rejections == []
    assert dump(servers[-1].requests[0].body).count(servers[-1].sign("I should look.")) == 2
    for server in servers:
        server.close()


def marks_of(request: ProviderRequest) -> int:
    body = dump(request.body)
    return body.count('"cachePoint"') + body.count('"cache_control"')


@pytest.mark.parametrize("lifetime", ["5m", "1h"])
@pytest.mark.parametrize("provider", ["bedrock", "vertex-anthropic"])
async def test_claude_on_a_cloud_reads_its_prompt_from_the_cache(tmp_path: Path, provider: str, lifetime: str) -> None:
    calls = tuple(ToolCall("weather", {"city": f"City {n}"}) for n in range(15))
    loop = (Reply("Looking.", "Hm.", calls), Reply("Sunny."))
    with strict_server(provider, *loop * 6) as server:
        async with talking_to(
            server,
            tmp_path / "db",
            options={"thinking": THINKING},
            system_prompt="Rules. " * 3_000,
            prompt_cache=lifetime,
        ) as session:
            for turn in range(6):
                await session.send(f"question {turn} " * 100, tools=[weather])
            usage = session.token_usage
        assert server.rejections == []
        assert all(1 <= marks_of(request) <= 4 for request in server.requests)
        assert usage.cache_read > 0.8 * (usage.input + usage.cache_read + usage.cache_write)
        assert ('"ttl":"1h"' in dump(server.requests[-1].body)) is (lifetime == "1h")


@pytest.mark.parametrize("provider", ["bedrock", "vertex-anthropic"])
async def test_an_image_of_a_tool_reaches_claude_inside_the_result(tmp_path: Path, provider: str) -> None:
    call = ToolPart(tool_name="look", tool_call_id="tooluse_1", output_parts=(ImagePart(data=PIXEL),))
    with strict_server(provider) as server:
        async with talking_to(server, tmp_path / "db") as session:
            await session.record(["What is it?", ImagePart(data=PIXEL)], [call])
            await session.send("Well?", tools=[weather])
        assert server.rejections == []
        (result,) = [
            block
            for _, blocks in server.inspect(server.requests[0]).turns
            for block in blocks
            if block["type"] == "tool_result"
        ]
        assert [block["type"] for block in result["content"]] == ["image"]


async def test_bedrock_refuses_a_request_with_a_wrong_key(tmp_path: Path) -> None:
    with strict_server("bedrock") as server:
        async with talking_to(server, tmp_path / "db", options={"aws_secret_access_key": "wrong"}) as session:
            with pytest.raises(LLMError):
                await session.send("Hello")
        assert [fault.rule for fault in server.rejections] == ["signature"]


@pytest.mark.parametrize("status", [400, 403])
async def test_a_bedrock_model_without_a_prompt_cache_gets_no_marks(tmp_path: Path, status: int) -> None:
    refusal = Failure(status, "You invoked an unsupported model or your request did not allow prompt caching.")

    class WithoutCache(StrictBedrock):
        """A model that has no cache (cline/cline#2064, strands-agents/harness-sdk#1807)."""

        def _first_fault(self, request: ProviderRequest) -> Failure | None:
            return refusal if marks_of(request) else super()._first_fault(request)

    with WithoutCache() as server:
        async with talking_to(server, tmp_path / "db", system_prompt="Rules. " * 3_000) as session:
            for _ in range(2):
                assert (await session.send("Hello")).text == "OK."


async def test_a_loop_whose_thinking_is_refused_goes_on_without(tmp_path: Path) -> None:
    """Signatures hold on all platforms of Claude by its documentation; an endpoint that refuses them is still answered."""
    with strict_server("bedrock", LOOP[0], Failure(400, "broken")) as one:
        async with talking_to(one, tmp_path / "db", options={"thinking": THINKING}) as session:
            with pytest.raises(LLMError):
                await session.send("Weather?", tools=[weather])
    with strict_server("anthropic", *LOOP[1:], secret="another") as other:
        async with talking_to(other, tmp_path / "db", options={"thinking": THINKING}) as session:
            assert (await session.retry(tools=[weather])).text == "Sunny."
        assert [fault.rule for fault in other.rejections] == ["thinking-signature"]
