"""Counting tokens without a network: tiktoken where its tables are on this disk, a heuristic everywhere else.

The tables of `cl100k_base` and `o200k_base` travel inside the wheels of litellm and llama-index-core. They are read
from there (or from the user's own tiktoken cache) without importing those packages, checked against their published
SHA-256, and never downloaded. A count never raises, whatever the string holds, and takes time linear in its length.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
)
from mnesis.tokens.encodings import _TABLES, EncodingName, _loaded, _table_of, encoding_of
from mnesis.tokens.heuristic import heuristic_tokens

if TYPE_CHECKING:
    import tiktoken


CLAUDE_MARGIN = 1.2
"""Factor on `o200k_base` for Claude, whose current tokenizers are not published. A safety margin, not a measurement:
the last one that was published counts 1.02 to 1.16 times as much on English, code, JSON and logs, and more on other
scripts. What providers report corrects it."""

PIECE_CHARS = 4_096
"""Longer texts are counted in pieces of at most so many characters, cut at whitespace where there is some: tiktoken
takes quadratic time on long runs of one kind. A cut adds at most a token or two."""

MESSAGE_OVERHEAD = 4
TOOL_OVERHEAD = 8
FILE_OVERHEAD = 36
FILE_REF_OVERHEAD = 58
IMAGE_TOKENS = 1_200
"""Per image, whatever its size: OpenAI counts 765 to 1,105 for a full-size one, Anthropic about 1,600."""
BASE64_CHARS_PER_TOKEN = 6
MIN_BASE64_FILE_TOKENS = 300
"""A file sent as base64 is read by the provider (a PDF by its pages), not as text. Six characters are 4.5 bytes: about
what a text document of that size counts; a guess for everything else."""


class TokenEstimator:
    """Counts tokens of texts and messages.

    `encoding` (for example a `ModelInfo.encoding`) decides how, whatever model a call names; without it the model's
    name does. `heuristic_only` never touches tiktoken. Estimators are cheap; what they load is shared by the process.
    """

    def __init__(self, *, heuristic_only: bool = False, encoding: EncodingName | None = None) -> None:
        self._heuristic_only = heuristic_only
        self._encoding = encoding

    def estimate(self, text: str, model: str | None = None) -> int:
        """Tokens of `text`: 0 for "", at least 1 for anything else."""
        if not text:
            return 0
        encoding = self._encoding_for(model)
        table = None if self._heuristic_only else _loaded(_table_of(encoding))
        tokens = heuristic_tokens(text) if table is None else _encoded_tokens(text, table)
        return max(1, math.ceil(tokens * CLAUDE_MARGIN) if encoding == "claude_heuristic" else tokens)

    def estimate_message(self, message: Message, model: str | None = None) -> int:
        """Tokens of `message` as it is sent; see `message_tokens`."""
        return message_tokens(message, lambda text: self.estimate(text, model))[0]

    def is_exact(self, model: str | None = None) -> bool:
        """Whether texts for `model` are counted with that model's own tokenizer."""
        encoding = self._encoding_for(model)
        return not self._heuristic_only and encoding in _TABLES and _loaded(encoding) is not None

    def _encoding_for(self, model: str | None) -> EncodingName:
        return self._encoding or encoding_of(model or "")


def message_tokens(message: Message, count: Callable[[str], int]) -> tuple[int, int]:
    """Tokens of `message` as it is sent, and how many of them are outputs of tools."""
    return parts_tokens(message.parts, count)


def parts_tokens(parts: Iterable[MessagePart], count: Callable[[str], int]) -> tuple[int, int]:
    """Tokens of a message of these parts as it is sent, and how many of them are outputs of tools.

    `count` gives the tokens of a text. The overheads are those of the chat formats: a few tokens of framing for each
    message, call and result.
    """
    total, tool_output = MESSAGE_OVERHEAD, 0
    for part in parts:
        if isinstance(part, ToolResultPart):
            tool_output += count(part.output) + TOOL_OVERHEAD
            continue
        if isinstance(part, ToolPart) and part.has_result:
            tool_output += count(part.result().output) + TOOL_OVERHEAD
        total += _part_tokens(part, count)
    return total + tool_output, tool_output


def _part_tokens(part: MessagePart, count: Callable[[str], int]) -> int:
    match part:
        case TextPart() | DataPart():
            return count(part.text)
        case ReasoningPart():
            # Only reasoning that a provider has signed or marked as its own is ever sent back.
            return count(part.text) if part.provider else 0
        case ToolPart():
            return count(part.tool_name) + count(_arguments(part)) + TOOL_OVERHEAD
        case ImagePart():
            return IMAGE_TOKENS
        case FilePart():
            return count(part.name) + _file_content_tokens(part, count) + FILE_OVERHEAD
        case FileRefPart():
            shown = (part.path, part.content_id, part.file_type, part.exploration_summary)
            return sum(count(text) for text in shown) + FILE_REF_OVERHEAD
        case ToolResultPart():
            return count(part.output) + TOOL_OVERHEAD


def _arguments(part: ToolPart) -> str:
    if part.raw_input is not None:
        return part.raw_input
    return json.dumps(part.input, ensure_ascii=False, separators=(",", ":"), default=str)


def _file_content_tokens(part: FilePart, count: Callable[[str], int]) -> int:
    if part.text is not None:
        return count(part.text)
    if part.data is None:
        return 0
    return max(MIN_BASE64_FILE_TOKENS, len(part.data) // BASE64_CHARS_PER_TOKEN)


def _encoded_tokens(text: str, encoding: tiktoken.Encoding) -> int:
    if len(text) <= PIECE_CHARS:
        return len(encoding.encode_ordinary(text))
    return sum(len(encoding.encode_ordinary(piece)) for piece in pieces(text))


def pieces(text: str, limit: int = PIECE_CHARS) -> Iterator[str]:
    """`text` in order, in pieces of at most `limit` characters that start at whitespace where the text has some."""
    start = 0
    while len(text) - start > limit:
        end = start + limit
        cut = max(text.rfind("\n", start + 1, end), text.rfind(" ", start + 1, end))
        end = cut if cut > start else end
        yield text[start:end]
        start = end
    yield text[start:]
