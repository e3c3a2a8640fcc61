"""The tokens of images, by the formula that each provider publishes. Pure functions, no I/O.

An image at a URL is not fetched: it counts as the largest that its model reads.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from mnesis.models.message import ImagePart

MAX_HEADER_CHARS = 65_536
"""Base64 characters of an image that are searched for its size: 48 KiB. JPEG files contain the size after their
metadata."""

UNKNOWN_MODEL_IMAGE_TOKENS = 1_600
"""The tokens of an image for a model whose formula is not known: the largest number of Claude and most open models."""


class Size(NamedTuple):
    """The width and height of an image in pixels."""

    width: int
    height: int

    def scaled(self, factor: float) -> Size:
        """Return the size times a factor, at least one pixel each way."""
        return Size(max(1, round(self.width * factor)), max(1, round(self.height * factor)))

    def tiles(self, edge: float) -> int:
        """Return the number of squares of this edge that cover the image."""
        return math.ceil(self.width / edge) * math.ceil(self.height / edge)


Formula = Callable[[Size, str], int]
"""Returns the tokens of an image of a size, with the requested `detail`."""


def _claude(max_edge: int, max_tokens: int) -> Formula:
    """Return the formula of Claude (platform.claude.com, vision).

    Images are scaled down to an edge and a number of tokens. One token is a patch of 28 x 28 pixels; earlier editions of the page
    say width * height / 750. The larger of both counts.
    """

    def count(size: Size, detail: str) -> int:
        fitted = size.scaled(min(1.0, max_edge / max(size)))
        return min(max(fitted.tiles(28), math.ceil(fitted.width * fitted.height / 750)), max_tokens)

    return count


def _openai_tiles(base_tokens: int, tile_tokens: int) -> Formula:
    """Return the formula of models that see tiles of 512 pixels (platform.openai.com, images and vision, calculating costs)."""

    def count(size: Size, detail: str) -> int:
        if detail == "low":
            return base_tokens
        fitted = size.scaled(min(1.0, 2_048 / max(size)))
        fitted = fitted.scaled(min(1.0, 768 / min(fitted)))
        return base_tokens + fitted.tiles(512) * tile_tokens

    return count


def _openai_patches(factor: float, max_patches: int = 1_536) -> Formula:
    """Return the formula of models that see patches of 32 pixels, scaled down to `max_patches` (the same page)."""

    def count(size: Size, detail: str) -> int:
        return math.ceil(min(size.tiles(32), max_patches) * factor)

    return count


def _gemini_tiles(size: Size, detail: str) -> int:
    """Return 258 tokens per tile (ai.google.dev, image understanding, token calculation)."""
    if max(size) <= 384:
        return 258
    edge = min(max(math.floor(min(size) / 1.5), 256), 768)
    return 258 * size.tiles(edge)


def _fixed(tokens: int) -> Formula:
    return lambda size, detail: tokens


# The first pattern that matches the model string counts. The factors of the newest OpenAI models are those of litellm's
# table (litellm_core_utils/token_counter.py); its documentation says 1.62 and 2.46 for gpt-5-mini and gpt-5-nano, while
# users measure less (community.openai.com/t/1344040).
FORMULAS: tuple[tuple[str, Formula], ...] = (
    (r"claude-(opus|sonnet|haiku|fable|mythos)-(4[-.]([7-9]|\d\d)(?!\d)|[5-9])|mythos", _claude(2_576, 4_784)),
    (r"claude", _claude(1_568, 1_600)),
    (r"gpt-4o-mini", _openai_tiles(2_833, 5_667)),
    (r"gpt-4\.1-mini|gpt-5-mini", _openai_patches(1.62)),
    (r"gpt-4\.1-nano|gpt-5-nano", _openai_patches(2.46)),
    (r"o4-mini|codex-mini", _openai_patches(1.72)),
    (r"gpt-5\.[2-9]|gpt-[6-9]", _openai_patches(1.2, 10_000)),
    (r"gpt-5", _openai_tiles(70, 140)),
    (r"(^|/)o[13](-|$)", _openai_tiles(75, 150)),
    (r"computer-use-preview", _openai_tiles(65, 129)),
    (r"gpt-4|chatgpt", _openai_tiles(85, 170)),
    # ai.google.dev, media resolution: 1,120 tokens at the default resolution of Gemini 3 and later.
    (r"gemini-[3-9]", _fixed(1_120)),
    (r"gemini", _gemini_tiles),
)

LARGEST = (Size(8_000, 8_000), Size(768, 2_048), Size(3_072, 3_072))
"""Sizes among which each formula has its largest result, except Gemini's, whose tiles grow with the image."""


def image_tokens(image: ImagePart, model: str) -> int:
    """Return the tokens of an image for a model. Never raises."""
    return (
        max_image_tokens(model, image.detail)
        if (size := image_size(image)) is None
        else count_image(size, model, image.detail)
    )


def count_image(size: Size, model: str, detail: str | None = None) -> int:
    """Return the tokens of an image of a size."""
    formula = _find_formula(model)
    return UNKNOWN_MODEL_IMAGE_TOKENS if formula is None else formula(size, detail or "auto")


def max_image_tokens(model: str, detail: str | None = None) -> int:
    """Return the tokens of the largest image that a model reads."""
    formula = _find_formula(model)
    if formula is None:
        return UNKNOWN_MODEL_IMAGE_TOKENS
    sizes = LARGEST[-1:] if formula is _gemini_tiles else LARGEST
    return max(formula(size, detail or "auto") for size in sizes)


@functools.lru_cache(maxsize=1_000)
def _find_formula(model: str) -> Formula | None:
    return next((formula for pattern, formula in FORMULAS if re.search(pattern, model.lower())), None)


def image_size(image: ImagePart) -> Size | None:
    """Return the size of an image. Returns None if the image is at a URL, or if its format is not PNG, GIF, JPEG or
    WebP.
    """
    encoded = image.data
    if encoded is None and image.url is not None and image.url.startswith("data:"):
        encoded = image.url.partition(",")[2]
    if not encoded:
        return None
    head = encoded[:MAX_HEADER_CHARS]
    try:
        size = _read_size(base64.b64decode(head[: len(head) // 4 * 4]))
    except (binascii.Error, struct.error, ValueError, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


def _read_size(data: bytes) -> Size | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Size(*struct.unpack(">II", data[16:24]))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return Size(*struct.unpack("<HH", data[6:10]))
    if data.startswith(b"\xff\xd8"):
        return _read_jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _read_webp_size(data)
    return None


def _read_jpeg_size(data: bytes) -> Size | None:
    """Return the size in the frame header, the first segment SOF0 to SOF15 (ITU-T T.81, B.2.2)."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return Size(width, height)
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None


def _read_webp_size(data: bytes) -> Size | None:
    """Return the size in the first chunk (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return Size(int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Size(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return Size((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    return None
