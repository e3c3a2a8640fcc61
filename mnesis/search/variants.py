"""Other ways to look up a query word that matches nothing. Pure functions, no I/O.

A variant is an expression of the full-text index. The rungs are tried in order, and the first variant that finds a message
replaces the word: pieces of identifiers and compounds, words joined, beginnings, stems, then words of the index that contain
the word or differ by one typo.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from mnesis.search.analysis import REPEATED_MARK

MIN_PREFIX_CHARS = 3
MIN_STEM_CHARS = 4
MAX_CUT_CHARS = 3
"""Letters cut off the end of a word as a last stem: endings of inflected languages are rarely longer."""
MIN_PIECE_CHARS = 4
MIN_TYPO_CHARS = 5
MAX_VARIANT_CHARS = 64
"""Longer words are not looked for in other ways; they are data rather than language."""

_LATIN_STEMMERS = ("german", "spanish", "french", "italian", "portuguese", "dutch")
_STEMMERS_BY_SCRIPT = {"CYRILLIC": ("russian",), "ARABIC": ("arabic",), "GREEK": ("greek",), "LATIN": _LATIN_STEMMERS}
_HEBREW_PREFIXES = "והבלכמש"
_UMLAUTS = (("ä", "ae"), ("ö", "oe"), ("ü", "ue"))


def variants(word: str, pieces: Iterable[str], neighbours: Iterable[str]) -> Iterator[str]:
    """Yield index expressions for a word that matches nothing, the most faithful first.

    `pieces` are its parts at humps. `neighbours` are the words before and after it, joined with it.
    """
    if len(word) > MAX_VARIANT_CHARS:
        return
    parts = [piece for piece in pieces if len(piece) > 1]
    if len(parts) > 1:
        yield all_of(parts)
    yield from (f'"{joined}"' for joined in neighbours)
    for spelling in _spellings(word):
        yield f'"{spelling}"'
    if word.isdigit():
        yield f'"{word}"*'
        return
    if len(word) >= MIN_PREFIX_CHARS or not word.isascii():
        yield f'"{word}"*'
    yield from (f'"{stem}"*' for stem in _stems(word))
    for cut in range(MIN_PIECE_CHARS, len(word) - MIN_PIECE_CHARS + 1):
        yield all_of([word[:cut], word[cut:]])
    if len(parts) > 1:
        yield " OR ".join(f'"{part}"' for part in parts if len(part) >= MIN_PREFIX_CHARS) or f'"{parts[0]}"'


def all_of(words: Iterable[str]) -> str:
    """Return an expression that matches messages with all of the words."""
    return " AND ".join(f'"{word}"' for word in words)


def _spellings(word: str) -> Iterator[str]:
    plain = _without_marks(word)
    for letter, pair in _UMLAUTS:
        if pair in word:
            yield word.replace(pair, letter)
        if letter in word:
            yield word.replace(letter, pair)
    if plain != word:
        yield plain
    if _script(word) == "HEBREW" and len(word) > MIN_PREFIX_CHARS and word[0] in _HEBREW_PREFIXES:
        yield word[1:]


def _stems(word: str) -> list[str]:
    """Return stems of a word in the languages of its script, the longest first, then the word without its last letters."""
    languages = _STEMMERS_BY_SCRIPT.get(_script(word), ())
    stems = {_stemmer(language).stemWord(word) for language in languages}
    cuts = {
        word[:-cut] for cut in range(1, MAX_CUT_CHARS + 1) if len(word) - cut >= max(MIN_STEM_CHARS, len(word) * 3 // 5)
    }
    return sorted(
        (stem for stem in stems | cuts if len(stem) >= MIN_STEM_CHARS and stem != word), key=len, reverse=True
    )


@cache
def _stemmer(language: str) -> Any:
    import snowballstemmer  # at the first search: it loads the stemmers of all its languages

    return snowballstemmer.stemmer(language)


def index_stem(word: str) -> str:
    """Return the stem that the index keeps of a word: no accents, and Porter's rules for ASCII words."""
    plain = _without_marks(word.lower())
    return str(_stemmer("porter").stemWord(plain)) if plain.isascii() else plain


def compound_tail(word: str) -> str:
    """Return how a compound that ends with this word ends in the index: its measure is longer, so more is stemmed."""
    head = "babab"
    return index_stem(head + word)[len(head) :]


def _script(word: str) -> str:
    return unicodedata.name(word[0], "").partition(" ")[0] if word else ""


def _without_marks(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def similar_words(word: str, vocabulary: Iterable[str]) -> list[str]:
    """Return the words of the vocabulary that contain the word, or else those that differ from it by one typo."""
    stem, plain, tail = index_stem(word), _without_marks(word), compound_tail(word)
    containing, misspelt = [], []
    for term in vocabulary:
        if term[0] == REPEATED_MARK:
            continue
        if plain in term or stem in term or (len(term) > len(tail) + 2 and term.endswith(tail)):
            containing.append(term)
        elif len(word) >= MIN_TYPO_CHARS and is_one_typo_away(stem, term):
            misspelt.append(term)
    return containing or misspelt


def is_one_typo_away(word: str, other: str) -> bool:
    """Return whether one letter was inserted, left out, replaced or swapped with the next."""
    if abs(len(word) - len(other)) > 1 or word == other:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    rest, other_rest = word[start:], other[start:]
    if len(word) != len(other):
        return rest[1:] == other_rest or rest == other_rest[1:]
    return rest[1:] == other_rest[1:] or (rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:])
