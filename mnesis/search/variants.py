"""Other ways to look up a query word that matches nothing. Pure functions, no I/O.

A variant is an expression of the full-text index. The kinds of variants are tried in order, and the first variant that
finds a message replaces the word: pieces of identifiers and compounds, words joined, beginnings, stems, then words of
the index that contain the word or differ by one typo.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

MIN_PREFIX_CHARS = 3
MIN_STEM_CHARS = 4
MAX_CUT_CHARS = 3
"""Letters cut off the end of a word as a last stem: endings of inflected languages are rarely longer."""
MIN_PIECE_CHARS = 4
MIN_TYPO_CHARS = 5
MAX_VARIANT_CHARS = 64
"""Longer words have no variants, because they are data rather than language."""

_LATIN_STEMMERS = ("german", "spanish", "french", "italian", "portuguese", "dutch")
_STEMMERS_BY_SCRIPT = {"CYRILLIC": ("russian",), "ARABIC": ("arabic",), "GREEK": ("greek",), "LATIN": _LATIN_STEMMERS}
_PREFIXES_BY_SCRIPT = {
    "HEBREW": ("ה", "ב", "ל", "ו", "כ", "מ", "ש"),
    "ARABIC": ("ال", "وال", "بال", "لل", "فال", "كال", "و", "ب", "ل", "ف", "ك"),
}
"""Articles, prepositions and conjunctions that are written together with the word after them."""
_LETTER_PAIRS = (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss"), ("œ", "oe"), ("æ", "ae"))
_BRITISH_ENDING = re.compile(r"i([sz])(?=(?:e|es|ed|er|ers|ing|ation|ations)$)")
MIN_DIGITS_OF_PIECE = 3
MIN_BASE_CHARS = 2
MIN_TWO_TYPOS_CHARS = 7
MIN_SWAPPED_CHARS = 4
MIN_INNER_STEM_CHARS = 5


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
    yield from _with_other_prefixes(word)
    if word.isdigit():
        yield f'"{word}"*'
        yield from (
            all_of([word[:cut], word[cut:]]) for cut in range(MIN_DIGITS_OF_PIECE, len(word) - MIN_DIGITS_OF_PIECE + 1)
        )
        return
    if len(word) >= MIN_PREFIX_CHARS or not word.isascii():
        yield f'"{word}"*'
    yield from dict.fromkeys(beginning(stem) for stem in _stems(word))
    for cut in range(MIN_PIECE_CHARS, len(word) - MIN_PIECE_CHARS + 1):
        yield all_of([word[:cut], word[cut:]])
    if len(parts) > 1:
        yield " OR ".join(f'"{part}"' for part in parts if len(part) >= MIN_PREFIX_CHARS) or f'"{parts[0]}"'


def beginning(text: str) -> str:
    """Return an expression that matches words which begin with a text.

    The index also stems a beginning ("analys" becomes "anali"); in that case a shorter beginning is used.
    """
    for cut in range(MAX_CUT_CHARS):
        start = text[: len(text) - cut]
        if len(start) >= MIN_PREFIX_CHARS and text.startswith(index_stem(start)):
            return f'"{start}"*'
    return f'"{text}"*'


def all_of(words: Iterable[str]) -> str:
    """Return an expression that matches messages with all of the words."""
    return " AND ".join(f'"{word}"' for word in words)


def _spellings(word: str) -> Iterator[str]:
    plain = _without_marks(word)
    for letter, pair in _LETTER_PAIRS:
        if pair in word:
            yield word.replace(pair, letter)
        if letter in word:
            yield word.replace(letter, pair)
    if match := _BRITISH_ENDING.search(word):
        yield f"{word[: match.start(1)]}{'z' if match[1] == 's' else 's'}{word[match.end(1) :]}"
    if plain != word:
        yield plain


def _with_other_prefixes(word: str) -> Iterator[str]:
    """Yield expressions of a Hebrew or Arabic word without its prefix, and of it with any prefix."""
    prefixes = _PREFIXES_BY_SCRIPT.get(_script(word), ())
    bases = [word, *(word[len(prefix) :] for prefix in prefixes if word.startswith(prefix))]
    for base in (base for base in bases if prefixes and len(base) >= MIN_BASE_CHARS):
        if base != word:
            yield f'"{base}"'
        yield " OR ".join(f'"{prefix}{base}"' for prefix in prefixes)


def _stems(word: str) -> list[str]:
    """Return stems of a word in the languages of its script, the longest first, then the word without its last letters."""
    stems = _language_stems(word)
    # In scripts of a single language, stems are precise, so they may be shorter.
    min_chars = MIN_STEM_CHARS if _script(word) == "LATIN" else MIN_PREFIX_CHARS
    cuts = {
        word[:-cut] for cut in range(1, MAX_CUT_CHARS + 1) if len(word) - cut >= max(MIN_STEM_CHARS, len(word) * 3 // 5)
    }
    return sorted((stem for stem in stems | cuts if len(stem) >= min_chars and stem != word), key=len, reverse=True)


def _language_stems(word: str) -> set[str]:
    return {_stemmer(language).stemWord(word) for language in _STEMMERS_BY_SCRIPT.get(_script(word), ())}


@cache
def _stemmer(language: str) -> Any:
    import snowballstemmer  # imported at the first search, because it loads the stemmers of all its languages

    return snowballstemmer.stemmer(language)


def index_stem(word: str) -> str:
    """Return the stem that the index keeps of a word: no accents, and Porter's rules for ASCII words."""
    plain = _without_marks(word.lower())
    return str(_stemmer("porter").stemWord(plain)) if plain.isascii() else plain


