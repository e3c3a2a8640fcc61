"""Whether a model's summary may stand for what it was made from. It cannot be known to be good, only not to be evidently bad.

Small models answer with loops, with the transcript itself, with an apology. Each check is one pass over the text.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice

LENGTH_SLACK = 1.1
"""How far a summary may exceed what was asked for: models count words, not tokens."""

SHINGLE_WORDS = 4
WINDOW_WORDS = 120
MIN_LOOP_WORDS = 24
MIN_DISTINCT_SHARE = 0.4
"""Of the runs of four words in a window, so many differ at least. Prose and lists of steps stay above 0.8."""

MIN_LOOP_LINES = 4
MIN_LOOP_LINE_CHARS = 12
MIN_COMPRESSED_CHARS = 400
MIN_COMPRESSED_SHARE = 0.1
"""Deflate takes prose to about 0.4 of its size, a long list with a fixed form to 0.2, a loop to a few hundredths."""

ECHO_WORDS = 40
MIN_ECHO_WORDS = 12
ECHO_SHINGLE_WORDS = 8
ECHO_SHARE = 0.8
EXCUSE_WORDS = 60

_WORD = re.compile(r"\w+")
_ROLE = r"(?:system|user|assistant|tool|human|ai|model|bot)"
_ROLE_ALONE = re.compile(rf"\W*{_ROLE}?\W*", re.IGNORECASE)
_ROLE_LINE = re.compile(rf"\s*(?:#\d+\s*)?[\[<(*|]*{_ROLE}[\])>*|]*\s*:|\s*\[{_ROLE}\]", re.IGNORECASE)
_ROLE_PREFIX = re.compile(rf"^\W*(?:\d+\W+)?{_ROLE}\b\W*", re.IGNORECASE | re.MULTILINE)
_PROMPT = re.compile(r"^=== [0-9a-f]{16} ===|Use at most about \d+ words\.", re.MULTILINE)
_EXCUSE = re.compile(
    r"\W*(?:"
    r"(?:i['’]?m|i am|we['’]re) (?:so |very |really )?(?:sorry|afraid|unable)\b|sorry\b|i apologi[sz]e|my apologies|as an ai\b"
    r"|i (?:can['’]?t|cannot|can not|won['’]t|am unable to|am not able to)"
    r" (?:help|assist|do that|summari[sz]e|provide|fulfil|comply|complete|create|access|see|process)"
    r"|(?:please|could you|can you) (?:please )?(?:provide|share|paste)\b|there is (?:no|nothing) .{0,30}to summari[sz]e"
    r"|es tut mir leid|entschuldigung|tut mir leid|je suis désolé|désolé|lo siento|mi dispiace|desculpe"
    r"|抱歉|对不起|很抱歉|申し訳|すみません|죄송"
    r")",
    re.IGNORECASE,
)


def refusal(summary: str, source: str, *, summary_tokens: int, source_tokens: int, max_tokens: int) -> str:
    """Why `summary` must not be taken for `source`; "" if nothing speaks against it. Never raises.

    `summary_tokens` and `source_tokens` are their sizes, `max_tokens` is what was asked for at most.
    """
    if not summary.strip():
        return "it is empty"
    if all(_ROLE_ALONE.fullmatch(line) for line in summary.splitlines()):
        return "it holds no words but role markers"
    if summary_tokens >= source_tokens:
        return f"it is not smaller ({summary_tokens:,} tokens) than what it stands for ({source_tokens:,})"
    if summary_tokens > max_tokens * LENGTH_SLACK:
        return f"it is too long ({summary_tokens:,} tokens; {max_tokens:,} were asked for)"
    if _is_excuse(summary):
        return "it is an excuse, not a summary"
    if _loops(summary):
        return "it repeats itself over and over"
    if _PROMPT.search(summary):
        return "it repeats its instructions"
    if _is_transcript(summary) or _echoes(summary, source):
        return "it repeats the conversation instead of summing it up"
    return ""


def _is_excuse(summary: str) -> bool:
    return bool(_EXCUSE.match(summary)) and len(_words(summary, EXCUSE_WORDS + 1)) <= EXCUSE_WORDS


def _words(text: str, limit: int | None = None) -> list[str]:
    return [match.group().lower() for match in islice(_WORD.finditer(text), limit)]


def _loops(summary: str) -> bool:
    return _same_line_over_and_over(summary) or _same_words_over_and_over(_words(summary)) or _compresses_away(summary)


def _same_line_over_and_over(summary: str) -> bool:
    lines = [line.strip().lower() for line in summary.splitlines()]
    lines = [line for line in lines if len(line) >= MIN_LOOP_LINE_CHARS and _WORD.search(line)]
    if not lines:
        return False
    times = Counter(lines).most_common(1)[0][1]
    return times >= MIN_LOOP_LINES and 3 * times > len(lines)


def _same_words_over_and_over(words: Sequence[str]) -> bool:
    """Whether some window of the text, its end above all, says few different things."""
    if len(words) < MIN_LOOP_WORDS:
        return len(words) >= MIN_LOOP_WORDS // 2 and 4 * len(set(words)) <= len(words)
    starts = {*range(0, len(words) - WINDOW_WORDS + 1, WINDOW_WORDS // 2), max(0, len(words) - WINDOW_WORDS)}
    return any(
        _distinct_share(words[start : start + WINDOW_WORDS], SHINGLE_WORDS) < MIN_DISTINCT_SHARE for start in starts
    )


def _distinct_share(words: Sequence[str], size: int) -> float:
    shingles = _shingles(words, size)
    return len(set(shingles)) / len(shingles) if shingles else 1.0


def _shingles(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def _compresses_away(summary: str) -> bool:
    data = summary.encode("utf-8", "surrogatepass")
    return len(summary) >= MIN_COMPRESSED_CHARS and len(zlib.compress(data)) < MIN_COMPRESSED_SHARE * len(data)


def _is_transcript(summary: str) -> bool:
    lines = [line for line in summary.splitlines() if line.strip()]
    marked = sum(bool(_ROLE_LINE.match(line)) for line in lines)
    return marked >= MIN_LOOP_LINES and 2 * marked > len(lines)


def _echoes(summary: str, source: str) -> bool:
    """Whether the summary starts as the source starts, word for word, and says nothing else."""
    said = _words(_ROLE_PREFIX.sub("", summary))
    start = said[:ECHO_WORDS]
    head = source[: 20 * len(summary)]
    heard = _words(_ROLE_PREFIX.sub("", head))
    if len(start) < MIN_ECHO_WORDS or heard[: len(start)] != start:
        return False
    known = set(_shingles(heard, ECHO_SHINGLE_WORDS))
    shingles = _shingles(said, ECHO_SHINGLE_WORDS)
    return sum(shingle in known for shingle in shingles) >= ECHO_SHARE * len(shingles)
