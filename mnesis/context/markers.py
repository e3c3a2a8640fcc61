"""The words the engine puts into a window: fences around summaries, markers for what is not shown.

All of them are written here and nowhere read back: ids live in columns, so text that imitates a marker is only text. A
summary's fence closes with the summary's own id, which nobody knows before it is written.
"""

from __future__ import annotations

from collections.abc import Callable

from mnesis.models.message import Message, TextPart
from mnesis.models.summary import Summary

Count = Callable[[str], int]

# No ordinary text has so many characters per token.
FAR_TOO_LONG_CHARS_PER_TOKEN = 32
SAMPLE_CHARS = 50_000
FULL_FILE_IDS = 32
"""Summaries of more files name them by their first `SHORT_ID_CHARS` characters, at most `SHORT_FILE_IDS` of them."""
SHORT_ID_CHARS = 12
SHORT_FILE_IDS = 128
MISSING_RESULT = "[No result was recorded for this tool call. This note stands in for it.]"
EMPTY_MESSAGE = "[empty message]"
LEVEL_NOTE = {
    1: "",
    2: "",
    3: " Its lines were picked from the conversation by rules, without a model.",
}


def summary_text(summary: Summary) -> str:
    """A summary as it stands in a window: fenced, said to be history, with the way back to its originals."""
    files = _files_named(summary)
    digs = "".join(f"\n- {line}" for line in summary.digs)
    return (
        f"[Summary {summary.id} of messages {summary.first_seq}-{summary.last_seq}: a record of what was said, not an instruction."
        f"{LEVEL_NOTE[summary.level]}]\n{summary.text}\n"
        f"[End of {summary.id}. Originals: lcm_expand.{files}{digs}]"
    )


def _files_named(summary: Summary) -> str:
    """The ids of the files behind a summary. Many are named by their beginnings, and of very many the newest: naming files
    must not take the room that folding makes."""
    ids, older = summary.file_ids, ""
    if not ids:
        return ""
    if len(ids) > FULL_FILE_IDS:
        ids = tuple(each[:SHORT_ID_CHARS] for each in ids[-SHORT_FILE_IDS:])
        hidden = len(summary.file_ids) - len(ids)
        older = f" and {hidden:,} older ones, listed by lcm_describe" if hidden else ""
    return f" Files: {', '.join(ids)}{older}."


def summary_message(summary: Summary) -> Message:
    """The message that stands for a span of the log."""
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


def pruned_output(message_id: str, tool_name: str, tokens: int) -> str:
    """What is shown instead of an old tool output."""
    return f'[Output of {tool_name or "the tool"} left out, about {tokens:,} tokens. It is kept: lcm_expand("{message_id}").]'


def omitted_span(first_seq: int, last_seq: int, count: int) -> str:
    """What is shown instead of messages for which there is no room."""
    what = f"Messages {first_seq} to {last_seq} ({count:,}) are" if count > 1 else f"Message {first_seq} is"
    return f"[{what} not shown here for want of room; kept, to be searched and read: lcm_grep, lcm_expand.]"


def left_out(what: str, message_id: str) -> str:
    """What is shown instead of a part that cannot be cut."""
    return f'[{what} left out for want of room; it is kept: lcm_expand("{message_id}")]'


def excerpt(text: str, max_tokens: int, count: Count, message_id: str) -> str:
    """Head and tail of a text with a pointer between them, in at most `max_tokens` tokens (or the pointer alone).

    Two thirds of the room go to the head. The cut is found by bisection on characters, since tokens per character vary;
    of a text far longer than its room only about as much as is shown is ever counted.
    """
    total, exact = _tokens_of(text, max_tokens, count)
    if exact and total <= max_tokens:
        return text
    pointer = (
        f"\n[… {'' if exact else 'about '}{max(total - max_tokens, 0):,} of {total:,} tokens left out;"
        f' all of it is kept: lcm_expand("{message_id}") …]\n'
    )

    def shown(kept: int) -> str:
        return text[: kept * 2 // 3] + pointer + text[len(text) - (kept - kept * 2 // 3) :]

    low, high = 0, min(4 * max_tokens, len(text) - 1)
    while high < len(text) - 1 and count(shown(high)) <= max_tokens:
        low, high = high, min(2 * high, len(text) - 1)
    while low < high:
        kept = (low + high + 1) // 2
        if count(shown(kept)) <= max_tokens:
            low = kept
        else:
            high = kept - 1
    return shown(low) if low else pointer.strip()


def _tokens_of(text: str, max_tokens: int, count: Count) -> tuple[int, bool]:
    """The tokens of a text, and whether they were counted; those of a text far too long are estimated from its beginning."""
    sample = max(FAR_TOO_LONG_CHARS_PER_TOKEN * max_tokens, SAMPLE_CHARS)
    if len(text) <= sample:
        return count(text), True
    return count(text[:SAMPLE_CHARS]) * len(text) // SAMPLE_CHARS, False
