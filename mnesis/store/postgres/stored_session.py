"""Sessions with their stored rows, checked against their hashes. Pure functions, no I/O."""

from __future__ import annotations

from copy import copy

from mnesis.models.sent_request import SentRequest
from mnesis.models.session import SessionRecord
from mnesis.models.usage import TokenUsage
from mnesis.store.chain import accounts_hash, session_hash
from mnesis.store.codec import DamagedValueError, from_json, to_json
from mnesis.store.postgres.rows import Row, from_text
from mnesis.store.settings import decode_settings

_USAGE = ("input", "output", "cache_read", "cache_write", "total", "reasoning")


class StoredSession:
    """A session, the key of its rows, and its heads and hashes when it was read. Writing its accounts updates it."""

    __slots__ = (
        "has_profile_hash",
        "hash",
        "last_used",
        "log_head",
        "pk",
        "profile_hash",
        "record",
        "record_head",
        "request",
        "row_version",
        "seal",
        "turn_head",
    )

    def __init__(self, row: Row) -> None:
        """Convert a row of a statement that reads sessions. Raises `DamagedValueError` if its settings are damaged."""
        pk, escaped_id, escaped_parent, created_at, profile, *accounts, stored_hash = row
        self.pk: int = pk
        session_id = from_text(escaped_id)
        parent_id = None if escaped_parent is None else from_text(escaped_parent)
        self.profile_hash: bytes = session_hash(session_id, parent_id, created_at, profile)
        self.row_version: int | None = None
        """`xmin` of the accounts, if this store wrote them."""
        self.has_profile_hash: bool = stored_hash is not None
        if self.has_profile_hash and stored_hash != self.profile_hash:
            raise DamagedValueError(f"the settings of session {session_id!r}")
        updated_at, last_seq, turn_count, system, message, tool, summary, context, request_tokens, calibration = (
            accounts[:10]
        )
        cost, fold_count, request = accounts[16:19]
        self.request: bytes = request or b""
        self.log_head: bytes
        self.last_used: int
        self.turn_head: bytes
        self.record_head: bytes
        self.hash: bytes
        self.seal: bytes | None
        self.log_head, self.last_used, self.turn_head, self.record_head, self.hash, self.seal = accounts[19:25]
        try:
            self.record = SessionRecord(
                id=session_id,
                parent_id=parent_id,
                created_at=created_at,
                updated_at=updated_at,
                last_seq=last_seq,
                turn_count=turn_count,
                system_tokens=system,
                message_tokens=message,
                tool_tokens=tool,
                summary_tokens=summary,
                context_tokens=context,
                last_request_tokens=request_tokens,
                calibration=calibration,
                usage=TokenUsage(**dict(zip(_USAGE, accounts[10:16], strict=True))),
                cost=cost,
                fold_count=fold_count,
                last_request=None if request is None else SentRequest(**from_json(request)),
                **decode_settings(from_json(profile)),
            )
        except (ValueError, TypeError) as error:
            raise DamagedValueError(f"the accounts of session {session_id!r}") from error

    def copy(self) -> StoredSession:
        """Return a copy that can be changed without changing this one."""
        return copy(self)

    def is_intact(self) -> bool:
        """Return whether its accounts are unchanged since they were stored."""
        heads = self.profile_hash + self.log_head + (self.turn_head or b"") + (self.record_head or b"")
        return self.has_profile_hash and self.hash == hash_accounts(self.record, self.last_used, heads, self.request)


def intact_session(row: Row) -> StoredSession:
    """Convert a row of a statement that reads sessions. Raises `DamagedValueError` if settings or accounts are damaged."""
    stored = StoredSession(row)
    if not stored.is_intact():
        raise DamagedValueError(f"the accounts of session {stored.record.id!r}")
    return stored


def request_json(record: SessionRecord) -> bytes:
    """Encode the last request of a session as JSON, b"" if there is none."""
    request = record.last_request
    if request is None:
        return b""
    # Not `asdict`, which copies each value: all of them are numbers and texts.
    values = {name: getattr(request, name) for name in SentRequest.__slots__}
    return to_json(values, f"session {record.id!r}, last request")


def hash_accounts(record: SessionRecord, last_used: int, heads: bytes, request: bytes) -> bytes:
    """Return the hash of accounts. `heads` joins the hash of the profile and the three heads."""
    usage = record.usage
    numbers = (
        *(last_used, record.updated_at, record.last_seq, record.turn_count, record.system_tokens),
        *(record.message_tokens, record.tool_tokens, record.summary_tokens, record.context_tokens),
        *(usage.input, usage.output, usage.cache_read, usage.cache_write, usage.total, usage.reasoning),
        *(record.fold_count, 0, 0),  # the sums of row numbers, which only SQLite files keep
        *(record.last_request_tokens, float(record.calibration), float(record.cost)),
    )
    return accounts_hash(heads, numbers, request)
