"""Replacements for the keywords of LangChain's other histories and memories. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

from mnesis.errors import ConfigurationError

HISTORY_REPLACEMENTS = {
    "async_mode": "nothing: every method also has an async form",
    "connection": "db_path=, the path of a SQLite file, and import_sql_history() for the messages of an old table",
    "connection_string": "db_path=, the path of a SQLite file, and import_sql_history() for the messages of an old table",
    "custom_message_converter": "nothing: every message comes back as it was stored",
    "engine_args": "engine=, a mnesis Engine",
    "file_path": "db_path=",
    "history_size": "nothing: the history fits the model's window",
    "messages": "add_messages()",
    "session_id_field_name": "session_id=, since all sessions share the tables of a database",
    "table_name": "session_id=, since all sessions share the tables of a database",
    "ttl": "engine.plan_purge() and apply_purge()",
    "url": "db_path=",
}
"""The keywords of `SQLChatMessageHistory`, `InMemoryChatMessageHistory` and others that a history does not have."""

MEMORY_REPLACEMENTS = {
    "ai_prefix": "nothing: messages keep their classes",
    "chat_memory": "session_id= and db_path=, which name the stored session",
    "human_prefix": "nothing: messages keep their classes",
    "input_key": "input_messages_key=",
    "k": "nothing: older messages are summarised when the window is full",
    "max_token_limit": "config=MnesisConfig(model_overrides=ModelOverrides(context_limit=…)), or the model's own window",
    "memory_key": "history_messages_key=, with the runnable as the first argument",
    "moving_summary_buffer": "nothing: summaries are stored with the session",
    "output_key": "output_messages_key=",
    "prompt": "config=MnesisConfig(compaction=CompactionConfig(…)), which has the settings of summaries",
    "return_messages": "nothing: a MessagesPlaceholder always gets messages",
}
"""The keywords of `ConversationBufferMemory`, `ConversationSummaryBufferMemory` and others that a memory does not have."""


def refuse_unknown(owner: str, keywords: Iterable[str], replacements: dict[str, str]) -> None:
    """Raise for keywords that a class does not have, naming what to use instead.

    Raises `ConfigurationError` for keywords of the class that it replaces, and TypeError for others.
    """
    names = sorted(keywords)
    known = [name for name in names if name in replacements]
    if known:
        hints = "; ".join(f"instead of {name}= use {replacements[name]}" for name in known)
        raise ConfigurationError(f"{owner} does not have {', '.join(known)}: {hints}")
    if names:
        raise TypeError(f"{owner} got unexpected keyword arguments: {', '.join(names)}")
