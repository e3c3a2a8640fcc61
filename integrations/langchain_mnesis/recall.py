"""The tool by which an agent reads again what a summary or marker stands for."""

from __future__ import annotations

from langchain_mnesis.sessions import Sessions
from mnesis.errors import ConfigurationError, NotFoundError
from mnesis.models.message import Message
from mnesis.render.chat import text_of
from mnesis.session import MnesisSession

NAME = "lcm_expand"
"""The name that summaries and markers in a window speak of."""
DESCRIPTION = (
    "Read the original messages behind a summary, or a message or tool output that is shown shortened or as a marker."
    " `id` is the id the summary or marker gives; `cursor` continues where an earlier answer ended."
)
PAGE = 20
MAX_CHARS = 20_000
"""About 5,000 tokens: an answer must not fill the window it is read in."""


async def recall(sessions: Sessions, session_id: str, id: str, cursor: str | None = None) -> str:
    """What stands behind an id of the session, as text for a model; what is wrong, in words, if nothing does."""
    session = await sessions.existing(session_id)
    if session is None:
        return f"there is no session {session_id!r} yet"
    try:
        return await _expanded(session, id, cursor)
    except NotFoundError:
        return f"nothing in this conversation has the id {id!r}; give an id as a summary or marker shows it"
    except ConfigurationError as error:
        return str(error)


async def _expanded(session: MnesisSession, id: str, cursor: str | None) -> str:
    found = await session.describe(id)
    if found.kind == "summary":
        page = await session.expand(id, cursor=cursor, limit=PAGE)
        return _joined([_written(message) for message in page.messages], id, page.next_cursor)
    if found.kind != "message":
        return found.text
    start = int(cursor) if cursor is not None and cursor.isdecimal() else 0
    text = _written(await session.message(id))
    rest = str(start + MAX_CHARS) if len(text) > start + MAX_CHARS else None
    return _joined([text[start : start + MAX_CHARS]], id, rest)


def _joined(texts: list[str], id: str, cursor: str | None) -> str:
    each = MAX_CHARS // max(len(texts), 1)
    shown = [t if len(t) <= each else f"{t[:each]} [… shortened; ask for this message by its id]" for t in texts]
    more = [f'[more: {NAME}(id="{id}", cursor="{cursor}")]'] if cursor is not None else []
    return "\n\n".join([*shown, *more])


def _written(message: Message) -> str:
    calls = [f"{call.tool_name}({call.raw_input or call.input})" for call in message.tool_calls]
    outcomes = [call.result().output for call in message.tool_calls if call.has_result]
    text = "\n".join(filter(None, [text_of(message.parts), *calls, *outcomes]))
    return f"[{message.seq}] {message.role} ({message.id}): {text}"
