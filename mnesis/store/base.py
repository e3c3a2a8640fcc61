"""The store protocol. Each verb is one transaction and has a meaning for users of the library.

`mnesis.testing.store_suite` checks that an implementation follows these rules:

- A verb happens completely or not at all, even if the awaiting task is cancelled or the process dies.
- The log is append-only. The store assigns `seq`, which is dense per session and starts at 1.
- Appending is idempotent by message id. If all messages of an append are stored already with the same content, the append
  changes nothing and returns the stored messages. The same id with different content raises `DuplicateIDError`.
- Every verb on an unknown or purged session raises `SessionNotFoundError`.
- Reading returns exactly the bytes that were written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from mnesis.models.context import ActiveContext, Cover, Prune
from mnesis.models.finding import Finding, Verification
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.search import Search, SearchPage, UnembeddedMessage
from mnesis.models.session import Interruption, SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.store.change_log import ChangeLog
from mnesis.store.heads import Heads
from mnesis.store.run_store import RunStore
from mnesis.store.turn_leases import TurnLeaseStore
from mnesis.store.turn_snapshot import snapshot_turn

OnIndexed = Callable[[int, int], None]
"""Called while a search index is built, with the number of indexed messages and the number of missing ones at the
start."""

OnChecked = Callable[[int, int], None]
"""Called after each checked session, with the number of checked sessions and the total."""
OnCopied = Callable[[int, int], None]
"""Called while a database is copied, with the written bytes and those of the original, which the copy rarely
exceeds."""


OnDamage: TypeAlias = Literal["raise", "mark"]
"""The reaction to a missing or damaged message: raise an error, or return a message that reports the damage."""


@dataclass(frozen=True, slots=True)
class Append:
    """Messages to append together.

    Each message has `id`, `role`, `parts`, `token_count`, `tool_tokens` and `created_at`; the store assigns `seq`.
    `report` updates the token accounts (`mnesis.models.session.after_append`). `ends_turn` counts a turn and stores its
    snapshot, taken from the accounts after this append. With `fence`, the append needs the lease on the turns of the
    session that has this fence, and raises `TurnLostError` if another holder has claimed it; None needs no lease.
    `include_context` asks for the active context after the append, as for a reader that shares it, if the store has it in
    memory.
    """

    messages: Sequence[Message]
    report: UsageReport | None = None
    ends_turn: bool = False
    fence: int | None = None
    include_context: bool = False


def _no_snapshot() -> TurnSnapshot | None:
    return None


@dataclass(frozen=True)
class AppendResult:
    """The result of an append: the new session state, the messages with their `seq`, and the snapshot if a turn ended.

    `is_new` is False if everything was stored already. `context` is the result of `Store.active_context` after the
    append; None if the caller must read it.
    """

    session: SessionRecord
    messages: tuple[Message, ...]
    snapshot: TurnSnapshot | None = field(default_factory=_no_snapshot)  # a default would hide it from __getattr__
    is_new: bool = True
    context: ActiveContext | None = field(default=None, compare=False)

    @classmethod
    def of_new(cls, session: SessionRecord, append: Append) -> AppendResult:
        """Return the result of an append to a log that ends with its messages now.

        Messages and snapshot are built at the first access, because most callers need neither.
        """
        result = object.__new__(cls)
        result.__dict__.update(session=session, is_new=True, _append=append)
        return result

    def with_context(self, context: ActiveContext) -> AppendResult:
        """Return the same result with the active context after the append."""
        result = object.__new__(type(self))  # without replace(), which would build messages and snapshot
        result.__dict__.update(self.__dict__, context=context)
        return result

    if not TYPE_CHECKING:  # type checkers would find every other name too

        def __getattr__(self, name: str) -> Any:
            append: Append | None = self.__dict__.get("_append")
            if append is None or name not in ("messages", "snapshot"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            value = _place_messages(self.session, append) if name == "messages" else _snapshot(self.session, append)
            self.__dict__[name] = value
            return value


def _place_messages(session: SessionRecord, append: Append) -> tuple[Message, ...]:
    first_seq = session.last_seq - len(append.messages) + 1
    return tuple(
        message.model_copy(update={"session_id": session.id, "seq": seq})
        for seq, message in enumerate(append.messages, first_seq)
    )


def _snapshot(session: SessionRecord, append: Append) -> TurnSnapshot | None:
    return snapshot_turn(session, append.messages) if append.ends_turn else None


@dataclass(frozen=True, slots=True)
class Compaction:
    """One sweep to commit in one transaction: new summaries, the new covers, and outputs that become markers.

    `read_covers` are all covers of the session that the sweep read; the commit fails if they have changed. `covers` is the
    complete list afterwards. `summaries` are in order of creation, children before parents. A leaf covers those messages
    from `first_seq` to `last_seq` that no cover in `read_covers` hides. `result` is stored with the sweep; the store sets its
    `tokens_after`, `turn_index` and `created_at`, and adds its usage and cost to the session's sums. `counts_spending` is False
    for a replay, where the sums have them already.
    """

    read_covers: tuple[Cover, ...]
    covers: tuple[Cover, ...]
    summaries: tuple[Summary, ...]
    prunes: tuple[Prune, ...]
    result: CompactionResult
    counts_spending: bool = True


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions, newest first, and the cursor of the next page, which is None on the last page."""

    sessions: tuple[SessionRecord, ...]
    next_cursor: str | None = field(default=None)


