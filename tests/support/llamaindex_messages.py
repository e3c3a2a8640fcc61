"""Blocks of LlamaIndex messages of every type."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms import types
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40)


def newer_block(name: str, **fields: Any) -> list[Any]:
    """Return a block; none if it is newer than the installed llama-index-core."""
    kind = getattr(types, name, None)
    return [kind(**fields)] if kind is not None else []


BLOCKS: list[Any] = [
    TextBlock(text="plain"),
    TextBlock(text=""),
    TextBlock(text="nul \0, emoji 🦊, lone \ud800, <|endoftext|>"),
    ImageBlock(image=PNG, detail="low"),
    ImageBlock(image=PNG, image_mimetype="image/png", detail="unusual"),
    ImageBlock(url="https://example.com/a.png"),
    ImageBlock(url="data:image/png;base64,AAAA"),
    AudioBlock(audio=WAV, format="wav"),
    AudioBlock(url="https://example.com/a.mp3"),
    *newer_block("VideoBlock", video=b"\x00\x00\x00\x18ftypmp42", fps=3),
    *newer_block("VideoBlock", url="https://example.com/a.mp4"),
    DocumentBlock(data=b"%PDF-1.4 ...", title="report"),
    DocumentBlock(url="https://example.com/a.pdf"),
    DocumentBlock(path="not/there.pdf"),
    CachePoint(cache_control=CacheControl(type="ephemeral", ttl="1h")),
    CitableBlock(title="t", source="s", content=[TextBlock(text="a"), ImageBlock(image=PNG), DocumentBlock(data=b"x")]),
    CitationBlock(
        cited_content=TextBlock(text="c"), source="s", title="t", additional_location_info={"start": 1, "end": 2}
    ),
    CitationBlock(cited_content=ImageBlock(image=PNG), source="s", title="t", additional_location_info={}),
    *newer_block("ThinkingBlock", content="hm", num_tokens=3, additional_information={"signature": "abc", "more": [1]}),
    *newer_block("ThinkingBlock", content=None),
    *newer_block("ToolCallBlock", tool_call_id="1", tool_name="look", tool_kwargs={"a": {"b": [1, None]}}),
    *newer_block("ToolCallBlock", tool_call_id=None, tool_name="look", tool_kwargs='{"partial": '),
    *newer_block("ToolCallBlock", tool_call_id="", tool_name="look", tool_kwargs='{"a": 1}'),
]
