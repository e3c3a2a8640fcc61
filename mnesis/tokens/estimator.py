"""Token counts without network access.

Text is counted with tiktoken if its tables are on this disk, otherwise with a heuristic. The tables of `cl100k_base`
and `o200k_base` are part of the wheels of litellm and llama-index-core. They are read from there, or from the user's
tiktoken cache, without importing these packages. They are checked against their published SHA-256 and never downloaded.
Counting never raises, for any string, and takes linear time.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mnesis.models.dialects import Reasoning
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
from mnesis.tokens.encodings import TABLES, EncodingName, encoding_for_model, load_encoding, table_name
from mnesis.tokens.heuristic import heuristic_tokens
from mnesis.tokens.images import image_tokens

if TYPE_CHECKING:
    import tiktoken


CLAUDE_MARGIN = 1.2
"""Factor on `o200k_base` for Claude, whose current tokenizers are not published. A safety margin, not a measurement: the
last published one gives 1.02 to 1.16 times as many tokens for English, code, JSON and logs, and more for other scripts.
The usage that providers report corrects it."""

MAX_CHUNK_CHARS = 4_096
"""Longer texts are counted in chunks of at most this size, split at white space where possible: tiktoken takes quadratic
time on long runs of similar characters. A split adds at most one or two tokens."""

MAX_COUNTED_CHARS = 1_000_000
SAMPLED_CHUNKS = 256
SAMPLED_CHUNK_CHARS = 2_048
SAMPLE_DEVIATIONS = 3.0
"""Longer texts are counted from a sample of 524,288 characters. The estimate has three standard errors added, so that
it is too small for about one text in a thousand. It is up to 3 % above the count for prose, source code and logs, and
up to 20 % for texts that are a mixture of very different content. No window can contain such a text, and the part that
is sent is counted exactly."""

TokenCounter = Callable[[str], int]
"""Returns the tokens of a text."""


@dataclass(frozen=True, slots=True)
class ModelTokenCounter:
    """The token counter of one model. It also knows the tokens of images, and which reasoning goes back to the
    model.
    """

    estimator: TokenEstimator
    model: str
    reasoning: Reasoning | None = None

    def __call__(self, text: str) -> int:
        return self.estimator.estimate(text, self.model)


MESSAGE_OVERHEAD_TOKENS = 4
"""Role and delimiters of each message in chat formats."""

TOOL_OVERHEAD_TOKENS = 8
"""JSON keys and call id of each call, and of each result."""

FILE_OVERHEAD_TOKENS = 36
"""The lines that enclose a file's text, or the JSON around its data."""

FILE_REF_OVERHEAD_TOKENS = 58
"""The fixed words of `mnesis.formats.text.file_reference`."""

BASE64_CHARS_PER_TOKEN = 6
MIN_BASE64_FILE_TOKENS = 300
"""The provider reads a base64 file by its pages, not as text. Six characters are 4.5 bytes, about one token of a text
document. For other files this is an estimate."""


class TokenEstimator:
    """A counter for the tokens of texts and messages.

    `encoding` (for example `ModelInfo.encoding`) takes precedence over the model that a call names. With
    `heuristic_only`, tiktoken is never used. Estimators are cheap to create: the tables they load are shared by the
    process.
    """

    def __init__(self, *, heuristic_only: bool = False, encoding: EncodingName | None = None) -> None:
        self._heuristic_only = heuristic_only
        self._encoding = encoding

    def estimate(self, text: str, model: str | None = None) -> int:
        """Return the tokens of `text`: 0 for "", at least 1 for any other text."""
        if not text:
            return 0
        encoding = self._encoding_for(model)
        has_table = not self._heuristic_only and encoding != "heuristic"
        table = load_encoding(table_name(encoding)) if has_table else None
        tokens = heuristic_tokens(text) if table is None else _encoded_tokens(text, table)
        return max(1, math.ceil(tokens * CLAUDE_MARGIN) if encoding == "claude_heuristic" else tokens)

    def estimate_message(self, message: Message, model: str | None = None) -> int:
        """Return the tokens of `message` in a request; see `message_tokens`."""
        return message_tokens(message, ModelTokenCounter(self, model or ""))[0]

    def is_exact(self, model: str | None = None) -> bool:
        """Return whether texts for `model` are counted with the model's own tokenizer."""
        encoding = self._encoding_for(model)
        return not self._heuristic_only and encoding in TABLES and load_encoding(encoding) is not None

    def _encoding_for(self, model: str | None) -> EncodingName:
        return self._encoding or encoding_for_model(model or "")


def message_tokens(message: Message, count: TokenCounter) -> tuple[int, int]:
    """Return the tokens of `message` in a request, and the number of them in tool outputs."""
    return parts_tokens(message.parts, count)


