"""Automatic recall: the originals a message asks for, placed right before it. Off unless configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mnesis.config import RecallConfig
from mnesis.context.markers import Count, excerpt
from mnesis.formats.text import readable
from mnesis.models.context import ActiveContext, Window
from mnesis.models.message import Message, TextPart
from mnesis.models.search import Search
from mnesis.recall.fence import fenced, heading, text_of
from mnesis.search.analysis import STOP_WORDS, question_words
from mnesis.store.base import Store

CANDIDATES = 40
WORTH_SHARE = 0.3
"""Hits with less than this share of the best score are left out: they would only take room."""
LARGEST_SHARE = 0.4
"""One message takes at most this share of the budget; more of it is shown as an excerpt."""
OVERHEAD_TOKENS = 4
TITLE = "Recalled from earlier in this conversation"


def asked_now(window: Window) -> Message | None:
    """The user message that the next request answers; None if it has its answer already."""
    for message in reversed(window.messages):
        if message.role == "user" and not message.is_summary:
            return message if any(isinstance(part, TextPart) for part in message.parts) else None
        if message.role == "assistant" and not message.tool_calls:
            return None
    return None


async def recalled(
    store: Store, context: ActiveContext, window: Window, question: str, config: RecallConfig, count: Count
) -> Message | None:
    """One message with the originals that `question` asks for and the window does not show; None if there are none.

    It takes at most `config.max_tokens`, and never more than the window has room for.
    """
    hidden = context.covers or context.prunes or window.omitted
    if not hidden or not _tells_something(question):
        return None
    room = min(config.max_tokens, window.budget_tokens - window.tokens)
    session_id = context.session.id
    page = await store.search(Search(question, session_id, limit=CANDIDATES))
    cut = {key[0] for key in context.prunes}
    shown = {m.id for m in window.messages if not m.is_summary and m.seq not in cut}
    wanted = [hit for hit in page if hit.message_id not in shown and hit.score >= WORTH_SHARE * page[0].score]
    return _block(
        [await store.message(session_id, hit.message_id) for hit in wanted[: config.max_messages]], room, count
    )


def placed(window: Window, block: Message, before: Message | None) -> Window:
    """The window with the block right before a message; at the end without one."""
    ids = [message.id for message in window.messages]
    place = ids.index(before.id) if before is not None else len(ids)
    messages = (*window.messages[:place], block, *window.messages[place:])
    return replace(window, messages=messages, tokens=window.tokens + block.token_count)


def _tells_something(question: str) -> bool:
    return any(forms[0] not in STOP_WORDS for forms in question_words(question))


def _block(found: Sequence[Message], room: int, count: Count) -> Message | None:
    """As many of the messages, best first, as there is room for, shown in order of the log."""
    pieces: dict[int, str] = {}
    block: Message | None = None
    for message in found:
        text = excerpt(text_of(message), int(room * LARGEST_SHARE), count, message.id)
        longer = _message({**pieces, message.seq: f"{heading(message)}\n{text}"}, count)
        if longer.token_count <= room:
            pieces[message.seq] = f"{heading(message)}\n{text}"
            block = longer
    return block


def _message(pieces: dict[int, str], count: Count) -> Message:
    text = fenced(TITLE, (pieces[seq] for seq in sorted(pieces)))
    mark = text.rpartition("[")[2].rstrip("]")
    return Message(
        id=f"recalled_{mark}", role="user", parts=(TextPart(text=text),), token_count=count(text) + OVERHEAD_TOKENS
    )


def question_of(message: Message) -> str:
    """What to look for on behalf of a message."""
    return message.text_content() or readable(message)
