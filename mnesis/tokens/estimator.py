"""Counting tokens without a network: tiktoken where its tables are on this disk, a heuristic everywhere else.

The tables of `cl100k_base` and `o200k_base` travel inside the wheels of litellm and llama-index-core. They are read
from there (or from the user's own tiktoken cache) without importing those packages, checked against their published
SHA-256, and never downloaded. A count never raises, whatever the string holds, and takes time linear in its length.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import json
import logging
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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

if TYPE_CHECKING:
    import tiktoken

logger = logging.getLogger(__name__)

EncodingName = Literal["cl100k_base", "o200k_base", "claude_heuristic", "unknown"]

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


@dataclass(frozen=True, slots=True)
class _Table:
    """A published tiktoken encoding: where it comes from, what its file hashes to, how text is split before merging."""

    url: str
    sha256: str
    pattern: str


_TABLES = {
    "cl100k_base": _Table(
        url="https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ),
    "o200k_base": _Table(
        url="https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern=r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}

_VARIANT = (
    r"(?:[-.:](?:turbo|mini|nano|pro|max|chat|codex|audio|realtime|search|vision|preview|latest|instruct|deep|research"
    r"|transcribe|tts|low|medium|high|free|online|\d[\d.k]*b?))*$"
)
_O200K_MODEL = re.compile(r"(?:gpt-(?:4o|4\.\d|[5-9]|oss)|chatgpt(?:-4o)?|o[1-9]|codex)" + _VARIANT)
_CL100K_MODEL = re.compile(r"(?:gpt-4|gpt-3\.5|gpt-35)" + _VARIANT)
_CLAUDE_MODEL = re.compile(r"(?:[a-z-]+\.)*claude(?:[-.:@]|$)")


def encoding_of(model: str) -> EncodingName:
    """How text for `model` is counted, from its name: provider prefixes and date suffixes do not matter."""
    name = model.strip().lower().rsplit("/", 1)[-1]
    if name.startswith("ft:"):
        name = name.split(":")[1]
    if _O200K_MODEL.match(name):
        return "o200k_base"
    if _CL100K_MODEL.match(name):
        return "cl100k_base"
    return "claude_heuristic" if _CLAUDE_MODEL.match(name) else "unknown"


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


def package_directories(package: str) -> list[Path]:
    """Where the top-level `package` is installed; empty if it is not. Nothing is imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _table_of(encoding: EncodingName) -> str:
    return encoding if encoding in _TABLES else "o200k_base"


@functools.cache
def _loaded(name: str) -> tiktoken.Encoding | None:
    """The encoding, or None where its table is not on this disk. One attempt per process, failures included."""
    table = _TABLES[name]
    data = _table_bytes(table)
    if data is None:
        logger.info("no table of %s on this disk: tokens are estimated from the characters", name)
        return None
    try:
        import tiktoken
    except ImportError:
        return None
    ranks = {
        base64.b64decode(token): int(rank) for token, _, rank in (line.partition(b" ") for line in data.splitlines())
    }
    # Special tokens are left out on purpose: `<|endoftext|>` in a text is text.
    return tiktoken.Encoding(name, pat_str=table.pattern, mergeable_ranks=ranks, special_tokens={})


def _table_bytes(table: _Table) -> bytes | None:
    # tiktoken names the files of its cache by the SHA-1 of their address.
    file_name = hashlib.sha1(table.url.encode(), usedforsecurity=False).hexdigest()
    for directory in _table_directories():
        try:
            data = (directory / file_name).read_bytes()
        except OSError:
            continue
        if hashlib.sha256(data).hexdigest() == table.sha256:
            return data
        logger.warning("%s is not the table it should be and is left alone", directory / file_name)
    return None


def _table_directories() -> Iterator[Path]:
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    yield from (place / "litellm_core_utils" / "tokenizers" for place in package_directories("litellm"))
    yield from (place / "core" / "_static" / "tiktoken_cache" for place in package_directories("llama_index"))
    yield Path(tempfile.gettempdir(), "data-gym-cache")


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


_RUN = re.compile(
    r"(?P<repeat>(.)\2{15,})"
    r"|(?P<hex>[0-9a-f]{32,}|[0-9A-F]{32,})"
    r"|(?P<blob>[A-Za-z0-9+/_=-]{40,})"
    r"|(?P<word>[A-Za-z\u00c0-\u024f]+(?:'(?:[sdmt]|ll|ve|re)\b)?)"
    r"|(?P<digits>\ ?[0-9]+)"
    r"|(?P<mark>[!-/:-@\[-`{-~]+[\r\n]*)"
    r"|(?P<break>[ \t]*[\r\n]+)"
    r"|(?P<space>[^\S\r\n]+)"
    r"|(?P<thai>[\u0e00-\u0eff]+)"
    r"|(?P<letters>[\u0250-\u0fff]+)"
    r"|(?P<cjk>[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+)"
    r"|(?P<hangul>[\uac00-\ud7af]+)"
    r"|(?P<punctuation>[\u2010-\u203f\u3000-\u303f\uff00-\uff20])"
    r"|(?P<other>.)",
    re.DOTALL,
)


def heuristic_tokens(text: str) -> int:
    """An estimate of the `o200k_base` count from runs of like characters.

    The factors are fitted to prose in eleven languages, source code, markup, logs, tables and encoded data; the
    estimate stays within about a fifth of the true count on such texts.
    """
    return math.ceil(sum(_RUN_TOKENS[run.lastgroup or "other"](run.group()) for run in _RUN.finditer(text)))


def _repeat_tokens(run: str) -> float:
    if not run[0].isascii():
        return len(run) * 0.7
    return 1 + len(run) / (8 if run[0].isalnum() else 64)


def _blob_tokens(run: str) -> float:
    encoded = any(c.isdigit() for c in run) and not run.islower() and not run.isupper()
    return len(run) * (0.7 if encoded else 0.35)


_RUN_TOKENS: dict[str, Callable[[str], float]] = {
    "repeat": _repeat_tokens,
    "hex": lambda run: len(run) * 0.57,
    "blob": _blob_tokens,
    "word": lambda run: max(1.0, len(run) / 6.2),
    # A space before a word is part of it; before digits it is a token of its own.
    "digits": lambda run: math.ceil(len(run.lstrip()) / 3) + (run[0] == " "),
    "mark": lambda run: 0.8 + (len(run) - 1) / 6,
    "break": lambda run: 1 + len(run) / 80,
    "space": lambda run: 0 if len(run) == 1 else 1 + len(run) / 80,
    "thai": lambda run: len(run) * 0.4,
    "letters": lambda run: max(1.0, len(run) * 0.3),
    "cjk": lambda run: len(run) * 0.72,
    "hangul": lambda run: len(run) * 0.65,
    "punctuation": lambda run: 0.9,
    "other": lambda run: 1.5,
}
