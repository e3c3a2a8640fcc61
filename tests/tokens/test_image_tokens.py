"""What images count, by each provider's published formula."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis import CompactionConfig, MnesisConfig, MnesisSession, TokenUsage
from mnesis.llm.base import LLMReply, LLMRequest
from mnesis.llm.mock import MockLLM
from mnesis.models.dialects import find_dialect
from mnesis.models.message import ImagePart, ReasoningPart, TextPart, ToolPart
from mnesis.tokens import ModelTokenCounter, TokenEstimator, image_tokens, parts_tokens
from mnesis.tokens.images import FORMULAS, UNKNOWN_MODEL_IMAGE_TOKENS, Size, count_image, image_size, max_image_tokens


def png(width: int, height: int) -> bytes:
    """A valid PNG of one color."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\0" * width for _ in range(height)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(width: int, height: int, metadata_bytes: int = 0) -> bytes:
    """The beginning of a JPEG file, with metadata before the frame header."""
    metadata, rest = b"", metadata_bytes
    while rest > 0:
        size = min(rest, 60_000)
        metadata += b"\xff\xe1" + struct.pack(">H", size + 2) + b"\xc0" * size
        rest -= size
    return b"\xff\xd8" + metadata + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width) + b"\0" * 12


def webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        body = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8 ":
        body = b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    else:
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return b"RIFF\0\0\0\0WEBP" + kind + struct.pack("<I", len(body)) + body


def image(data: bytes, **fields: str) -> ImagePart:
    return ImagePart(data=base64.b64encode(data).decode(), **fields)  # type: ignore[arg-type]  # detail


# platform.claude.com, vision: 1000 x 1000 is about 1,334, 1092 x 1092 about 1,590; at most about 1,600, or 4,784 from 4.7 on.
# platform.openai.com, images and vision: 1024 x 1024 is 765 and 2048 x 4096 is 1,105 for gpt-4o, 85 with low detail.
# ai.google.dev, image understanding: up to 384 x 384 is 258, 960 x 540 is six tiles.
PUBLISHED = [
    ("anthropic/claude-sonnet-4-5", 1_000, 1_000, None, 1_334),
    ("anthropic/claude-sonnet-4-5", 1_092, 1_092, None, 1_590),
    ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", 4_000, 3_000, None, 1_600),
    ("anthropic/claude-opus-4-7", 4_000, 4_000, None, 4_784),
    ("anthropic/claude-opus-4-20250514", 4_000, 4_000, None, 1_600),
    ("openai/gpt-4o", 1_024, 1_024, None, 765),
    ("openai/gpt-4o", 2_048, 4_096, "high", 1_105),
    ("azure/gpt-4o", 4_096, 8_192, "low", 85),
    ("gpt-4o-mini", 1_024, 1_024, None, 2_833 + 4 * 5_667),
    ("openai/gpt-5", 1_024, 1_024, None, 70 + 4 * 140),
    ("openai/o3", 512, 512, None, 225),
    ("openai/gpt-4.1-mini", 1_024, 1_024, None, 1_659),
    ("openai/o4-mini", 1_800, 2_400, None, 2_642),
    ("gemini/gemini-2.5-pro", 384, 384, None, 258),
    ("gemini/gemini-2.5-flash", 960, 540, None, 6 * 258),
    ("gemini/gemini-3-pro-preview", 3_000, 3_000, None, 1_120),
]


@pytest.mark.parametrize(("model", "width", "height", "detail", "tokens"), PUBLISHED)
def test_an_image_counts_by_the_formula_of_its_provider(
    model: str, width: int, height: int, detail: str | None, tokens: int
) -> None:
    fields = {"detail": detail} if detail else {}
    assert image_tokens(image(jpeg(width, height), **fields), model) == tokens


