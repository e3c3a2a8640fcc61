"""The matches of a pattern as `lcm_grep` shows them: the passages around them, with a pointer to the rest."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter

from mnesis.formats.text import message_text
from mnesis.models.search import GrepPage
from mnesis.search.snippets import MAX_PASSAGE_CHARS, passages_around
from mnesis.store.base import Store

CHARS_PER_TOKEN = 3
"""A cautious estimate for the length of passages. Matches that do not fit are left to the next page."""
MIN_PASSAGE_CHARS = 60


async def match_lines(store: Store, session_id: str, page: GrepPage, available_tokens: int) -> list[str]:
    """Return the matches with the passages around them, by summary and message: the fewer matches, the longer the passages."""
    lines: list[str] = []
    passage_chars = available_tokens * CHARS_PER_TOKEN // (2 * max(len(page.matches), 1))
    passage_chars = min(max(passage_chars, MIN_PASSAGE_CHARS), MAX_PASSAGE_CHARS)
    for group in page.groups:
        lines.append(f"Under {group.summary_id}:" if group.summary_id else "In the context itself, or hidden:")
        for message_id, matches in groupby(group.matches, attrgetter("message_id")):
            message = await store.message(session_id, message_id)
            text, spans = message_text(message), [(match.start, match.end) for match in matches]
            passages = passages_around(text, spans, passage_chars)
            lines.append(f"  [{message_id} · message {message.seq} · {message.role}] {passages}")
            if len(text) > len(passages) + MAX_PASSAGE_CHARS:
                lines.append(f'  [… these are passages; all of it: lcm_expand("{message_id}") …]')
    if page.timed_out:
        lines.append("The time limit ended the search; use a simpler pattern, or the cursor to pass over the message.")
    if page.next_cursor:
        lines.append(f"More: cursor={page.next_cursor}")
    return lines or ["No match."]
