"""The state that all objects of one session share within a process."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field

from mnesis.concurrency import FairLock
from mnesis.formats.request_digests import RequestDigests
from mnesis.llm.answer_lengths import AnswerLengths
from mnesis.llm.breaker import CircuitBreakers
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.sent_request import RequestParts
from mnesis.models.session import SessionRecord

MAX_UNCOMMITTED = 1_000


@dataclass
class SessionState:
    """What all open objects of one session share within a process."""

    turn_lock: FairLock = field(default_factory=FairLock)
    """Held by the turn that runs, so that turns run one at a time."""
    turn_fence: int | None = None
    """The fence of the lease on the session's turns, while this process holds it. Appends name it."""
    is_turn_lost: bool = False
    """Whether another process has taken over the lease of this one. The turn must then store nothing more."""
    compaction_lock: FairLock = field(default_factory=FairLock)
    """Held by the sweep that runs."""
    view_lock: FairLock = field(default_factory=FairLock)
    """A lock that an adapter holds from setting the session's view until it has read the window."""
    breakers: CircuitBreakers = field(default_factory=CircuitBreakers)
    """The circuit breakers of the models that this process calls, shared by all sessions of the database."""
    summary_lengths: AnswerLengths = field(default_factory=AnswerLengths)
    """The lengths of summaries that models exceeded."""
    record: SessionRecord | None = None
    """The newest known record of the session. Changed by `advance()` only."""
    background_compaction: asyncio.Task[None] | None = None
    unreported_compaction: CompactionResult | None = None
    """The newest compaction that no turn has reported."""
    uncommitted_compactions: deque[CompactionResult] = field(default_factory=lambda: deque(maxlen=MAX_UNCOMMITTED))
    """The newest compactions of this process that called a model but changed nothing. The store has only the others."""
    last_tool_call: str = ""
    repeated_call_count: int = 0
    """The number of times that `last_tool_call` was made in a row."""
    recall_tools_rejected: bool = False
    """Whether the provider rejected a request because of recall tools: the same request without them succeeded."""
    used_cache_at: int = 0
    """When this process last called the session's model, in milliseconds since 1970. The call may have failed."""
    sent_parts: RequestParts = field(default_factory=RequestParts)
    """The parts of this process's newest request other than the conversation."""
    sent_digests: RequestDigests | None = None
    """The digests of the newest request of this process, so that the next one digests only what is new."""
    expiry_swept: int | None = None
    """`answered_at` of the request whose expired cache was the reason for a sweep, so that there is only one sweep."""
    has_warned_of_overhead: bool = False
    """Whether the warning was given that system prompt and tools take most of the window."""
    recall_blocks: dict[Hashable, Message | None] = field(default_factory=dict)
    """The results of the newest automatic recalls, by key. They stay the same for all requests of a turn."""
    shown_forms: dict[int, Message] = field(default_factory=dict)
    """Messages in the changed form that a model received, by `seq`. Summaries are made from them."""
    seqs_with_known_forms: set[int] | None = None
    """The messages whose form in requests is known. Sweeps fold other messages only if they must. None: all."""
    late_results: set[Future[None]] = field(default_factory=set)
    """Tools that are still running in a thread after their turn was cancelled. Done once the result is stored."""
    _record_lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, record: SessionRecord) -> None:
        """Replace the record with a newer one. A record that was read before the current one is ignored."""
        with self._record_lock:
            current = self.record
            # A different `created_at` means a different session: the old one was purged. `updated_at` increases with
            # every change.
            if current is None or current.created_at != record.created_at or record.updated_at >= current.updated_at:
                self.record = record

    @property
    def is_compacting(self) -> bool:
        """Whether a sweep runs or is about to start. A sweep whose event loop was closed is ignored."""
        task = self.background_compaction
        is_scheduled = task is not None and not task.done() and not task.get_loop().is_closed()
        return is_scheduled or self.compaction_lock.locked()