def compound_tail(word: str) -> str:
    """Return the ending in the index of a compound that ends with this word. Its measure is longer, so more is
    stemmed.
    """
    head = "babab"
    return index_stem(head + word)[len(head) :]


def _script(word: str) -> str:
    return unicodedata.name(word[0], "").partition(" ")[0] if word else ""


def _without_marks(word: str) -> str:
    decomposed = unicodedata.normalize("NFD", word)
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def similar_words(word: str, vocabulary: Iterable[str]) -> list[str]:
    """Return the words of the vocabulary that contain the word, or else those with one typo, or else with two."""
    stem, plain, tail = index_stem(word), _without_marks(word), compound_tail(word)
    terms = [term for term in vocabulary if len(term) >= len(stem) - 1]
    # Simple tests first, because there may be 100,000 terms.
    inner = {stem, plain, *(each for each in _language_stems(word) if len(each) >= MIN_INNER_STEM_CHARS)}
    containing = {term for each in inner for term in terms if each in term}
    containing.update([term for term in terms if term.endswith(tail) and len(term) > len(tail) + 2])
    if containing:
        return sorted(containing)
    near = [term for term in terms if len(term) <= len(stem) + 2]
    if len(word) >= MIN_SWAPPED_CHARS:
        may_differ, letters = len(word) >= MIN_TYPO_CHARS, sorted(stem)
        one_typo = [term for term in near if is_one_typo_away(stem, term) and (may_differ or sorted(term) == letters)]
        if one_typo:
            return one_typo
    if len(stem) < MIN_TWO_TYPOS_CHARS:
        return []
    return [term for term in near if term[0] == stem[0] and are_two_typos_apart(stem, term)]


def is_one_typo_away(word: str, other: str) -> bool:
    """Return whether one letter was inserted, left out, replaced or swapped with the next."""
    if abs(len(word) - len(other)) > 1 or word == other:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    rest, other_rest = word[start:], other[start:]
    if len(word) != len(other):
        return rest[1:] == other_rest or rest == other_rest[1:]
    return rest[1:] == other_rest[1:] or (rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:])


def are_two_typos_apart(word: str, other: str) -> bool:
    """Return whether two words differ by at most two typos: one where they first differ, and one after it."""
    if abs(len(word) - len(other)) > 2:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    rest, other_rest = word[start:], other[start:]
    mended = (
        (rest[1:], other_rest),
        (rest, other_rest[1:]),
        (rest[1:], other_rest[1:]),
        (rest[1::-1] + rest[2:], other_rest),
    )
    return any(one == two or is_one_typo_away(one, two) for one, two in mended)
