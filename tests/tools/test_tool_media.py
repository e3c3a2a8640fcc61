"""Images and files in tool results: stored exactly, counted, sent, offloaded."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mnesis import FileConfig, FilePart, FileRefPart, ImagePart, MnesisConfig, MnesisSession, TextPart, ToolResultPart
from mnesis.compaction.prune import plan_prune
from mnesis.config import CompactionConfig
from mnesis.context.excerpts import truncate
from mnesis.context.repair import window_entries
from mnesis.formats.anthropic import anthropic_messages
from mnesis.formats.tool_output import parse_tool_output
from mnesis.models.context import ActiveContext, Prune
from mnesis.models.message import DataPart, Message, ToolPart, text_message
from mnesis.models.session import SessionRecord
from mnesis.testing import ScriptedLLM
from mnesis.tokens.estimator import parts_tokens
from mnesis.tokens.images import UNKNOWN_MODEL_IMAGE_TOKENS, max_image_tokens
from tests.session.support import MODEL, calls

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 32).decode()
IMAGE = ImagePart(data=PNG, media_type="image/png")


class McpImage(BaseModel):
    """The form of `mcp.types.ImageContent`."""

    type: str = "image"
    data: str = PNG
    mimeType: str = "image/png"  # noqa: N815 - the name in MCP


class McpText(BaseModel):
    """The form of `mcp.types.TextContent`."""

    type: str = "text"
    text: str
    annotations: None = None


class McpResult(BaseModel):
    """The form of `mcp.types.CallToolResult`."""

    content: list[Any]
    isError: bool = False  # noqa: N815 - the name in MCP


# Forms of the MCP specification, 2025-06-18, server/tools#tool-result; of OpenAI's chat completions and responses; and of
# Anthropic's messages.
MEDIA: list[tuple[Any, tuple[Any, ...]]] = [
    (IMAGE, (IMAGE,)),
    ([TextPart(text="here"), IMAGE], (TextPart(text="here"), IMAGE)),
    (["here", IMAGE], (TextPart(text="here"), IMAGE)),
    (FilePart(name="a.pdf", data=PNG, media_type="application/pdf"),) * 2,
    ({"type": "image", "data": PNG, "mimeType": "image/png"}, (IMAGE,)),
    ([McpText(text="here"), McpImage()], (TextPart(text="here"), IMAGE)),
    (McpResult(content=[McpImage()]), (IMAGE,)),
    ({"content": [{"type": "image", "data": PNG, "mimeType": "image/png"}], "isError": False}, (IMAGE,)),
    ([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}], (IMAGE,)),
    ([{"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}], (ImagePart(url="https://x.org/a.png"),)),
    ([{"type": "input_image", "image_url": "https://x.org/a.png"}], (ImagePart(url="https://x.org/a.png"),)),
    (
        [{"type": "audio", "data": PNG, "mimeType": "audio/wav"}],
        (FilePart(name="audio", data=PNG, media_type="audio/wav"),),
    ),
    (
        [{"type": "resource", "resource": {"uri": "file:///a.rs", "mimeType": "text/x-rust", "text": "fn main() {}"}}],
        (FilePart(name="file:///a.rs", text="fn main() {}", media_type="text/x-rust"),),
    ),
    (
        [{"type": "resource_link", "uri": "file:///a.rs", "name": "a.rs"}],
        (
            DataPart(
                kind="resource_link",
                data={"type": "resource_link", "uri": "file:///a.rs", "name": "a.rs"},
                text="[Resource a.rs: file:///a.rs]",
            ),
        ),
    ),
]


@pytest.mark.parametrize(("value", "parts"), MEDIA)
def test_media_of_every_form_become_parts(value: Any, parts: Any) -> None:
    parts = parts if isinstance(parts, tuple) else (parts,)
    output = parse_tool_output(value)
    assert output.parts == parts
    assert PNG not in output.text
    assert output.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([McpText(text="a"), McpText(text="b")], "ab"),
        (McpResult(content=[McpText(text="a")]), "a"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ({"type": "text", "text": "a"}, '{"type": "text", "text": "a"}'),
        ([{"type": "file", "path": "/etc/passwd"}], '[{"type": "file", "path": "/etc/passwd"}]'),
        ([{"type": "image", "data": 7, "mimeType": "image/png"}], '[{"type": "image", "data": 7, "mimeType": "image/png"}]'),
        (["a", "b"], '["a", "b"]'),
        ({"content": ["a"], "isError": False}, '{"content": ["a"], "isError": false}'),
    ],
)  # fmt: skip
def test_text_and_data_stay_text(value: Any, text: str) -> None:
    output = parse_tool_output(value)
    assert (output.text, output.parts, output.is_error) == (text, (), False)


def test_an_mcp_error_is_an_error_result() -> None:
    output = parse_tool_output(McpResult(content=[McpText(text="no such file")], isError=True))
    assert (output.text, output.is_error) == ("no such file", True)


async def test_an_image_from_a_tool_is_stored_exactly_and_counted(db: Path) -> None:
    def shoot() -> list[Any]:
        return ["the page", IMAGE]

    model = ScriptedLLM([calls(("shoot", {})), "I see it."])
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model) as session:
        await session.send("Take a screenshot.", tools=[shoot])
        session_id = session.id
    async with await MnesisSession.load(session_id, db_path=db, llm=model) as session:
        message = (await session.messages())[2]
        window = await session.window()
        blocks = await session.context_for_next_turn(provider="anthropic")
    (result,) = message.tool_results
    assert result.output_parts == (TextPart(text="the page"), IMAGE)
    assert message.tool_tokens >= max_image_tokens(MODEL)
    assert window.shares["tool outputs"] == message.tool_tokens < 2 * max_image_tokens(MODEL)
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    assert blocks[2]["content"][0]["content"] == [
        {"type": "text", "text": "the page"},
        {"type": "image", "source": source},
    ]


async def test_images_in_results_given_by_the_caller_are_kept(db: Path) -> None:
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    model = ScriptedLLM(["done"], repeat_last=True)
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model) as session:
        await session.send([{"type": "tool_result", "tool_use_id": "c", "content": [block]}])
        answer = [
            ToolPart(tool_name="shoot", tool_call_id="d"),
            ToolResultPart(tool_call_id="d", output_parts=(IMAGE,)),
        ]
        await session.record("go", answer)
        first, *_, recorded = await session.messages()
    assert first.tool_results[0].output_parts == (IMAGE,)
    assert recorded.tool_calls[0].result().output_parts == (IMAGE,)


async def test_large_files_from_tools_are_offloaded_and_paths_are_read(db: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small.txt", base64.b64encode(b"word " * 20_000).decode()
    small.write_text("a small file")
    returned: list[Any] = [FilePart(path=str(small)), FilePart(name="big.txt", data=large), IMAGE]

    def read() -> list[Any]:
        return returned

    def missing() -> FilePart:
        return FilePart(path=str(tmp_path / "missing.txt"))

    model = ScriptedLLM([calls(("read", {}), ("missing", {})), "done"])
    config = MnesisConfig(file=FileConfig(inline_threshold=1_000))
    async with MnesisSession.open(model=MODEL, db_path=db, llm=model, config=config) as session:
        await session.send("go", tools=[read, missing])
        messages = await session.messages()
        results = {part.tool_name: part for message in messages for part in message.tool_results}
        inline, reference, image = results["read"].output_parts
        assert isinstance(inline, FilePart)
        assert (inline.text, inline.path, image) == ("a small file", None, IMAGE)
        assert isinstance(reference, FileRefPart)
        assert reference.content_id in results["read"].output
        assert [part for message in messages for part in message.file_refs] == [reference]
        assert (await session.read_file(reference.content_id)).text.startswith("word word")
    assert results["missing"].is_error
    assert "missing.txt" in results["missing"].output


def _result(*parts: Any) -> Message:
    part = ToolResultPart(tool_call_id="c", tool_name="shoot", output="text", output_parts=parts)
    message = Message(id="m", role="tool", seq=3, parts=(part,))
    tokens, tool_tokens = parts_tokens(message.parts, len)
    return message.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def test_old_images_of_tools_are_pruned_and_truncated_to_a_pointer() -> None:
    call = Message(id="call", role="assistant", seq=2, parts=(ToolPart(tool_name="shoot", tool_call_id="c"),))
    old = _result(IMAGE, IMAGE)
    roles: list[Any] = ["user", "assistant"] * 3
    newer = [text_message(role, "words", seq=4 + n, token_count=500) for n, role in enumerate(roles)]
    items = (text_message("user", "go", seq=1, token_count=5), call, old, *newer)
    context = ActiveContext(SessionRecord("s", MODEL), (), items, {})
    config = CompactionConfig(prune_protect_tokens=1_000, prune_minimum_tokens=999)
    (prune,) = plan_prune(context, config, len)
    assert prune.tokens_saved > UNKNOWN_MODEL_IMAGE_TOKENS
    pruned = ActiveContext(context.session, (), items, {(3, 0): Prune(3, 0, prune.tokens_saved)})
    (shown,) = window_entries(pruned, len)[2].message.tool_results
    assert shown.output_parts == ()
    assert "lcm_expand" in shown.output
    (short,) = truncate(old, 400, len).tool_results
    assert (short.output_parts, short.tool_call_id) == ((), "c")
    assert "lcm_expand" in short.output


def test_an_image_result_that_answers_no_call_is_sent_with_its_image() -> None:
    context = ActiveContext(SessionRecord("s", MODEL), (), (_result(IMAGE),), {})
    (entry,) = window_entries(context, len)
    assert entry.message.role == "user"
    assert IMAGE in entry.message.parts
    assert anthropic_messages([entry.message])[0]["content"][1]["type"] == "image"
