"""The state that all objects of one session share within a process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from mnesis.concurrency import FairLock
from mnesis.models.message import Message
from mnesis.models.results import CompactionResult
from mnesis.models.session import SessionRecord


@dataclass
class SessionRuntime:
    """What every object that has one session open in this process shares.

    `turn` lets one turn through at a time, `compaction` one sweep. `state` is the newest known state. `finished` is the
    newest compaction that no turn has reported yet. `recallable`: the context leaves something out; `recall_refused`: the model takes no tools. `recalled` is what was
    placed before the newest message, under what it was found for: it stays the same for all requests of a turn.
    """

    turn: FairLock = field(default_factory=FairLock)
    compaction: FairLock = field(default_factory=FairLock)
    state: SessionRecord | None = None
    background: asyncio.Task[None] | None = None
    finished: CompactionResult | None = None
    last_call: str = ""
    repeated_calls: int = 0
    recallable: bool = False
    recall_refused: bool = False
    recalled: tuple[object, Message | None] = (None, None)

    @property
    def is_compacting(self) -> bool:
        """Whether a sweep is running, or about to; not one whose loop was closed under it."""
        task = self.background
        waiting = task is not None and not task.done() and not task.get_loop().is_closed()
        return waiting or self.compaction.locked()
