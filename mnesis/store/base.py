"""The store protocol: each verb is one transaction and means something to a user of the library.

Rules that every implementation keeps, checked by `mnesis.testing.store_suite`:

- A verb happens wholly or not at all, also when the task that awaits it is cancelled or the process dies.
- The log is append-only. `seq` is dense per session, starts at 1 and is given by the store.
- Appending is idempotent by message id: an append whose messages are all there already with the same content returns
  what is stored and changes nothing; the same id with other content raises `DuplicateIDError`.
- Every verb on an unknown (or purged) session raises `SessionNotFoundError`.
- What comes back equals what was put in, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mnesis.models.context import ActiveContext, Cover, Prune
from mnesis.models.finding import Finding
from mnesis.models.message import FileReference, Message
from mnesis.models.results import CompactionResult, TurnSnapshot
from mnesis.models.search import Search, SearchPage
from mnesis.models.session import Interruption, SessionRecord, UsageReport
from mnesis.models.summary import Summary
from mnesis.store.run_store import RunStore


@dataclass(frozen=True, slots=True)
class Append:
    """Messages that belong together. `id`, `role`, `parts`, `token_count`, `tool_tokens`, `created_at` are set, `seq` is not.

    `report` moves the token accounts (`mnesis.models.session.after_append`); `ends_turn` counts the turn and stores
    its snapshot, taken from the accounts after this append.
    """

    messages: Sequence[Message]
    report: UsageReport | None = None
    ends_turn: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append left behind: the session's new state, the messages with their `seq`, the snapshot if a turn ended.

    `fresh` is False when everything was stored already."""

    session: SessionRecord
    messages: tuple[Message, ...]
    snapshot: TurnSnapshot | None = None
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Compaction:
    """One sweep, to be committed at once: new summaries, the covers that replace others, outputs that become markers.

    `read_covers` is what the sweep read: all covers of the session. It commits only if they still stand. `summaries` are
    in order of making, children before parents; a leaf covers the messages `first_seq` to `last_seq` that no cover in
    `read_covers` hides. `covers` is the whole list that shall stand afterwards. `result` is stored with it; the store sets
    its `tokens_after`, `turn_index` and `created_at`.
    """

    read_covers: tuple[Cover, ...]
    covers: tuple[Cover, ...]
    summaries: tuple[Summary, ...]
    prunes: tuple[Prune, ...]
    result: CompactionResult


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions, newest first, and the cursor of the next page (None at the end)."""

    sessions: tuple[SessionRecord, ...]
    next_cursor: str | None = field(default=None)


class Store(RunStore, Protocol):
    """A place where sessions are kept. See the module for the rules."""

    @property
    def location(self) -> str:
        """Where it is, for people: a path, or ":memory:"."""
        ...

    async def open(self) -> None:
        """Make it ready; repeated calls do nothing. Raises one of the typed store errors if it cannot be used."""
        ...

    async def close(self) -> None:
        """Release everything; quiet when closed already."""
        ...

    async def create_session(self, session: SessionRecord) -> tuple[SessionRecord, bool]:
        """Store a new session, or return the one of this id that is there; True if it was created now."""
        ...

    async def update_session(self, session_id: str, **changes: object) -> SessionRecord:
        """Change `model`, `system_prompt` (with its `system_tokens`), `title` or `metadata`; nothing else can change."""
        ...

    async def session(self, session_id: str) -> SessionRecord:
        """The state of one session."""
        ...

    async def sessions(
        self, *, limit: int = 100, cursor: str | None = None, parent_id: str | None = None
    ) -> SessionPage:
        """Sessions by last use, newest first; with `parent_id` only that one's children."""
        ...

    async def append(self, session_id: str, append: Append) -> Appended:
        """Put messages at the end of the log, move the accounts, all at once."""
        ...

    async def messages(
        self, session_id: str, *, after_seq: int = 0, until_seq: int | None = None, limit: int | None = None
    ) -> list[Message]:
        """Messages with after_seq < seq ≤ until_seq in order, at most `limit`."""
        ...

    async def message(self, session_id: str, message_id: str) -> Message:
        """One message by id. Raises `MessageNotFoundError`."""
        ...

    async def active_context(self, session_id: str) -> ActiveContext:
        """The items that stand for the log now. Cost depends on their number, never on the log's length."""
        ...

    async def compact(self, session_id: str, compaction: Compaction) -> SessionRecord:
        """Commit a sweep. Raises `StaleContextError`, with nothing written, if `read_covers` no longer stand."""
        ...

    async def hide(self, session_id: str, first_seq: int, last_seq: int) -> SessionRecord:
        """Take a span out of the active context without a summary; the log keeps it. Covers inside it give way; one
        that reaches over its edge raises `StaleContextError`."""
        ...

    async def revise(
        self, session_id: str, hide: Sequence[tuple[int, int]], append: Append, *, last_seq: int
    ) -> Appended:
        """Hide spans and append messages, all at once; either may be empty. Raises `StaleContextError`, with nothing
        written, unless the log ends at `last_seq`, and where `hide` would."""
        ...

    async def summary(self, session_id: str, summary_id: str) -> Summary:
        """One summary. Raises `SummaryNotFoundError`."""
        ...

    async def summaries(self, session_id: str) -> list[Summary]:
        """All summaries ever made, children before parents."""
        ...

    async def covered_messages(
        self, session_id: str, summary_id: str, *, after_seq: int = 0, limit: int | None = None
    ) -> list[Message]:
        """The original messages behind a summary, however deep, in order. Raises `SummaryNotFoundError`."""
        ...

    def turns(self, session_id: str) -> list[TurnSnapshot]:
        """Snapshots of all turns, oldest first. Not async: it reads at once and returns."""
        ...

    async def compactions(self, session_id: str) -> list[CompactionResult]:
        """Every compaction that was committed, oldest first."""
        ...

    async def interrupted(self, session_id: str, interruption: Interruption) -> None:
        """Note that a model call gave no answer."""
        ...

    async def interruptions(self, session_id: str) -> list[Interruption]:
        """Calls that gave no answer, oldest first."""
        ...

    async def purge(self, session_id: str) -> None:
        """Erase a session and everything that belongs to it. The only verb that deletes."""
        ...

    async def search(self, search: Search) -> SearchPage:
        """Originals that a question asks for, best first, of the log as it is when the first page is asked for. Neither what
        is folded nor other sessions change the order. Raises `ConfigurationError` for a limit below 1 or a cursor of another
        search, `SummaryNotFoundError`."""
        ...

    async def reindex(self) -> None:
        """Make whatever `search` keeps anew, from the log."""
        ...

    async def pin(self, session_id: str, seq: int, pinned: bool = True) -> None:
        """Keep a message in the active context as it is, whatever is folded; or no longer. A sweep that would fold it is
        refused with `StaleContextError`. Raises `MessageNotFoundError`, and `StaleContextError` for a message under a
        cover."""
        ...

    async def file_references(
        self, *, session_id: str | None = None, content_id: str | None = None
    ) -> list[FileReference]:
        """Which messages refer to which stored files, in order of session and `seq`; those of one session, or to one
        file, if given. Cost depends on what is found, not on the log's length."""
        ...

    async def backup(self, path: str | Path) -> None:
        """Write a whole, consistent copy to a new file, private to its user, while others go on writing. Raises
        `ConfigurationError` if the file exists or this store has nothing to copy, `StoreFullError`."""
        ...

    async def check(self, *, session_id: str | None = None) -> list[Finding]:
        """Look for damage: hashes, edges, covers, counts. Empty if there is none; never changes anything."""
        ...
