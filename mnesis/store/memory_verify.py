"""The integrity check of logs that are kept in memory. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from mnesis.models.finding import Finding, LogHead, Verification
from mnesis.store.chain import extend_chain, first_log_head
from mnesis.store.codec import EncodedMessage, is_message_intact


class MemoryLog(NamedTuple):
    """The messages of a session, the head that was computed as they were appended, and the session that stores each
    message.
    """

    messages: Sequence[EncodedMessage]
    head: bytes
    owner_id: Callable[[int], str]


def verify_logs(logs: Mapping[str, MemoryLog], earlier_heads: Mapping[str, Collection[bytes]]) -> Verification:
    """Check every message against its hash, and every log against its head and earlier heads."""
    heads, findings = [], []
    for session_id, log in logs.items():
        prefix_heads = [first_log_head(log.owner_id(1))]
        for message in log.messages:
            prefix_heads.append(extend_chain(prefix_heads[-1], message.stored_hash))
        heads.append(LogHead(session_id, len(log.messages), prefix_heads[-1].hex()))
        findings += [
            Finding("error", "content", f"message {message.id!r} of session {session_id!r} is not what was stored")
            for seq, message in enumerate(log.messages, 1)
            if not is_message_intact(log.owner_id(seq), seq, message)
        ]
        if prefix_heads[-1] != log.head:
            findings.append(Finding("error", "log", f"the messages of session {session_id!r} do not lead to its head"))
        findings += [
            Finding("error", "head", f"session {session_id!r} does not continue the history with head {head.hex()}")
            for head in set(earlier_heads.get(session_id, ())) - set(prefix_heads)
        ]
    findings += [
        Finding(
            "error", "head", f"session {session_id!r} is not in the store: it was purged or removed", ids=(session_id,)
        )
        for session_id in sorted(earlier_heads.keys() - logs.keys())
    ]
    return Verification(tuple(heads), tuple(findings))
