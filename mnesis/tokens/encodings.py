"""tiktoken encodings: finding the one of a model, and loading it from disk.

Tables are never downloaded.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anyio import to_thread

from mnesis.redaction import get_logger

if TYPE_CHECKING:
    import tiktoken

logger = get_logger(__name__)


EncodingName = Literal["cl100k_base", "o200k_base", "claude_heuristic", "heuristic", "unknown"]


@dataclass(frozen=True, slots=True)
class _Table:
    """A published tiktoken encoding.

    `url` and `sha256` identify its file; `pattern` splits text before merging.
    """

    url: str
    sha256: str
    pattern: str


TABLES = {
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


def encoding_for_model(model: str) -> EncodingName:
    """Return the encoding for `model` by its name.

    Provider prefixes and date suffixes do not matter.
    """
    name = model.strip().lower().rsplit("/", 1)[-1]
    if name.startswith("ft:"):
        name = name.split(":")[1]
    if _O200K_MODEL.match(name):
        return "o200k_base"
    if _CL100K_MODEL.match(name):
        return "cl100k_base"
    return "claude_heuristic" if _CLAUDE_MODEL.match(name) else "unknown"


def package_directories(package: str) -> list[Path]:
    """Return the directories of a top-level package; an empty list if it is not installed. Imports nothing."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(location) for location in (spec.submodule_search_locations or ())] if spec else []


def table_name(encoding: EncodingName) -> str:
    """Return the name of the table that counts for an encoding."""
    return encoding if encoding in TABLES else "o200k_base"


@functools.cache
def load_encoding(name: str) -> tiktoken.Encoding | None:
    """Load an encoding.

    Returns None if its table is not on this disk. The file is read once per process, even if reading fails.
    """
    table = TABLES[name]
    data = _table_bytes(table)
    if data is None:
        logger.info("the table of %s is not on this disk; tokens are estimated from the characters", name)
        return None
    try:
        import tiktoken
    except ImportError:
        return None
    # A line is a token in base64 and its rank. Without a loop in Python, as there are 200,000.
    fields = data.split()
    ranks = dict(zip(map(binascii.a2b_base64, fields[::2]), map(int, fields[1::2]), strict=True))
    # No special tokens, on purpose: `<|endoftext|>` in a text is text.
    return tiktoken.Encoding(name, pat_str=table.pattern, mergeable_ranks=ranks, special_tokens={})


_loaded_encodings: set[str] = set()


async def preload_encoding(encoding: EncodingName) -> None:
    """Load the table of an encoding in a thread, so that counting does not block the event loop the first time."""
    if encoding == "heuristic":
        return
    name = table_name(encoding)
    if name not in _loaded_encodings:
        await to_thread.run_sync(load_encoding, name)
        _loaded_encodings.add(name)


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
        logger.warning("%s does not match its published SHA-256 and is not used", directory / file_name)
    return None


def _table_directories() -> Iterator[Path]:
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    yield from (directory / "litellm_core_utils" / "tokenizers" for directory in package_directories("litellm"))
    yield from (directory / "core" / "_static" / "tiktoken_cache" for directory in package_directories("llama_index"))
    yield Path(tempfile.gettempdir(), "data-gym-cache")
