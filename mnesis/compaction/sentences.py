"""Text analysis for level 3: sentence boundaries, features of a sentence, and filler words.

Pure functions, no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_UNIT_CHARS = 280
MIN_CLAUSE_CHARS = 60

_SENTENCE_END = re.compile(r"(?<=[.!?…؟।])[\"'”’»)\]]*\s+|(?<=[。！？])|\n\s*")
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+|(?<=[，、；：،])|\s(?=[–—-]\s)")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_COMPOUND = re.compile(r"\w[./\\:_@#-]\w")
_BLOB = re.compile(r"[A-Za-z0-9+/=_-]{64,}")
_UNSPACED_SCRIPT = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")
_CODE = re.compile(r"[{}()\[\]<>=;|\\`]")
_ENGLISH = re.compile(r"\b(?:the|and|of|you|with|this|have|it's|i'm)\b", re.IGNORECASE)
_FILLER_WORDS = frozenset(("a", "an", "the", "very", "really", "just", "actually", "basically"))

_EDGE_PUNCTUATION = ".,;:!?\"'`*()[]{}<>"
_SYMBOLS = re.compile(r"[{}()\[\]<>=;|\\_]")

NAME_WEIGHT = 1.4
WORD_WEIGHT = 1.0
CHAR_PAIR_WEIGHT = 0.5
"""Half the weight of a word, because each character of a script without spaces is in two pairs."""

NOISE_WEIGHT = 0.3
"""The weight of text without words, and of numbers in texts that are full of them."""


def split_units(text: str) -> list[str]:
    """Split text into sentences and lines.

    Long ones are split into clauses of at most `MAX_UNIT_CHARS`.
    """
    return [unit for sentence in _sentences(text) for unit in _clauses(sentence) if unit]


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in _SENTENCE_END.finditer(text):
        yield text[start : end.end()].strip()
        start = end.end()
    yield text[start:].strip()


def _clauses(sentence: str) -> Iterator[str]:
    start = 0
    for end in _CLAUSE_END.finditer(sentence):
        if end.start() - start >= MIN_CLAUSE_CHARS and len(sentence) - end.end() >= MIN_CLAUSE_CHARS:
            yield from _split_clause(sentence[start : end.end()].strip())
            start = end.end()
    yield from _split_clause(sentence[start:])


def _split_clause(clause: str) -> Iterator[str]:
    start = 0
    while len(clause) - start > MAX_UNIT_CHARS:
        end = clause.rfind(" ", start + MAX_UNIT_CHARS // 2, start + MAX_UNIT_CHARS)
        end = end if end > 0 else start + MAX_UNIT_CHARS
        yield clause[start:end].strip()
        start = end
    yield clause[start:].strip()


def features(text: str) -> dict[str, float]:
    """Return the features of a text with their weights.

    Features are its words in lower case, whole paths, dates and identifiers, and pairs of characters in scripts without
    spaces. Names (capitals inside a sentence), numbers and identifiers weigh `NAME_WEIGHT`, other words `WORD_WEIGHT`. A
    text without words is a single feature with `NOISE_WEIGHT`.
    """
    weights: dict[str, float] = {}
    for match in _WORD.finditer(text):
        word = match.group()
        if _UNSPACED_SCRIPT.search(word):
            weights.update(dict.fromkeys((word[i : i + 2] for i in range(max(1, len(word) - 1))), CHAR_PAIR_WEIGHT))
        else:
            is_name = word[0].isdigit() or (match.start() > 0 and word[0].isupper() and len(word) > 1)
            weights[word.lower()] = NAME_WEIGHT if is_name else WORD_WEIGHT
    weights.update(dict.fromkeys(_compounds(text), NAME_WEIGHT))
    return weights or {text: NOISE_WEIGHT}


def _compounds(text: str) -> Iterator[str]:
    for token in text.split():
        compound = token.strip(_EDGE_PUNCTUATION)
        if _COMPOUND.search(compound):
            yield compound


def is_code(line: str) -> bool:
    """Return whether a line is code or markup.

    That is assumed if at least one character in twelve is one of their symbols.
    """
    return 12 * len(_SYMBOLS.findall(line)) > len(line)


def shorten(text: str) -> str:
    """Return the text on one line, without filler words and with long encoded data cut.

    Code keeps all its words.
    """
    text = " ".join(_BLOB.sub(lambda run: run.group()[:16] + "…", text).split())
    if _CODE.search(text) or not _ENGLISH.search(text):
        return text
    words = text.split(" ")
    return " ".join(word for position, word in enumerate(words) if not _is_filler(word, position))


def _is_filler(word: str, position: int) -> bool:
    return word in _FILLER_WORDS or (position == 0 and word.lower() in _FILLER_WORDS)
