"""Summaries: the nodes of the DAG that stands over the log."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from mnesis.display.panel import Panel, Prose, span
from mnesis.display.shown import Shown


class Summary(BaseModel, Shown):
    """A text that stands for messages `first_seq` to `last_seq` of the log, written once and never changed.

    A `leaf` summarises messages, a `condensed` one other summaries (`child_ids`, oldest first). `level` is how it was
    made: 1 structured by a model, 2 terse by a model, 3 extracted without a model. `message_count` messages with
    `source_tokens` tokens are behind it. `file_ids` are the files mentioned there; `digs` say
    which stretch behind it is about what. `created_at` is in milliseconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    session_id: str = ""
    kind: Literal["leaf", "condensed"]
    depth: int
    level: int
    text: str
    token_count: int
    first_seq: int
    last_seq: int
    message_count: int
    source_tokens: int
    file_ids: tuple[str, ...] = ()
    digs: tuple[str, ...] = ()
    child_ids: tuple[str, ...] = ()
    model_id: str = ""
    created_at: int = 0

    def _panel(self) -> Panel:
        facts = (
            ("messages", f"{self.message_count:,} ({span(self.first_seq, self.last_seq)})"),
            ("tokens", f"{self.source_tokens:,} → {self.token_count:,}"),
            ("made of", f"{len(self.child_ids):,} summaries" if self.child_ids else "messages"),
            ("files", f"{len(self.file_ids):,}"),
        )
        return Panel(f"Summary {self.id}", (self.kind, f"level {self.level}"), facts, (Prose(self.text),))