def parts_tokens(parts: Iterable[MessagePart], count: TokenCounter) -> tuple[int, int]:
    """Return the tokens of a message with these parts, and the number of them in tool outputs.

    The message is counted in the form that a provider receives.
    """
    parts = tuple(parts)
    if len(parts) == 1 and type(parts[0]) is TextPart:  # as most messages
        return MESSAGE_OVERHEAD_TOKENS + count(parts[0].text), 0
    other_tokens, output_tokens = MESSAGE_OVERHEAD_TOKENS + _text_reasoning_tokens(parts, count), 0
    for part in parts:
        if isinstance(part, ToolResultPart):
            output_tokens += result_tokens(part, count) + TOOL_OVERHEAD_TOKENS
            continue
        if isinstance(part, ToolPart) and part.has_result:
            output_tokens += result_tokens(part.result(), count) + TOOL_OVERHEAD_TOKENS
        other_tokens += _part_tokens(part, count)
    return other_tokens + output_tokens, output_tokens


def _text_reasoning_tokens(parts: Sequence[MessagePart], count: TokenCounter) -> int:
    """Return the tokens of reasoning that goes back to the model as text, as DeepSeek and Kimi require in tool loops."""
    rule = count.reasoning if isinstance(count, ModelTokenCounter) else None
    if rule is None or rule.kinds or (rule.calls_only and not any(isinstance(part, ToolPart) for part in parts)):
        return 0
    return sum(count(part.text) for part in parts if isinstance(part, ReasoningPart) and not part.provider)


def result_tokens(part: ToolResultPart, count: TokenCounter) -> int:
    """Return the tokens of a tool's output: its text, or its parts if it has any. Without the overhead of the result."""
    return sum(_part_tokens(output, count) for output in part.output_parts) if part.output_parts else count(part.output)


def _part_tokens(part: MessagePart, count: TokenCounter) -> int:
    match part:
        case TextPart() | DataPart():
            return count(part.text)
        case ReasoningPart():
            # Reasoning that a provider signed or marked is sent back. For other reasoning, see
            # `_text_reasoning_tokens()`.
            return count(part.text) if part.provider else 0
        case ToolPart():
            return count(part.tool_name) + count(_arguments(part)) + TOOL_OVERHEAD_TOKENS
        case ImagePart():
            return image_tokens(part, count.model if isinstance(count, ModelTokenCounter) else "")
        case FilePart():
            return count(part.name) + _file_content_tokens(part, count) + FILE_OVERHEAD_TOKENS
        case FileRefPart():
            texts = (part.path, part.content_id, part.file_type, part.exploration_summary)
            return sum(count(text) for text in texts) + FILE_REF_OVERHEAD_TOKENS
        case ToolResultPart():
            return result_tokens(part, count) + TOOL_OVERHEAD_TOKENS


def _arguments(part: ToolPart) -> str:
    if part.raw_input is not None:
        return part.raw_input
    return json.dumps(part.input, ensure_ascii=False, separators=(",", ":"), default=str)


def _file_content_tokens(part: FilePart, count: TokenCounter) -> int:
    if part.text is not None:
        return count(part.text)
    if part.data is None:
        return 0
    return max(MIN_BASE64_FILE_TOKENS, len(part.data) // BASE64_CHARS_PER_TOKEN)


def _encoded_tokens(text: str, encoding: tiktoken.Encoding) -> int:
    if len(text) <= MAX_CHUNK_CHARS:
        return len(encoding.encode_ordinary(text))
    if len(text) <= MAX_COUNTED_CHARS:
        return sum(len(encoding.encode_ordinary(chunk)) for chunk in split_text(text))
    return _estimate_from_sample(text, encoding)


def _estimate_from_sample(text: str, encoding: tiktoken.Encoding) -> int:
    """Estimate the tokens of a very long text from chunks, one from each of a number of equal stretches."""
    stretch_chars = len(text) / SAMPLED_CHUNKS
    places = random.Random(len(text))  # noqa: S311  # the same text always gives the same estimate
    counts = []
    for number in range(SAMPLED_CHUNKS):
        start = int(number * stretch_chars + places.random() * (stretch_chars - SAMPLED_CHUNK_CHARS))
        counts.append(len(encoding.encode_ordinary(text[start : start + SAMPLED_CHUNK_CHARS])))
    # Neighbouring stretches differ less than distant ones, so their differences give the error of a stratified sample.
    variance = sum((after - before) ** 2 for before, after in pairwise(counts)) / (2 * (SAMPLED_CHUNKS - 1))
    error = SAMPLE_DEVIATIONS * math.sqrt(variance / SAMPLED_CHUNKS)
    return math.ceil((sum(counts) / SAMPLED_CHUNKS + error) * len(text) / SAMPLED_CHUNK_CHARS)


def split_text(text: str, max_chars: int = MAX_CHUNK_CHARS) -> Iterator[str]:
    """Split `text` into chunks of at most `max_chars`, at white space where possible."""
    start = 0
    while len(text) - start > max_chars:
        end = start + max_chars
        cut = max(text.rfind("\n", start + 1, end), text.rfind(" ", start + 1, end))
        end = cut if cut > start else end
        yield text[start:end]
        start = end
    yield text[start:]
