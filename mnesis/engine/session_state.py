"""The state that all objects of one session share within a process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mnesis.concurrency import FairLock
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import SessionRecord


@dataclass
class SessionState:
    """What all open objects of one session share within a process."""

    turn_lock: FairLock = field(default_factory=FairLock)
    """Held by the turn that runs, so that turns run one at a time."""
    compaction_lock: FairLock = field(default_factory=FairLock)
    """Held by the sweep that runs."""
    record: SessionRecord | None = None
    """The newest known record of the session."""
    background_compaction: asyncio.Task[None] | None = None
    unreported_compaction: CompactionResult | None = None
    """The newest compaction that no turn has reported."""
    last_tool_call: str = ""
    repeated_call_count: int = 0
    """How many times `last_tool_call` was made in a row."""
    has_hidden_content: bool = False
    """Whether the newest window leaves anything out, so that recall tools are useful."""
    recall_tools_rejected: bool = False
    """Whether the provider rejected a request because of recall tools."""
    recall_cache: tuple[object, Message | None] = (None, None)
    """The key and the result of the newest automatic recall. It stays the same for all requests of a turn."""

    @property
    def is_compacting(self) -> bool:
        """Whether a sweep runs or is about to. A sweep whose event loop was closed does not count."""
        task = self.background_compaction
        is_scheduled = task is not None and not task.done() and not task.get_loop().is_closed()
        return is_scheduled or self.compaction_lock.locked()
