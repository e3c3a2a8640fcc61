"""Summaries: the nodes of the DAG above the log."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from mnesis.display.displayable import Displayable
from mnesis.display.panel import Panel, Prose, format_span


class Summary(BaseModel, Displayable):
    """A text that represents messages `first_seq` to `last_seq` of the log, written once and never changed.

    A `leaf` summarises messages; a `condensed` summary summarises other summaries (`child_ids`, oldest first). `level`
    is 1 (structured, by a model), 2 (terse, by a model) or 3 (extracted without a model). The summary covers
    `message_count` messages with `source_tokens` tokens. `file_ids` are the files that they mention. `pointers`
    describe the segments of the covered messages, with a cursor to expand each. `created_at` is in milliseconds since
    1970.
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
    pointers: tuple[str, ...] = Field(default=(), validation_alias=AliasChoices("pointers", "digs"))
    child_ids: tuple[str, ...] = ()
    model_id: str = ""
    created_at: int = 0

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Databases and exports hold this field under its first name.
        fields = handler(self)
        return {("digs" if name == "pointers" else name): field for name, field in fields.items()}

    def _panel(self) -> Panel:
        facts = (
            ("messages", f"{self.message_count:,} ({format_span(self.first_seq, self.last_seq)})"),
            ("tokens", f"{self.source_tokens:,} → {self.token_count:,}"),
            ("made of", f"{len(self.child_ids):,} summaries" if self.child_ids else "messages"),
            ("files", f"{len(self.file_ids):,}"),
        )
        return Panel(f"Summary {self.id}", (self.kind, f"level {self.level}"), facts, (Prose(self.text),))