class Store(RunStore, ChangeLog, TurnLeaseStore, Protocol):
    """Storage for sessions. The module docstring lists the rules."""

    @property
    def location(self) -> str:
        """The location for display: a path, or ":memory:"."""
        ...

    async def open(self) -> None:
        """Make the store ready. Does nothing if already open. Raises a typed store error if it cannot be used."""
        ...

    async def close(self) -> None:
        """Release all resources. Does nothing if already closed."""
        ...

    async def create_session(self, session: SessionRecord) -> tuple[SessionRecord, bool]:
        """Store a new session, or return the existing one with this id. Returns whether it was created."""
        ...

    async def fork_session(
        self, session_id: str, fork: SessionRecord, *, last_seq: int, summary_ids: Collection[str] | None = None
    ) -> tuple[SessionRecord, bool]:
        """Create a session whose log begins with the first `last_seq` messages of `session_id`, which it shares.

        `fork` holds the id and the settings of the new session. Its `forked_from` names the session that stores the
        message at `last_seq`; with `last_seq` 0 it shares nothing and is a session like any other. No message is
        copied, and the original session does not change. The fork has the pins, the pruned outputs and the covers
        before `last_seq`. A summary of later messages, or of the message at `last_seq`, does not apply to it: the
        summary's children, or its messages, take its place.

        With `summary_ids`, the fork begins with its messages unfolded and has only these summaries. Imports use this,
        because they restore the context themselves.

        Returns the fork, and whether it was created: the same fork may exist. Raises `DuplicateIDError` for the id of another
        session, `MessageNotFoundError` if the log does not reach `last_seq`, and `CorruptStoreError` if the hashes of
        the messages do not lead to the head of the log.
        """
        ...

    async def forks(self, session_id: str) -> list[str]:
        """Return the ids of all sessions that share messages or summaries which this session stores, oldest first."""
        ...

    async def update_session(self, session_id: str, **changes: object) -> SessionRecord:
        """Change `model`, `system_prompt` (with its `system_tokens`), `title` or `metadata`.

        Raises TypeError for any other field.
        """
        ...

    async def session(self, session_id: str) -> SessionRecord:
        """Return the state of one session."""
        ...

    async def sessions(
        self, *, limit: int = 100, cursor: str | None = None, parent_id: str | None = None
    ) -> SessionPage:
        """Return one page of sessions, ordered by last use, newest first. `parent_id` selects the children of a session."""
        ...

    async def append(self, session_id: str, append: Append) -> AppendResult:
        """Append messages to the log and update the accounts in one transaction."""
        ...

    async def messages(
        self,
        session_id: str,
        *,
        after_seq: int = 0,
        until_seq: int | None = None,
        limit: int | None = None,
        on_damage: OnDamage = "raise",
    ) -> list[Message]:
        """Return the messages with after_seq < seq ≤ until_seq in order, at most `limit`.

        A message that is missing or damaged raises `CorruptStoreError`. With `on_damage="mark"`, a message with `damage` is in
        its place.
        """
        ...

    async def message(self, session_id: str, message_id: str) -> Message:
        """Return one message by id. Raises `MessageNotFoundError`."""
        ...

    async def active_context(self, session_id: str, *, shared: bool = False) -> ActiveContext:
        """Return the items that currently represent the log. The cost depends on their number, not on the log.

        With `shared`, dicts and lists in the items may be those that other readers receive, and must not be changed.
        """
        ...

    async def compact(self, session_id: str, compaction: Compaction) -> SessionRecord:
        """Commit a sweep. Raises `StaleContextError` and writes nothing if the covers are no longer `read_covers`."""
        ...

    async def hide(self, session_id: str, first_seq: int, last_seq: int) -> SessionRecord:
        """Remove a span from the active context without a summary. The log keeps it.

        Covers inside the span are removed. A cover that extends beyond it raises `StaleContextError`.
        """
        ...

    async def revise(
        self, session_id: str, hidden_spans: Sequence[tuple[int, int]], append: Append, *, last_seq: int
    ) -> AppendResult:
        """Hide spans and append messages in one transaction. Either may be empty.

        Raises `StaleContextError` and writes nothing if the log does not end at `last_seq`, and in the cases of `hide`.
        """
        ...

    async def replace_covers(
        self,
        session_id: str,
        covers: Sequence[Cover],
        append: Append,
        *,
        read_covers: Sequence[Cover],
        last_seq: int,
    ) -> AppendResult:
        """Show the log under other covers, and append messages, in one transaction. `append` may be empty.

        A cover with a summary has exactly the span of that summary, so that summaries can also return. Raises
        `StaleContextError` and writes nothing if the log does not end at `last_seq` or its covers are not `read_covers`,
        `SummaryNotFoundError`, and `MnesisStoreError` if covers overlap, lie outside the log or do not match their summary.
        """
        ...

    async def summary(self, session_id: str, summary_id: str) -> Summary:
        """Return one summary. Raises `SummaryNotFoundError`."""
        ...

    async def summaries(self, session_id: str) -> list[Summary]:
        """Return all summaries of a session, children before parents."""
        ...

    async def covered_messages(
        self, session_id: str, summary_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Message]:
        """Return the original messages that a summary covers, however deep, in order. Raises `SummaryNotFoundError`."""
        ...

    def turns(self, session_id: str, *, after_turn: int = -1, limit: int | None = None) -> list[TurnSnapshot]:
        """Return the snapshots of the turns after `after_turn`, oldest first. Not async: it blocks until they are read.

        A call that starts at the first turn compares all turns with their hashes; calls for further pages do not.
        """
        ...

    async def compactions(self, session_id: str) -> list[CompactionResult]:
        """Return the results of all committed compactions, oldest first."""
        ...

    async def record_interruption(self, session_id: str, interruption: Interruption) -> None:
        """Record that a model call gave no reply."""
        ...

    async def interruptions(self, session_id: str) -> list[Interruption]:
        """Return the interrupted model calls, oldest first."""
        ...

    async def purge(self, session_id: str) -> None:
        """Erase a session and everything that belongs to it. No other verb deletes messages.

        Raises `SessionForkedError` if other sessions share its messages; see `forks`.
        """
        ...

    async def search(self, search: Search, on_progress: OnIndexed | None = None) -> SearchPage:
        """Return the original messages that match a query, best first. `on_progress` reports the indexing that precedes
        the search.

        All pages show the log as of the first page. Neither folding nor other sessions change the order.
        Raises `ConfigurationError` for a limit below 1 or a cursor of another search, and `SummaryNotFoundError`.
        """
        ...

    async def messages_without_vectors(
        self, session_id: str | None, model: str, *, after_seq: int = 0, limit: int = 256
    ) -> list[UnembeddedMessage]:
        """Return the next messages that have no vector of a model, of one session or of all, at most `limit`.

        Messages up to `after_seq` are left out.
        """
        ...

    async def save_vectors(self, model: str, vectors: Mapping[int, bytes]) -> None:
        """Store vectors of messages by the keys of `messages_without_vectors`, as `mnesis.search.vectors` encodes them.

        They belong to the search index: a purge erases those of its session, `reindex` all. Purged messages are left out.
        """
        ...

    async def reindex(self, on_progress: OnIndexed | None = None) -> None:
        """Rebuild the search index from the log."""
        ...

    async def pin(self, session_id: str, seq: int, pinned: bool = True) -> None:
        """Pin a message in the active context, so that no sweep folds it, or unpin it.

        A sweep that would fold a pinned message raises `StaleContextError`.
        Raises `MessageNotFoundError`, and `StaleContextError` if a cover hides the message already.
        """
        ...

    async def file_references(
        self, *, session_id: str | None = None, content_id: str | None = None
    ) -> list[FileReference]:
        """Return the references of messages to stored files, ordered by session and `seq`.

        `session_id` and `content_id` select one session and one file. The cost depends on the result, not on the log.
        """
        ...

    async def mentioned_files(
        self, content_ids: Collection[str], *, without_sessions: Collection[str] = ()
    ) -> set[str]:
        """Return the stored files among these that a message outside `without_sessions` names.

        Read from the messages, not from the list of references, so that damage to the list deletes no file that is in
        use. Its cost grows with the log.
        """
        ...

    async def backup(self, path: str | Path, on_progress: OnCopied | None = None) -> None:
        """Write a complete, consistent copy to a new file, private to its user. Other writers can continue during that
        time.

        Raises `ConfigurationError` if the file exists or this store has no file to copy, and `StoreFullError`.
        """
        ...

    async def check(self, *, session_id: str | None = None, on_progress: OnChecked | None = None) -> list[Finding]:
        """Check hashes, edges, covers and counts. Returns an empty list if nothing is damaged. Changes nothing."""
        ...

    async def verify(
        self, *, session_id: str | None = None, heads: Heads | None = None, on_progress: OnChecked | None = None
    ) -> Verification:
        """Check like `check`, and also return the head of each log (`mnesis.store.chain`).

        `heads` are earlier heads by session, in hexadecimal. A log that does not continue from one of them is a finding.
        A store that seals with a key checks its seals. Raises `ConfigurationError` if a head is not a hash.
        """
        ...

    async def seal(self, on_progress: OnChecked | None = None) -> int:
        """Seal every session and run with the key of the store, and return their number.

        `on_progress` reports the check that precedes the sealing and takes most of the time.

        Raises `ConfigurationError` if the store has no key, and `CorruptStoreError` if `verify` finds an error.
        """
        ...
