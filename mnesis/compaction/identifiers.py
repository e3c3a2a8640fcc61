"""Rare identifiers of a conversation, for the "Also mentioned" line of summaries.

Pure functions, no I/O.

Paths, ids, hashes, numbers, error codes and names in code often occur once, so neither extracts nor models keep them. The
line keeps them verbatim, so that a reader can search for them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mnesis.tokens.estimator import TokenCounter

ALSO_MENTIONED = "Also mentioned"
MAX_OCCURRENCES = 3
"""Passages. An identifier in more messages is a subject of the conversation, which the summary itself covers."""
MAX_NAME_FRACTION = 0.1
"""A fraction of the words: in English text, about 4 per cent of the words inside sentences are capitalized, in German
about 20."""
MIN_CHARS, MAX_CHARS = 4, 100

# Letters, digits and the punctuation that joins them, such as src/a.py:12, user_id, v1.2.3 or E-1042. No spaces, so that an
# identifier cannot imitate the structure of a summary.
_TOKEN = re.compile(r"https?://[^\s\"'<>()\[\]{}`]+|[\w~./\\@#%+:-]+(?:\(\))?")
_NUMBER_GROUPS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?!\w|,\d)")
# Numbers before the lines of a listing (cat -n, grep -n), and line breaks and quotes that JSON escapes. A drive's backslash is
# part of a path.
_LAYOUT = re.compile(r"^[ \t]*\d+(?:[:|]|(?=\t))|(?<![A-Za-z]:)(?<!\\)\\[nrt\"']", re.MULTILINE)
_EDGES = ".,;:-#%+@\\"
_HUMP = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]")
_ERROR_NAME = re.compile(r"E[A-Z]{4,}|SIG[A-Z]{2,}")
# Capitalized words inside a sentence. In English, these are names.
_NAME = re.compile(r"(?<=[a-zà-ÿ,;] )[A-ZÀ-Þ][\w'’-]*[a-zà-ÿ](?: [A-ZÀ-Þ][\w'’-]*[a-zà-ÿ])*")
_ENCODED_DATA = re.compile(r"[A-Za-z0-9+/=_-]{48,}")
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]+")


def find_identifiers(text: str) -> Iterator[str]:
    """Yield the identifiers of a text verbatim, repeated ones included."""
    text = _LAYOUT.sub(" ", text)
    yield from _NUMBER_GROUPS.findall(text)
    for token in _TOKEN.findall(text):
        word = token.strip(_EDGES)
        if MIN_CHARS <= len(word) <= MAX_CHARS and is_identifier(word):
            yield word


def find_names(texts: Sequence[str]) -> Iterator[str]:
    """Yield the names in texts, repeated ones included; none if the language capitalizes other words, as German does."""
    names = [name for text in texts for name in _NAME.findall(text)]
    if len(names) <= MAX_NAME_FRACTION * sum(text.count(" ") for text in texts):
        yield from (name for name in names if MIN_CHARS <= len(name) <= MAX_CHARS)


def is_identifier(word: str) -> bool:
    """Return whether a word has digits, humps, underscores or slashes, or is written in capitals, as identifiers are.
    Encoded data is not an identifier.
    """
    if _ENCODED_DATA.fullmatch(word) and not _HEXADECIMAL.fullmatch(word):
        return False
    has_joint = "_" in word.strip("_") or "/" in word.strip("/") or "\\" in word
    return has_joint or any(map(str.isdigit, word)) or bool(_HUMP.search(word) or _ERROR_NAME.fullmatch(word))


def list_missing_identifiers(texts: Sequence[str], summary: str, max_tokens: int, count: TokenCounter) -> str:
    """Return a line with the rare identifiers of the texts that the summary lacks, in order, in at most `max_tokens`.

    If not all fit, paths, numbers and names share the tokens evenly, and the shortest of each come first, because more of
    them fit. Returns "" if there are none.
    """
    frequencies: Counter[str] = Counter()
    for text in texts:
        frequencies.update(dict.fromkeys(find_identifiers(text), 1))
    frequencies.update(find_names(texts))
    rare = [word for word, times in frequencies.items() if times <= MAX_OCCURRENCES]
    kept = set(_select(rare, summary, max_tokens - count(f"{ALSO_MENTIONED}: ") - 1, count))
    words = [word for word in rare if word in kept]
    # Tokens of pieces do not add up exactly, so the line is counted whole.
    while words and count(line := f"{ALSO_MENTIONED}: {', '.join(words)}") > max_tokens:
        words = words[: len(words) * 9 // 10]
    return line if words else ""


def _select(words: Sequence[str], summary: str, max_tokens: int, count: TokenCounter) -> Iterator[str]:
    queues: dict[str, list[str]] = {}
    for word in sorted(words, key=len, reverse=True):
        queues.setdefault(_kind(word), []).append(word)
    used_tokens = dict.fromkeys(queues, 0)
    while queues:
        kind = min(queues, key=lambda kind: used_tokens[kind])
        word = queues[kind].pop()
        is_missing = word not in summary
        if is_missing and (cost := count(f", {word}")) <= max_tokens - sum(used_tokens.values()):
            used_tokens[kind] += cost
            yield word
        elif is_missing:
            # All others of this kind are longer.
            queues[kind].clear()
        if not queues[kind]:
            del queues[kind]


def _kind(word: str) -> str:
    if not is_identifier(word):
        return "name"
    if "/" in word or "\\" in word:
        return "path"
    return "identifier" if any(map(str.isalpha, word)) else "number"
