"""The facts of a text that a summary can keep exactly: names, numbers, paths and identifiers.

Pure functions, no I/O.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from mnesis.search.analysis import STOP_WORDS

MIN_FACT_CHARS = 2
MAX_FACT_CHARS = 64
"""Longer tokens are encoded data, which no summary quotes."""

MIN_NUMBER_DIGITS = 3
"""Shorter plain numbers are mostly positions: of items, lines, pages and turns. Numbers with a unit, a letter or a
point count."""

MIN_TERM_CHARS = 4
STEM_CHARS = 4
"""The first characters of a word: enough to distinguish words, and the same for most inflected forms."""

_TOKEN = re.compile(r"[^\s\"'`’“”„«»<>(){}\[\],;|*=，。、；：！？「」『』（）《》]+")
_DIGIT_GROUP = re.compile(r"(?<=\d)[,'’\u00a0\u202f](?=\d{3}(?!\d))")
_WORD = re.compile(r"[^\W_]+(?:_+[^\W_]+)*")
_UNSPACED_SCRIPT = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")
_UNSPACED_RUN = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+")
_SPACED_RUN = re.compile(r"[^\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+")
_PATH = re.compile(r"^(?:[A-Za-z]+://|~[\\/]|\.{0,2}[\\/]|[A-Za-z]:[\\/])|[\\/].*[\\/.\d_]")
_IDENTIFIER = re.compile(r"[^\W_]_[^\W_]|[a-z][A-Z]|\w\.[A-Za-z]\w|\w@\w|\w::\w")
_SENTENCE_END = '.!?:…\n#*>•|-–—"“„«(['
_EDGES = ".:!?-–—_/\\#@&+~^%$€£¥…"
_QUOTES = ('"', "'", "`")


class Facts(NamedTuple):
    """The distinct facts of a text in lower case: exact ones, and names."""

    exact: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    @property
    def weight(self) -> float:
        """How much the facts say. A name counts half: it may be an ordinary word, as German writes nouns with capitals."""
        return len(self.exact) + len(self.names) / 2

    def kept_in(self, summary: str) -> Facts:
        """Return those of the facts that a summary states, in upper or lower case."""
        text = _normalize(summary).lower()
        return Facts(*(frozenset(fact for fact in facts if _occurs(fact, text)) for facts in self))


def find_facts(text: str) -> Facts:
    """Return the facts of a text.

    Exact ones are words with a digit, the last component of paths and addresses, file names, and identifiers such as `user_id`
    and `userId`. Names are words with a capital inside a sentence that never occur without it. Plain numbers of one or two
    digits and encoded data are left out.
    """
    text = _normalize(text)
    exact, names = set[str](), set[str]()
    for token, start in _tokens(text):
        fact = _exact_fact(token)
        if fact:
            exact.add(fact)
        elif _is_name(token, text, start):
            names.add(token.strip(_EDGES).lower())
    names -= {word.group() for word in _WORD.finditer(text) if word.group().islower()}
    return Facts(_limit_length(exact), _limit_length(names - exact))


def _limit_length(facts: set[str]) -> frozenset[str]:
    return frozenset(fact for fact in facts if MIN_FACT_CHARS <= len(fact) <= MAX_FACT_CHARS)


def _occurs(fact: str, text: str) -> bool:
    """Return whether the text contains a fact that is not just a part of a longer word or number."""
    start = text.find(fact)
    while start >= 0:
        before, after = text[start - 1 : start], text[start + len(fact) : start + len(fact) + 1]
        if not _continues_word(before) and not _continues_word(after):
            return True
        start = text.find(fact, start + 1)
    return False


def _continues_word(character: str) -> bool:
    # Scripts without spaces put their characters next to a number or a Latin name.
    return character.isalnum() and not _UNSPACED_SCRIPT.match(character)


def find_terms(text: str) -> frozenset[str]:
    """Return the terms of a text: its longer words, cut to their stems, and pairs of characters in scripts without
    spaces.
    """
    text = _normalize(text).lower()
    words = (run for word in _WORD.finditer(text) for run in _SPACED_RUN.findall(word.group()))
    stems = {w[:STEM_CHARS] for w in words if len(w) >= MIN_TERM_CHARS and w not in STOP_WORDS}
    runs = _UNSPACED_RUN.findall(text)
    return frozenset(stems | {run[i : i + 2] for run in runs for i in range(len(run) - 1)})


def is_unspaced(text: str) -> bool:
    """Return whether a text is written mostly in a script without spaces, such as Chinese, Japanese or Thai."""
    letters = sum(map(str.isalpha, text))
    return 2 * sum(map(len, _UNSPACED_RUN.findall(text))) > letters


def _normalize(text: str) -> str:
    """Write full-width characters as usual ones, and numbers without separators of thousands."""
    return _DIGIT_GROUP.sub("", unicodedata.normalize("NFKC", text))


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    for match in _TOKEN.finditer(text):
        if not _UNSPACED_SCRIPT.search(match.group()):
            yield match.group(), match.start()
            continue
        for run in _SPACED_RUN.finditer(match.group()):
            yield run.group(), match.start() + run.start()


def _exact_fact(token: str) -> str:
    """Return the path, number or identifier in a token, or ""."""
    is_path = bool(_PATH.search(token))
    token = token.strip(_EDGES)
    if is_path:
        token = re.split(r"[\\/]", token)[-1]
    is_number = any(map(str.isdigit, token)) and not (token.isdigit() and len(token) < MIN_NUMBER_DIGITS)
    is_exact = is_path or is_number or bool(_IDENTIFIER.search(token))
    return token.lower() if is_exact else ""


def _is_name(token: str, text: str, start: int) -> bool:
    word = token.strip(_EDGES)
    if not word[:1].isupper() or word.lower() in STOP_WORDS or "'" in word:
        return False
    is_quoted = text[start - 1 : start] in _QUOTES and text[start + len(token) :][:1] in _QUOTES
    return is_quoted or not _starts_sentence(text, start)


def _starts_sentence(text: str, start: int) -> bool:
    before = text[max(start - 8, 0) : start].rstrip(" \t\"'“„«([*_")
    return not before or before[-1] in _SENTENCE_END
