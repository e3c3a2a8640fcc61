"""A scripted agent: it greps with the question's words, then expands the first hits. How many calls until it sees the evidence?"""

from __future__ import annotations

from benchmarks.recall.sets import Query
from mnesis import MnesisSession
from mnesis.recall.grants import Grant

EXPANDED_HITS = 3
TOOL_RESULT_TOKENS = 2_000
"""The default of `RecallConfig.tool_result_tokens`."""
MIN_SHOWN_FRACTION = 0.8
"""An excerpt shows a piece of evidence if it holds this fraction of the words of the answer."""


async def count_calls(session: MnesisSession, query: Query, texts: dict[str, str]) -> int | None:
    """Return the number of tool calls until a piece of evidence is shown, or None if it is not.

    A message is shown if its id is in a result with its whole text, or with most words of the answer.
    """
    grant = Grant(tokens=4 * TOOL_RESULT_TOKENS, result_tokens=TOOL_RESULT_TOKENS)
    tools = {tool.name: tool.handler for tool in session.recall_tools(grant)}
    result = await tools["lcm_grep"](pattern=query.text, mode="words")
    if is_shown(result, query, texts):
        return 1
    hits = [line[1:].split(" ", 1)[0] for line in result.splitlines() if line.startswith("[msg_")]
    for number, message_id in enumerate(hits[:EXPANDED_HITS], 2):
        if is_shown(await tools["lcm_expand"](id=message_id), query, texts):
            return number
    return None


def is_shown(result: str, query: Query, texts: dict[str, str]) -> bool:
    """Return whether a result shows a message that answers a query."""
    return any(shows(result, message_id, texts[message_id], query) for message_id in query.evidence)


def shows(result: str, message_id: str, text: str, query: Query) -> bool:
    """Return whether a text shows a message: whole, or the part that answers the query."""
    _, found, after = result.partition(f"[{message_id} · ")
    if not found:
        return False
    if text in result:
        return True
    shown = after.partition("\n[msg_")[0].lower()
    words = {word for word in query.answer.lower().split() if word in text.lower()}
    return bool(words) and sum(word in shown for word in words) >= MIN_SHOWN_FRACTION * len(words)
