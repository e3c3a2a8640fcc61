"""Automatic recall: originals relevant to a user message, inserted right before it. Off by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mnesis.config import RecallConfig
from mnesis.context.markers import excerpt
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import Message, TextPart
from mnesis.models.search import Search
from mnesis.recall.fence import message_header, quotable_text, quote
from mnesis.search.analysis import STOP_WORDS, query_terms
from mnesis.store.base import Store
from mnesis.tokens.estimator import MESSAGE_OVERHEAD_TOKENS, TokenCounter

MAX_CANDIDATES = 40
MIN_SCORE_FRACTION = 0.3
"""Hits with a smaller fraction of the best score are left out: they would only use up tokens. Chosen by trial."""
MAX_MESSAGE_FRACTION = 0.4
"""One message takes at most this fraction of the budget; a longer one is shown as an excerpt."""
BLOCK_TITLE = "Recalled from earlier in this conversation"


def pending_user_message(window: Window) -> Message | None:
    """Return the user message that the next request answers, or None if it has been answered."""
    for message in reversed(window.messages):
        if message.role == "user" and not message.is_summary:
            return message if any(isinstance(part, TextPart) for part in message.parts) else None
        if message.role == "assistant" and not message.tool_calls:
            return None
    return None


async def build_recall_block(
    store: Store, context: ActiveContext, window: Window, query: str, config: RecallConfig, count: TokenCounter
) -> Message | None:
    """Build a message with the originals that match the query and that the window does not show, or None if there are none.

    It has at most `config.max_tokens`, and never more than the window's unused tokens.
    """
    hides_content = bool(context.covers or context.prunes or window.omitted)
    if not hides_content or not _has_content_words(query):
        return None
    available_tokens = min(config.max_tokens, window.budget_tokens - window.tokens)
    session_id = context.session.id
    page = await store.search(Search(query, session_id, limit=MAX_CANDIDATES))
    pruned_seqs = {key[0] for key in context.prunes}
    shown_ids = {m.id for m in window.messages if not m.is_summary and m.seq not in pruned_seqs}
    hits = [hit for hit in page if hit.message_id not in shown_ids and hit.score >= MIN_SCORE_FRACTION * page[0].score]
    return _fill_block(
        [await store.message(session_id, hit.message_id) for hit in hits[: config.max_messages]],
        available_tokens,
        count,
    )


def insert_before(window: Window, block: Message, before: Message | None) -> Window:
    """Return the window with the block inserted before a message, or at the end if that is None."""
    ids = [message.id for message in window.messages]
    index = ids.index(before.id) if before is not None else len(ids)
    messages = (*window.messages[:index], block, *window.messages[index:])
    return replace(window, messages=messages, tokens=window.tokens + block.token_count)


def _has_content_words(query: str) -> bool:
    return any(forms[0] not in STOP_WORDS for forms in query_terms(query))


def _fill_block(candidates: Sequence[Message], available_tokens: int, count: TokenCounter) -> Message | None:
    """Build a block of as many candidates, best first, as fit. It shows them in log order."""
    entries: dict[int, str] = {}
    block: Message | None = None
    for message in candidates:
        text = excerpt(quotable_text(message), int(available_tokens * MAX_MESSAGE_FRACTION), count, message.id)
        extended_block = _build_message({**entries, message.seq: f"{message_header(message)}\n{text}"}, count)
        if extended_block.token_count <= available_tokens:
            entries[message.seq] = f"{message_header(message)}\n{text}"
            block = extended_block
    return block


def _build_message(entries: dict[int, str], count: TokenCounter) -> Message:
    text = quote(BLOCK_TITLE, (entries[seq] for seq in sorted(entries)))
    mark = text.rpartition("[")[2].rstrip("]")
    return Message(
        id=f"recalled_{mark}",
        role="user",
        parts=(TextPart(text=text),),
        token_count=count(text) + MESSAGE_OVERHEAD_TOKENS,
    )