@pytest.mark.parametrize(
    "data",
    [
        png(70, 40),
        jpeg(70, 40),
        jpeg(70, 40, metadata_bytes=40_000),
        b"GIF89a" + struct.pack("<HH", 70, 40),
        webp(b"VP8X", 70, 40),
        webp(b"VP8 ", 70, 40),
        webp(b"VP8L", 70, 40),
    ],
    ids=["png", "jpeg", "jpeg with metadata", "gif", "webp extended", "webp lossy", "webp lossless"],
)
def test_the_size_of_an_image_is_read_from_its_header(data: bytes) -> None:
    assert image_size(image(data)) == (70, 40)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    assert image_size(ImagePart(url=url)) == (70, 40)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X"]),
)
def test_damaged_images_count_as_the_largest_and_never_raise(data: bytes, magic: bytes) -> None:
    part = image(magic + data)
    for model in ("openai/gpt-4o", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"):
        assert image_tokens(part, model) > 0
        if image_size(part) is None:
            assert image_tokens(part, model) == max_image_tokens(model)
    assert image_tokens(ImagePart(data="not base64!"), "openai/gpt-4o") == max_image_tokens("openai/gpt-4o")


@given(st.sampled_from(FORMULAS[:10]), st.integers(1, 8_000), st.integers(1, 8_000))
def test_an_unknown_size_never_counts_less_than_a_known_one(
    formula: tuple[str, object], width: int, height: int
) -> None:
    models = [
        "anthropic/claude-opus-5",
        "claude-3-haiku",
        "gpt-4o-mini",
        "gpt-5-mini",
        "gpt-4.1-nano",
        "gpt-5.4",
        "gpt-5",
        "o1",
        "gpt-4o",
    ]
    for model in models:
        assert count_image(Size(width, height), model) <= max_image_tokens(model)


def test_images_of_unknown_models_have_one_size() -> None:
    assert image_tokens(image(png(10, 10)), "hosted_vllm/llava") == UNKNOWN_MODEL_IMAGE_TOKENS
    assert parts_tokens([image(png(10, 10))], len)[0] > UNKNOWN_MODEL_IMAGE_TOKENS


class KeepingLLM(MockLLM):
    """A client that keeps its requests and reports no usage."""

    def __init__(self) -> None:
        self.requests: list[LLMRequest] = []

    async def complete(self, request: LLMRequest) -> LLMReply:
        self.requests.append(request)
        return LLMReply(text="I see it.")


async def test_the_newest_image_reaches_the_model_and_none_vanishes_silently(tmp_path: Path) -> None:
    llm = KeepingLLM()
    config = MnesisConfig(compaction=CompactionConfig(auto=False))
    db = tmp_path / "db"
    async with MnesisSession.open(model="openai/gpt-4o-mini", db_path=db, llm=llm, config=config) as session:
        for number in range(8):
            part = image(png(1_024, 1_000 + number))
            await session.send([TextPart(text=f"Picture {number}."), part])
            sent = str(llm.requests[-1].messages)
            assert str(part.data) in sent
            # What has no place is named: by a marker, or as part of a marked span.
            missing = number + 1 - sent.count("data:image")
            assert missing == 0 or "left out to save space" in sent
        assert missing > 0, "pictures of this model are large enough to fill its window"


@pytest.mark.parametrize(
    ("model", "parts", "is_sent"),
    [
        ("deepseek/deepseek-reasoner", [ToolPart(tool_name="look", tool_call_id="c")], True),
        ("deepseek/deepseek-reasoner", [TextPart(text="Yes.")], False),
        ("openai/gpt-5", [ToolPart(tool_name="look", tool_call_id="c")], False),
    ],
)
def test_reasoning_counts_where_the_dialect_sends_it_back(model: str, parts: list[object], is_sent: bool) -> None:
    count = ModelTokenCounter(TokenEstimator(), model, find_dialect(model).reasoning)
    with_reasoning = parts_tokens([ReasoningPart(text="because " * 200), *parts], count)[0]  # type: ignore[list-item]
    without = parts_tokens(parts, count)[0]  # type: ignore[arg-type]  # parts of messages
    assert (with_reasoning - without >= 200) is is_sent


@pytest.mark.parametrize(
    ("model", "calls", "grows_by"),
    [
        ("deepseek/deepseek-reasoner", True, 5_000),
        ("deepseek/deepseek-reasoner", False, 100),
        ("openai/gpt-5", True, 100),
    ],
)
async def test_reported_reasoning_is_context_where_it_goes_back(
    model: str, calls: bool, grows_by: int, tmp_path: Path
) -> None:
    class Thinker(MockLLM):
        async def complete(self, request: LLMRequest) -> LLMReply:
            call = (ToolPart(tool_name="look", tool_call_id="c"),) if calls else ()
            usage = TokenUsage(input=1_000, output=5_000, reasoning=4_900)
            return LLMReply(text="", reasoning="because", tool_calls=call, usage=usage)

    async with MnesisSession.open(model=model, db_path=tmp_path / "db", llm=Thinker()) as session:
        await session.send("Look.", tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}])
        assert session.context_tokens == pytest.approx(1_000 + grows_by, abs=60)
