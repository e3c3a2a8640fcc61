"""How level 3 reads text: where sentences end, what a sentence is about, which words it can do without."""

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
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")
_CODE = re.compile(r"[{}()\[\]<>=;|\\`]")
_ENGLISH = re.compile(r"\b(?:the|and|of|you|with|this|have|it's|i'm)\b", re.IGNORECASE)
_FILLER = frozenset(("a", "an", "the", "very", "really", "just", "actually", "basically"))

_AROUND = ".,;:!?\"'`*()[]{}<>"
_SYMBOLS = re.compile(r"[{}()\[\]<>=;|\\_]")

NAMED = 1.4
PLAIN = 1.0
PAIR = 0.5
"""Each character of an unspaced script is in two pairs."""

NOISE = 0.3


def split_units(text: str) -> list[str]:
    """Sentences and lines of `text` in order, long ones cut into clauses, none longer than `MAX_UNIT_CHARS`."""
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
            yield from _cut(sentence[start : end.end()].strip())
            start = end.end()
    yield from _cut(sentence[start:])


def _cut(clause: str) -> Iterator[str]:
    start = 0
    while len(clause) - start > MAX_UNIT_CHARS:
        end = clause.rfind(" ", start + MAX_UNIT_CHARS // 2, start + MAX_UNIT_CHARS)
        end = end if end > 0 else start + MAX_UNIT_CHARS
        yield clause[start:end].strip()
        start = end
    yield clause[start:].strip()


def features(text: str) -> dict[str, float]:
    """What `text` is about, and how telling each is by its form.

    Features are its words in lower case, whole paths, dates and identifiers, and pairs of characters where a script
    sets no spaces. Names (capitals inside a sentence), numbers and identifiers are `NAMED`, other words `PLAIN`, a text
    without words is one `NOISE`.
    """
    found: dict[str, float] = {}
    for match in _WORD.finditer(text):
        word = match.group()
        if _UNSPACED.search(word):
            found.update(dict.fromkeys((word[i : i + 2] for i in range(max(1, len(word) - 1))), PAIR))
        else:
            named = word[0].isdigit() or (match.start() > 0 and word[0].isupper() and len(word) > 1)
            found[word.lower()] = NAMED if named else PLAIN
    found.update(dict.fromkeys(_compounds(text), NAMED))
    return found or {text: NOISE}


def _compounds(text: str) -> Iterator[str]:
    for token in text.split():
        core = token.strip(_AROUND)
        if _COMPOUND.search(core):
            yield core


def is_code(line: str) -> bool:
    """Whether a line has the symbols of code or markup: one character in twelve or more."""
    return 12 * len(_SYMBOLS.findall(line)) > len(line)


def shorten(text: str) -> str:
    """`text` on one line, without filler words; long encoded runs are cut. Code keeps its words."""
    text = " ".join(_BLOB.sub(lambda run: run.group()[:16] + "…", text).split())
    if _CODE.search(text) or not _ENGLISH.search(text):
        return text
    words = text.split(" ")
    return " ".join(word for place, word in enumerate(words) if not _is_filler(word, place))


def _is_filler(word: str, place: int) -> bool:
    return word in _FILLER or (place == 0 and word.lower() in _FILLER)
