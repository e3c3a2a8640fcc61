"""Checks that reject obviously bad summaries.

A bad summary is empty, too long, looping, echoing or declining. They cannot tell whether a summary is good. Small
models answer with loops, with the transcript itself, or with an apology. Each check is one pass over the text. Pure
functions, no I/O.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice

MAX_LENGTH_RATIO = 1.1
"""Of the requested tokens. Models are asked for words and cannot count tokens."""

SHINGLE_WORDS = 4
WINDOW_WORDS = 120
MIN_LOOP_WORDS = 24
MIN_DISTINCT_FRACTION = 0.4
"""Of the four-word runs in a window of words, how many must differ. Prose and lists of steps stay above 0.8."""

MIN_LOOP_LINES = 4
MIN_LOOP_LINE_CHARS = 12
MIN_COMPRESSED_CHARS = 400
MIN_COMPRESSED_FRACTION = 0.1
"""Size after deflate. Prose comes to about 0.4, a long list with a fixed form to 0.2, a loop to a few hundredths."""

ECHO_WORDS = 40
MIN_ECHO_WORDS = 12
ECHO_SHINGLE_WORDS = 8
MIN_ECHO_FRACTION = 0.8
MAX_REFUSAL_WORDS = 60

_WORD = re.compile(r"\w+")
_ROLE = r"(?:system|user|assistant|tool|human|ai|model|bot)"
_ROLE_ALONE = re.compile(rf"\W*{_ROLE}?\W*", re.IGNORECASE)
_ROLE_LINE = re.compile(rf"\s*(?:#\d+\s*)?[\[<(*|]*{_ROLE}[\])>*|]*\s*:|\s*\[{_ROLE}\]", re.IGNORECASE)
_ROLE_PREFIX = re.compile(rf"^\W*(?:\d+\W+)?{_ROLE}\b\W*", re.IGNORECASE | re.MULTILINE)
_PROMPT_ECHO = re.compile(r"^=== [0-9a-f]{16} ===|Use at most about \d+ words\.", re.MULTILINE)
_MODEL_REFUSAL = re.compile(
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


def rejection_reason(
    summary: str, source: str, *, summary_tokens: int, source_tokens: int, max_tokens: int
) -> str | None:
    """Return why a summary of `source` must be rejected, or None if no check fails.

    Never raises.

    `max_tokens` is the largest size that was requested.
    """
    if not summary.strip():
        return "it is empty"
    if all(_ROLE_ALONE.fullmatch(line) for line in summary.splitlines()):
        return "it contains only role markers"
    if summary_tokens >= source_tokens:
        return f"it is not smaller ({summary_tokens:,} tokens) than its source ({source_tokens:,} tokens)"
    if summary_tokens > max_tokens * MAX_LENGTH_RATIO:
        return f"it is too long ({summary_tokens:,} tokens; at most {max_tokens:,} were requested)"
    if _is_model_refusal(summary):
        return "it is a refusal, not a summary"
    if _is_looping(summary):
        return "it repeats itself"
    if _PROMPT_ECHO.search(summary):
        return "it repeats its instructions"
    if _is_transcript(summary) or _echoes_source(summary, source):
        return "it repeats the conversation instead of summarizing it"
    return None


def _is_model_refusal(summary: str) -> bool:
    return bool(_MODEL_REFUSAL.match(summary)) and len(_words(summary, MAX_REFUSAL_WORDS + 1)) <= MAX_REFUSAL_WORDS


def _words(text: str, limit: int | None = None) -> list[str]:
    return [match.group().lower() for match in islice(_WORD.finditer(text), limit)]


def _is_looping(summary: str) -> bool:
    return _repeats_line(summary) or _repeats_phrases(_words(summary)) or _is_highly_compressible(summary)


def _repeats_line(summary: str) -> bool:
    lines = [line.strip().lower() for line in summary.splitlines()]
    lines = [line for line in lines if len(line) >= MIN_LOOP_LINE_CHARS and _WORD.search(line)]
    if not lines:
        return False
    max_count = Counter(lines).most_common(1)[0][1]
    return max_count >= MIN_LOOP_LINES and 3 * max_count > len(lines)


def _repeats_phrases(words: Sequence[str]) -> bool:
    """Return whether some window of the text has few distinct phrases.

    The last window always counts.
    """
    if len(words) < MIN_LOOP_WORDS:
        return len(words) >= MIN_LOOP_WORDS // 2 and 4 * len(set(words)) <= len(words)
    starts = {*range(0, len(words) - WINDOW_WORDS + 1, WINDOW_WORDS // 2), max(0, len(words) - WINDOW_WORDS)}
    return any(
        _distinct_fraction(words[start : start + WINDOW_WORDS], SHINGLE_WORDS) < MIN_DISTINCT_FRACTION
        for start in starts
    )


def _distinct_fraction(words: Sequence[str], size: int) -> float:
    shingles = _shingles(words, size)
    return len(set(shingles)) / len(shingles) if shingles else 1.0


def _shingles(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def _is_highly_compressible(summary: str) -> bool:
    data = summary.encode("utf-8", "surrogatepass")
    return len(summary) >= MIN_COMPRESSED_CHARS and len(zlib.compress(data)) < MIN_COMPRESSED_FRACTION * len(data)


def _is_transcript(summary: str) -> bool:
    lines = [line for line in summary.splitlines() if line.strip()]
    role_lines = sum(bool(_ROLE_LINE.match(line)) for line in lines)
    return role_lines >= MIN_LOOP_LINES and 2 * role_lines > len(lines)


def _echoes_source(summary: str, source: str) -> bool:
    """Return whether the summary copies the beginning of the source and adds little else."""
    summary_words = _words(_ROLE_PREFIX.sub("", summary))
    start = summary_words[:ECHO_WORDS]
    head = source[: 20 * len(summary)]
    source_words = _words(_ROLE_PREFIX.sub("", head))
    if len(start) < MIN_ECHO_WORDS or source_words[: len(start)] != start:
        return False
    source_shingles = set(_shingles(source_words, ECHO_SHINGLE_WORDS))
    shingles = _shingles(summary_words, ECHO_SHINGLE_WORDS)
    return sum(shingle in source_shingles for shingle in shingles) >= MIN_ECHO_FRACTION * len(shingles)
