"""Token counts of files and large texts, without reading more than needed."""

from __future__ import annotations

from pathlib import Path

from mnesis.files.explorers.source import HEAD_BYTES, Readable, Source, detect_encoding
from mnesis.tokens.estimator import BASE64_CHARS_PER_TOKEN, TokenCounter, split_text

MAX_BYTES_PER_TOKEN = 128
"""The longest tokens of the published encodings are runs of 128 spaces, so a file with more bytes than that per token
exceeds the limit in any case."""
MAX_TOKENS_PER_ASCII_CHAR = 2
MAX_TOKENS_PER_CHAR = 6
"""Upper bound of all estimators here: UTF-8 has at most 4 bytes per character, a token at least one; 1.2 times for Claude."""
EXACT_COUNT_CHARS_PER_TOKEN = 16
MAX_EXACT_COUNT_BYTES = 512 * 1024
SAMPLES = 4
SAMPLE_BYTES = 64 * 1024


def may_exceed(text: str, max_tokens: int) -> bool:
    """Return whether a text could have more than `max_tokens`, judging by its length."""
    return len(text) * (MAX_TOKENS_PER_ASCII_CHAR if text.isascii() else MAX_TOKENS_PER_CHAR) > max_tokens


def exceeds(text: str, max_tokens: int, count: TokenCounter) -> bool:
    """Return whether a text has more than `max_tokens`. Much longer texts are counted only as far as needed."""
    if not may_exceed(text, max_tokens):
        return False
    if len(text) <= max_tokens * EXACT_COUNT_CHARS_PER_TOKEN:
        return count(text) > max_tokens
    total = 0
    for piece in split_text(text):
        total += count(piece)
        if total > max_tokens:
            return True
    return False


def decode_text(content: bytes) -> str | None:
    """Decode bytes to text, or return None unless all of them are valid text."""
    mark, codec = detect_encoding(content[:HEAD_BYTES], is_complete=len(content) <= HEAD_BYTES)
    if codec is None or codec == "latin-1":
        return None
    try:
        return content.decode(codec) if codec == "utf-8" else content[len(mark) :].decode(codec)
    except UnicodeDecodeError:
        return None


def estimate_file_tokens(content: Path | Readable, count: TokenCounter) -> int:
    """Count the tokens of a small file; estimate those of a large one from samples spread over it. Blocking.

    Binary content counts as much as its base64 form.
    """
    source = Source(content, 60.0)
    if source.encoding is None:
        return source.size_bytes * 4 // 3 // BASE64_CHARS_PER_TOKEN
    if source.size_bytes <= MAX_EXACT_COUNT_BYTES:
        return count(source.read_text(source.size_bytes))
    step = (source.size_bytes - SAMPLE_BYTES) // (SAMPLES - 1) // 4 * 4
    sampled_tokens = sum(
        count(source.read(number * step, SAMPLE_BYTES).decode(source.codec, "replace")) for number in range(SAMPLES)
    )
    return sampled_tokens * source.size_bytes // (SAMPLES * SAMPLE_BYTES)
