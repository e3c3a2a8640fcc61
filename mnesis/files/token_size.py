"""How many tokens a file has, found without reading more of it than decides. Blocking where it says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mnesis.files.explorers.source import HEAD_BYTES, Source, encoding_of
from mnesis.tokens.estimator import BASE64_CHARS_PER_TOKEN, pieces

Count = Callable[[str], int]

MAX_BYTES_PER_TOKEN = 128
"""The longest tokens of the published encodings are runs of 128 spaces: a file with more bytes per token is over any limit."""
ASCII_TOKENS_PER_CHAR = 2
TOKENS_PER_CHAR = 6
"""More tokens than so many per character no way of counting here gives: a token is at least a byte, times 1.2 for Claude."""
COUNTED_WHOLE_CHARS_PER_TOKEN = 16
COUNTED_WHOLE_BYTES = 512 * 1024
SAMPLES = 4
SAMPLE_BYTES = 64 * 1024


def may_exceed(text: str, tokens: int) -> bool:
    """Whether a text could have more tokens, told from its length alone."""
    return len(text) * (ASCII_TOKENS_PER_CHAR if text.isascii() else TOKENS_PER_CHAR) > tokens


def exceeds(text: str, tokens: int, count: Count) -> bool:
    """Whether a text has more tokens. Of a text far longer than that only as much is counted as decides."""
    if not may_exceed(text, tokens):
        return False
    if len(text) <= tokens * COUNTED_WHOLE_CHARS_PER_TOKEN:
        return count(text) > tokens
    total = 0
    for piece in pieces(text):
        total += count(piece)
        if total > tokens:
            return True
    return False


def plain_text(content: bytes) -> str | None:
    """The text that these bytes are, to the last of them; None if they are none."""
    mark, codec = encoding_of(content[:HEAD_BYTES], whole=len(content) <= HEAD_BYTES)
    if codec is None or codec == "latin-1":
        return None
    try:
        return content.decode(codec) if codec == "utf-8" else content[len(mark) :].decode(codec)
    except UnicodeDecodeError:
        return None


def file_tokens(path: Path, count: Count) -> int:
    """Tokens of a file's content: counted if it is small, else estimated from samples spread over it. Binary content is
    taken for as many tokens as its base64 form. Blocking."""
    source = Source(path, 60.0)
    if source.encoding is None:
        return source.size * 4 // 3 // BASE64_CHARS_PER_TOKEN
    if source.size <= COUNTED_WHOLE_BYTES:
        return count(source.text(source.size))
    step = (source.size - SAMPLE_BYTES) // (SAMPLES - 1) // 4 * 4
    counted = sum(
        count(source.read(number * step, SAMPLE_BYTES).decode(source.codec, "replace")) for number in range(SAMPLES)
    )
    return counted * source.size // (SAMPLES * SAMPLE_BYTES)
