"""Replacements for the keywords of LlamaIndex's other memories. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

REPLACEMENTS = {
    "async_database_uri": "db_path=, the path of a SQLite file",
    "async_engine": "engine=, a mnesis Engine",
    "chat_history_token_ratio": "token_limit=, which is the limit of the history alone",
    "count_initial_tokens": "get(initial_token_count=…)",
    "insert_method": 'summary_insert="system" or "user"',
    "memory_blocks": "nothing: older messages are summarised and can be found again with recall_tools()",
    "memory_blocks_template": "nothing: older messages are summarised and can be found again with recall_tools()",
    "summarize_prompt": "config=MnesisConfig(compaction=…)",
    "table_name": "session_id=, since all sessions share the tables of a database",
    "token_flush_size": "nothing: the size of a compaction is derived from token_limit",
}
"""The keywords of `Memory`, `ChatMemoryBuffer` and `ChatSummaryMemoryBuffer` that `MnesisMemory` does not have."""


def refuse_unknown(keywords: Iterable[str]) -> None:
    """Raise ValueError for keywords that `from_defaults` does not have, with what to use instead."""
    names = list(keywords)
    if not names:
        return
    hints = [f"instead of {name}= use {REPLACEMENTS[name]}" for name in names if name in REPLACEMENTS]
    raise ValueError(f"Unexpected kwargs: {', '.join(names)}" + "".join(f"; {hint}" for hint in hints))
