"""Images and files that a model cannot read leave a text behind, and never end a session."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mnesis.models.message import FilePart, ImagePart, TextPart
from tests.support.providers.strict_chat_completions import StrictChatCompletions
from tests.support.providers.strict_server import Failure, ProviderRequest, Reply, ToolCall, dump
from tests.support.strict_session import strict_server, talking_to

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = FilePart(name="plan.pdf", media_type="application/pdf", data="JVBERi0xLjQ=")


class TextOnly(StrictChatCompletions):
    """An endpoint without vision. `refusal` is its own error."""

    refusal = Failure(400, "")

    def _first_fault(self, request: ProviderRequest) -> Failure | None:
        return self.refusal if "image_url" in dump(request.body) else super()._first_fault(request)


@pytest.mark.parametrize(
    ("flavour", "refusal"),
    [
        ("openai", Failure(400, "Invalid content type. image_url is only supported by certain models.")),
        ("openrouter", Failure(404, "No endpoints found that support image input")),
        ("moonshot", Failure(400, "messages[1]: unknown variant `image_url`, expected `text`")),
        ("alternating", Failure(400, "invalid type: sequence, expected a string at line 1")),
        ("xai", Failure(400, "This model does not support images")),
    ],
)
async def test_refused_images_become_text_and_one_warning(
    tmp_path: Path, flavour: str, refusal: Failure, caplog: pytest.LogCaptureFixture
) -> None:
    with TextOnly(flavour) as server, caplog.at_level(logging.WARNING):
        server.refusal = refusal  # type: ignore[misc]
        async with talking_to(server, tmp_path / "db") as session:
            for question in (["What is it?", ImagePart(data=PIXEL)], "And now?"):
                assert (await session.send(question)).text == "OK."
            assert any(isinstance(part, ImagePart) for part in (await session.messages())[0].parts)
        assert server.rejections == []
        assert "image, which this model cannot see" in dump(server.requests[-1].body)
    assert len([record for record in caplog.records if "rejected the images" in record.getMessage()]) == 1


async def test_deepseek_is_told_of_images_that_it_cannot_see(tmp_path: Path) -> None:
    """litellm's route drops images without a word."""
    with strict_server("anthropic") as one, strict_server("deepseek") as other:
        async with talking_to(one, tmp_path / "db") as session:
            await session.send(["What is it?", ImagePart(data=PIXEL)])
        async with talking_to(other, tmp_path / "db") as session:
            assert (await session.send("Go on.")).text == "OK."
        assert other.rejections == []
        assert "[image image/png]" in dump(other.requests[0].body)


async def test_a_file_of_a_tool_that_the_model_cannot_read_is_named(tmp_path: Path) -> None:
    """litellm refuses a PDF for Ollama before it sends anything."""

    def read() -> list[Any]:
        """Read the plan."""
        return [TextPart(text="Here it is."), PDF]

    with strict_server("ollama", Reply("", calls=(ToolCall("read"),)), Reply("Fine."), Reply("Sure.")) as server:
        async with talking_to(server, tmp_path / "db") as session:
            assert (await session.send("Read it.", tools=[read])).text == "Fine."
            assert (await session.send("And now?")).text == "Sure."
        assert server.rejections == []
        assert "file plan.pdf, which this model cannot read" in dump(server.requests[-1].body)
