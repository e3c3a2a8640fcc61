"""Messages and the parts they are made of: frozen values, as they stand in the log.

A tool call is a `ToolPart` in an assistant message. Its outcome is part of it where it was known when the message was
recorded; otherwise it follows as a `ToolResultPart` in a message of role `tool`. Nothing is ever filled in later: the
log is append-only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from mnesis.ids import new_id
from mnesis.models.usage import TokenUsage

Role = Literal["system", "user", "assistant", "tool"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextPart(_Value):
    """Plain text."""

    type: Literal["text"] = "text"
    text: str
    provider: dict[str, Any] | None = None
    """What a provider wants back verbatim with this part; opaque."""


class ReasoningPart(_Value):
    """A model's reasoning. Sent back only to providers that ask for it."""

    type: Literal["reasoning"] = "reasoning"
    text: str
    provider: dict[str, Any] | None = None
    """What a provider wants back verbatim (for example a signature); opaque."""


class FileRefPart(_Value):
    """A file kept outside the message: its id (the SHA-256 of its bytes, in hex) and what is known of it. `path` is what
    it was called; `token_count` that of the whole content."""

    type: Literal["file_ref"] = "file_ref"
    content_id: str
    path: str
    file_type: str = ""
    token_count: int = 0
    exploration_summary: str = ""


class ToolStatus(_Value):
    """How far a tool call has come. Times are milliseconds since 1970."""

    state: Literal["pending", "running", "completed", "error"] = "pending"
    started_at: int | None = None
    completed_at: int | None = None


class ToolPart(_Value):
    """A tool call, with its outcome where that was known when the message was recorded."""

    type: Literal["tool"] = "tool"
    tool_name: str
    tool_call_id: str
    input: dict[str, Any] = Field(default_factory=dict)
    raw_input: str | None = None
    """The arguments as the model wrote them, kept only where they are not the JSON object they should be."""
    output: str | None = None
    output_file: FileRefPart | None = None
    """Where the whole output is kept, if it was too large for the message; `output` then describes it."""
    error_message: str | None = None
    status: ToolStatus = ToolStatus()
    provider: dict[str, Any] | None = None

    @property
    def has_result(self) -> bool:
        """Whether the outcome is part of this part."""
        return self.output is not None or self.error_message is not None or self.status.state in ("completed", "error")

    def result(self) -> ToolResultPart:
        """The outcome as a part of its own."""
        failed = self.error_message is not None or self.status.state == "error"
        output = self.error_message if self.error_message is not None else self.output
        return ToolResultPart(
            tool_call_id=self.tool_call_id,
            tool_name=self.tool_name,
            output=output or "",
            is_error=failed,
            output_file=self.output_file,
        )


class ToolResultPart(_Value):
    """The outcome of a tool call that an earlier message made."""

    type: Literal["tool_result"] = "tool_result"
    tool_call_id: str
    tool_name: str = ""
    output: str = ""
    is_error: bool = False
    output_file: FileRefPart | None = None
    """Where the whole output is kept, if it was too large for the message; `output` then describes it."""


class ImagePart(_Value):
    """An image, by address or as base64 data."""

    type: Literal["image"] = "image"
    url: str | None = None
    data: str | None = Field(default=None, description="base64, without a data: prefix")
    media_type: str = "image/png"
    detail: Literal["auto", "low", "high"] | None = None


class FilePart(_Value):
    """A file whose content stands in the message: text, or base64 data.

    `path` instead of both names a file on disk, which is read when the message is sent; it is never stored."""

    type: Literal["file"] = "file"
    name: str = "file"
    path: str | None = None
    text: str | None = None
    data: str | None = Field(default=None, description="base64")
    media_type: str = "text/plain"


class DataPart(_Value):
    """A block of another library, kept as it is; `text` is how it reads where it cannot be sent as itself."""

    type: Literal["data"] = "data"
    kind: str
    data: dict[str, Any] = Field(default_factory=dict)
    text: str = ""


MessagePart = Annotated[
    TextPart | ReasoningPart | ToolPart | ToolResultPart | ImagePart | FilePart | FileRefPart | DataPart,
    Field(discriminator="type"),
]
PARTS: TypeAdapter[list[MessagePart]] = TypeAdapter(list[MessagePart])


class FinishReason(StrEnum):
    """Why a model stopped. Compares equal to its string; providers may report others."""

    STOP = "stop"
    MAX_TOKENS = "max_tokens"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    ERROR = "error"
    MAX_TOOL_ROUNDS = "max_tool_rounds"


class Message(_Value):
    """One message of the log, or, with `is_summary`, the stand-in for a span of it.

    `seq` is its place in the session's log, dense and starting at 1 (0 while it is not stored yet). `created_at` is in
    milliseconds since 1970 and is for people: order is `seq`. `token_count` was taken once, when the message was
    appended, and includes `tool_tokens`, the part of it that tool outputs take. `tokens` is what the provider reported
    for the call that produced the message.
    """

    id: str
    session_id: str = ""
    seq: int = 0
    role: Role
    parts: tuple[MessagePart, ...] = ()
    created_at: int = 0
    token_count: int = Field(default=0, ge=0)
    tool_tokens: int = Field(default=0, ge=0)
    model_id: str = ""
    tokens: TokenUsage | None = None
    cost: float = Field(default=0.0, ge=0)
    finish_reason: str | None = None
    is_summary: bool = False
    extra: dict[str, Any] = Field(default_factory=dict)
    """What an adapter needs to give its own message back exactly; opaque to the engine."""

    def text_content(self) -> str:
        """The text of the message: its text parts, joined without anything between them."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> list[ToolPart]:
        """The tool calls this message makes, in order."""
        return [part for part in self.parts if isinstance(part, ToolPart)]

    @property
    def tool_results(self) -> list[ToolResultPart]:
        """The tool results this message carries, in order; those that stand in its own calls are not among them."""
        return [part for part in self.parts if isinstance(part, ToolResultPart)]

    @property
    def file_refs(self) -> list[FileRefPart]:
        """The stored files this message refers to, in order: its own, and outputs of tools that were moved out."""
        outputs = (p.output_file if isinstance(p, ToolPart | ToolResultPart) else p for p in self.parts)
        return [part for part in outputs if isinstance(part, FileRefPart)]

    @property
    def provider_id(self) -> str:
        """The provider named in the model string ("" if none is)."""
        return self.model_id.split("/", 1)[0] if "/" in self.model_id else ""


MessageWithParts = Message
"""The same class under the name the documentation of `messages()` gives it."""


def text_message(role: Role, text: str, **fields: Any) -> Message:
    """A message of one text part."""
    return Message(id=fields.pop("id", None) or new_id("msg"), role=role, parts=(TextPart(text=text),), **fields)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A message that refers to a stored file."""

    session_id: str
    message_id: str
    seq: int
    content_id: str
