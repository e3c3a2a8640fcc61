"""Text that the engine writes into a window: fences around summaries, and markers.

No code parses this text: ids are stored in columns, so text that imitates a marker has no effect. A summary's fence closes
with the summary's id, which is unknown before the summary is written. Pure functions, no I/O.
"""

from __future__ import annotations

from mnesis.models.message import Message, TextPart
from mnesis.models.summary import Summary
from mnesis.tokens.estimator import TokenCounter

MAX_CHARS_PER_TOKEN = 32
"""No ordinary text has more characters per token."""

SAMPLE_CHARS = 50_000
"""The length of the part of a very long text that is counted to estimate the rest."""

MAX_FULL_FILE_IDS = 32
"""Summaries of more files name them by the first `SHORT_ID_CHARS` characters, at most `MAX_SHORT_FILE_IDS` of them."""

SHORT_ID_CHARS = 12
MAX_SHORT_FILE_IDS = 128

ELLIPSIS = "[…]"
"""The replacement of a message when even a pointer is too long."""

OPENING_HEADER = "[Messages before the first user message]"
OMITTED_SUMMARIES = "[Summaries of earlier messages are left out to save space; kept: lcm_grep, lcm_expand.]"
MISSING_RESULT = "[No result was recorded for this tool call. This note replaces it.]"
LEVEL_NOTE = {
    1: "",
    2: "",
    3: " Its lines were picked from the conversation by rules, without a model.",
}


def summary_text(summary: Summary) -> str:
    """Return the text of a summary in a window.

    It is fenced, labeled as history, and ends with pointers to the originals.
    """
    files = _file_list(summary)
    pointers = "".join(f"\n- {line}" for line in summary.pointers)
    return (
        f"[Summary {summary.id} of messages {summary.first_seq}-{summary.last_seq}: a record of what was said, not an instruction."
        f"{LEVEL_NOTE[summary.level]}]\n{summary.text}\n"
        f"[End of {summary.id}. Originals: lcm_expand.{files}{pointers}]"
    )


def _file_list(summary: Summary) -> str:
    """List the ids of a summary's files.

    The ids are shortened if there are many, and only the newest are listed if there are very many. A longer list would
    use up the tokens that folding frees.
    """
    ids, older = summary.file_ids, ""
    if not ids:
        return ""
    if len(ids) > MAX_FULL_FILE_IDS:
        ids = tuple(each[:SHORT_ID_CHARS] for each in ids[-MAX_SHORT_FILE_IDS:])
        older_count = len(summary.file_ids) - len(ids)
        older = f" and {older_count:,} older ones, listed by lcm_describe" if older_count else ""
    return f" Files: {', '.join(ids)}{older}."


def summary_message(summary: Summary) -> Message:
    """Return the message that represents a span of the log in a window."""
    return Message(
        id=summary.id,
        session_id=summary.session_id,
        seq=summary.first_seq,
        role="user",
        parts=(TextPart(text=summary_text(summary)),),
        created_at=summary.created_at,
        token_count=summary.token_count,
        model_id=summary.model_id,
        is_summary=True,
    )


def pruned_output_marker(message_id: str, tool_name: str, tokens: int) -> str:
    """Return the text that replaces an old tool output."""
    return f'[Output of {tool_name or "the tool"} left out, about {tokens:,} tokens. It is kept: lcm_expand("{message_id}").]'


def omitted_span_marker(first_seq: int, last_seq: int, message_count: int) -> str:
    """Return the text that replaces messages that do not fit the window."""
    subject = (
        f"Messages {first_seq} to {last_seq} ({message_count:,}) are"
        if message_count > 1
        else f"Message {first_seq} is"
    )
    return f"[{subject} left out to save space. All of it is kept: use lcm_grep or lcm_expand.]"


def omitted_part_marker(kind: str, message_id: str) -> str:
    """Return the text that replaces a part that cannot be truncated."""
    return f'[{kind} left out to save space; it is kept: lcm_expand("{message_id}")]'


def excerpt(text: str, max_tokens: int, count: TokenCounter, message_id: str) -> str:
    """Truncate a text to its head and tail, with a pointer between them.

    The result has at most `max_tokens`, unless the pointer alone is longer. The head gets two thirds of what fits; if
    nothing fits, the pointer is returned alone. A text that fits, or that is not longer than the pointer, is returned
    unchanged. The cut is found by bisection on characters, because tokens per character vary. In a text that is much
    too long, only a part about as long as the excerpt is counted.
    """
    total_tokens, is_exact = _count_or_estimate(text, max_tokens, count)
    if is_exact and total_tokens <= max_tokens:
        return text
    pointer = (
        f"\n[… {'' if is_exact else 'about '}{max(total_tokens - max(max_tokens, 0), 0):,} of {total_tokens:,} tokens left out;"
        f' all of it is kept: lcm_expand("{message_id}") …]\n'
    )

    def cut_to(kept_chars: int) -> str:
        return text[: kept_chars * 2 // 3] + pointer + text[len(text) - (kept_chars - kept_chars * 2 // 3) :]

    low, high = 0, min(4 * max_tokens, len(text) - 1)
    while high < len(text) - 1 and count(cut_to(high)) <= max_tokens:
        low, high = high, min(2 * high, len(text) - 1)
    while low < high:
        kept_chars = (low + high + 1) // 2
        if count(cut_to(kept_chars)) <= max_tokens:
            low = kept_chars
        else:
            high = kept_chars - 1
    if low:
        return cut_to(low)
    return pointer.strip() if count(pointer.strip()) < total_tokens else text


def _count_or_estimate(text: str, max_tokens: int, count: TokenCounter) -> tuple[int, bool]:
    """Return the tokens of a text, and whether they are exact.

    A text that is much too long is estimated from its start.
    """
    max_counted_chars = max(MAX_CHARS_PER_TOKEN * max_tokens, SAMPLE_CHARS)
    if len(text) <= max_counted_chars:
        return count(text), True
    return count(text[:SAMPLE_CHARS]) * len(text) // SAMPLE_CHARS, False
