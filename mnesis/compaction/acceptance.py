"""Checks that reject obviously bad summaries.

A bad summary is empty, too long, looping, echoing, declining, an acknowledgement, or it lost nearly all facts of its source.
The checks cannot tell whether a summary is good. Small models answer with loops, with the transcript itself, or with an
apology; larger ones continue the conversation. Each check is one pass over the text. Pure functions, no I/O.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from mnesis.compaction.facts import find_facts, find_terms, is_unspaced

MAX_LENGTH_RATIO = 1.1
"""The largest accepted length, as a multiple of the requested tokens. Models are asked for words and cannot count
tokens."""

SHINGLE_WORDS = 4
WINDOW_WORDS = 120
MIN_LOOP_WORDS = 24
MIN_DISTINCT_FRACTION = 0.4
"""The fraction of the four-word runs in a window of words that must be distinct. Prose and lists of steps stay above
0.8."""

MIN_LOOP_LINES = 4
MIN_LOOP_LINE_CHARS = 12
MIN_COMPRESSED_CHARS = 400
MIN_COMPRESSED_FRACTION = 0.1
"""Size after deflate. Prose reaches about 0.4, a long list with a fixed form 0.2, a loop a few hundredths."""

ECHO_WORDS = 40
MIN_ECHO_WORDS = 12
ECHO_SHINGLE_WORDS = 8
MIN_ECHO_FRACTION = 0.8
MAX_REFUSAL_WORDS = 60

MIN_SOURCE_FACTS = 4
"""Sources with fewer facts are judged by the words that their summary shares with them."""

KEPT_FACTS_FACTOR = 0.33
"""If the facts of a source weigh n, its summary must keep at least this factor times √n of them: 1 of 4, 4 of 100.
Names weigh half.

Longer sources repeat themselves, and summaries keep a smaller part of them. Among two thirds of the recorded summaries of
`tests/compaction/data`, the good ones keep 0.42 √n and more, the bad ones 0.25 √n and less; the factor is the geometric mean.
"""

MAX_REQUIRED_FACTS = 12
TOKENS_PER_FACT = 16
"""A summary of at most t tokens need not keep more than t / 16 facts. Terse summaries state one fact in eight
tokens."""

MIN_SHARED_FRACTION = 0.2
"""The fraction of a short summary's terms that its source must contain. Recorded good summaries share 0.58 and more,
bad ones up to 0.04."""

MAX_UNRELATED_TERMS = 40
"""A longer text without the source's terms may be a summary in another language."""

MAX_ACKNOWLEDGEMENT_WORDS = 30
MIN_SHARED_TERMS = 4
"""A text that opens like an acknowledgement counts as one unless it shares this many terms with the source, and half of
its terms."""

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
_ACKNOWLEDGEMENT = re.compile(
    r"\W*(?:"
    r"ok(?:ay)?\b|understood\b|got it\b|sure\b|certainly\b|of course\b|absolutely\b|noted\b|thank(?:s| you)\b|great\b|perfect\b"
    r"|al(?:l right|right|l good|l set)\b|you['’]re welcome|glad to\b|happy to\b|i (?:understand|see)\b|i(?:['’]ll| will) (?:keep|remember|continue|be)\b"
    r"|i(?:['’]m| am) (?:ready|here)\b|how (?:can|may) i (?:help|assist)|what would you like|let me know|ready\b"
    r"|here(?:['’]s| is) (?:the|a|your) summary|done\b\W*$"
    r"|verstanden\b|alles klar|gerne\b|natürlich\b|entendido\b|de acuerdo\b|claro\b|compris\b|d['’]accord|bien sûr|capito\b|certo\b"
    r"|хорошо\b|понял|понятно|好的|明白|知道了|收到|了解|はい|承知|かしこまり|わかりました|分かりました|네[,. ]|알겠"
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
    return (
        emptiness(summary)
        or size_rejection(summary_tokens, source_tokens, max_tokens)
        or content_rejection(summary, source, max_tokens)
    )


def size_rejection(summary_tokens: int, source_tokens: int, max_tokens: int) -> str | None:
    """Return why a summary of this size must be rejected, or None."""
    if summary_tokens >= source_tokens:
        return f"it is not smaller ({summary_tokens:,} tokens) than its source ({source_tokens:,} tokens)"
    if summary_tokens > max_tokens * MAX_LENGTH_RATIO:
        return f"it is too long ({summary_tokens:,} tokens; at most {max_tokens:,} were requested)"
    return None


def emptiness(summary: str) -> str | None:
    """Return why a summary is empty of content, or None if it has content."""
    if not summary.strip():
        return "it is empty"
    if all(_ROLE_ALONE.fullmatch(line) for line in summary.splitlines()):
        return "it contains only role markers"
    return None


def content_rejection(summary: str, source: str, max_tokens: int) -> str | None:
    """Return why a text must be rejected as the summary of `source`, or None."""
    if reason := emptiness(summary):
        return reason
    if _is_model_refusal(summary):
        return "it is a refusal, not a summary"
    if _is_looping(summary):
        return "it repeats itself"
    if _PROMPT_ECHO.search(summary):
        return "it repeats its instructions"
    if _is_transcript(summary) or _echoes_source(summary, source):
        return "it repeats the conversation instead of summarizing it"
    return _missing_content(summary, source, max_tokens)


def _missing_content(summary: str, source: str, max_tokens: int) -> str | None:
    """Return a reason if a text does not report the content of its source, or None."""
    source_terms, terms = find_terms(source), find_terms(summary)
    shared_count = len(terms & source_terms)
    if _is_acknowledgement(summary) and (shared_count < MIN_SHARED_TERMS or 2 * shared_count < len(terms)):
        return "it is an acknowledgement, not a summary"
    facts = find_facts(source)
    fact_count = len(facts.exact) + len(facts.names)
    if fact_count >= MIN_SOURCE_FACTS:
        required = min(
            KEPT_FACTS_FACTOR * math.sqrt(facts.weight), MAX_REQUIRED_FACTS, max(max_tokens / TOKENS_PER_FACT, 0.5)
        )
        kept = facts.kept_in(summary)
        if kept.weight < required:
            return (
                f"it keeps {len(kept.exact) + len(kept.names)} of the {fact_count:,} names, numbers, paths and ids of its source;"
                f" at least {math.ceil(required)} are expected"
            )
        return None
    if not shared_count and len(terms) < MIN_SHARED_TERMS:
        return "it says next to nothing"
    is_comparable = len(terms) <= MAX_UNRELATED_TERMS and is_unspaced(summary) == is_unspaced(source)
    if is_comparable and source_terms and shared_count < max(MIN_SHARED_FRACTION * len(terms), 1):
        return "it has little in common with its source"
    return None


def _is_acknowledgement(summary: str) -> bool:
    words = _words(summary, MAX_ACKNOWLEDGEMENT_WORDS + 1)
    return bool(_ACKNOWLEDGEMENT.match(summary)) and len(words) <= MAX_ACKNOWLEDGEMENT_WORDS


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
