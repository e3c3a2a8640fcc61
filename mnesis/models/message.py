"""Messages and their parts, as frozen values in the form that the log stores.

A tool call is a `ToolPart` in an assistant message. It contains its result if the result was known when the message was
recorded. Otherwise the result follows as a `ToolResultPart` in a message with role `tool`. The log is append-only, so a
stored part is never completed later.
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
    """Opaque data that the provider needs back verbatim with this part."""


class ReasoningPart(_Value):
    """A model's reasoning. It is sent only to providers that require it."""

    type: Literal["reasoning"] = "reasoning"
    text: str
    provider: dict[str, Any] | None = None
    """Opaque data that the provider needs back verbatim, for example a signature."""


class FileRefPart(_Value):
    """A reference to a file stored outside the message.

    `content_id` is the SHA-256 of its bytes, in hex. `path` is its original path. `token_count` covers the whole content.
    """

    type: Literal["file_ref"] = "file_ref"
    content_id: str
    path: str
    file_type: str = ""
    token_count: int = 0
    exploration_summary: str = ""


class ImagePart(_Value):
    """An image, as a URL or as base64 data."""

    type: Literal["image"] = "image"
    url: str | None = None
    data: str | None = Field(default=None, description="base64, without a data: prefix")
    media_type: str = "image/png"
    detail: Literal["auto", "low", "high"] | None = None


class FilePart(_Value):
    """A file with its content in the message, as text or as base64 data.

    Instead, `path` can name a file on disk, which is read when the message is sent. A path is never stored.
    """

    type: Literal["file"] = "file"
    name: str = "file"
    path: str | None = None
    text: str | None = None
    data: str | None = Field(default=None, description="base64")
    media_type: str = "text/plain"


class DataPart(_Value):
    """A block of another library, stored unchanged. `text` replaces it if it cannot be sent unchanged."""

    type: Literal["data"] = "data"
    kind: str
    data: dict[str, Any] = Field(default_factory=dict)
    text: str = ""


OutputPart = Annotated[
    TextPart | ImagePart | FilePart | FileRefPart | DataPart,
    Field(discriminator="type"),
]
"""A part that a tool result can contain."""


class ToolStatus(_Value):
    """The progress of a tool call. Times are milliseconds since 1970."""

    state: Literal["pending", "running", "completed", "error"] = "pending"
    started_at: int | None = None
    completed_at: int | None = None


class ToolPart(_Value):
    """A tool call, with its result if that was known when the message was recorded."""

    type: Literal["tool"] = "tool"
    tool_name: str
    tool_call_id: str
    input: dict[str, Any] = Field(default_factory=dict)
    raw_input: str | None = None
    """The arguments as the model wrote them, kept only if they are not a JSON object."""
    output: str | None = None
    output_parts: tuple[OutputPart, ...] = ()
    """The exact output if it is more than text: see `ToolResultPart.output_parts`."""
    output_file: FileRefPart | None = None
    """The stored file with the complete output, if the output was too large for the message. `output` then describes
    it."""
    error_message: str | None = None
    status: ToolStatus = ToolStatus()
    provider: dict[str, Any] | None = None

    @property
    def has_result(self) -> bool:
        """Whether this part contains the result."""
        if self.output is not None or self.output_parts or self.error_message is not None:
            return True
        return self.status.state in ("completed", "error")

    def result(self) -> ToolResultPart:
        """Return the result as a separate part."""
        is_error = self.error_message is not None or self.status.state == "error"
        output = self.error_message if self.error_message is not None else self.output
        return ToolResultPart(
            tool_call_id=self.tool_call_id,
            tool_name=self.tool_name,
            output=output or "",
            is_error=is_error,
            output_parts=self.output_parts,
            output_file=self.output_file,
        )


class ToolResultPart(_Value):
    """The result of a tool call in an earlier message.

    `output` is the result as text. A result with images or files also has `output_parts`: all of its content, in order.
    `output` is then the text form of these parts, for models that accept only text there.
    """

    type: Literal["tool_result"] = "tool_result"
    tool_call_id: str
    tool_name: str = ""
    output: str = ""
    is_error: bool = False
    output_parts: tuple[OutputPart, ...] = ()
    output_file: FileRefPart | None = None
    """The stored file with the complete output, if the output was too large for the message. `output` then describes
    it."""


MessagePart = Annotated[
    TextPart | ReasoningPart | ToolPart | ToolResultPart | ImagePart | FilePart | FileRefPart | DataPart,
    Field(discriminator="type"),
]
PARTS_ADAPTER: TypeAdapter[list[MessagePart]] = TypeAdapter(list[MessagePart])


class FinishReason(StrEnum):
    """The reason why a model stopped. Equal to its string; providers may report other reasons."""

    STOP = "stop"
    MAX_TOKENS = "max_tokens"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    ERROR = "error"
    MAX_TOOL_ROUNDS = "max_tool_rounds"
    DOOM_LOOP = "doom_loop"


class Message(_Value):
    """A message of the log, or, with `is_summary`, a summary that replaces a span of it.

    `seq` is the position in the session's log, dense and starting at 1; it is 0 until the message is stored. `created_at`
    is in milliseconds since 1970 and for display only: the order is `seq`. `token_count` is counted once, when the message
    is appended, and includes `tool_tokens`, the tokens of tool outputs. `tokens` is the usage that the provider reported
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
    """Opaque data with which an adapter restores its own message exactly."""
    damage: str | None = None
    """The reason why a stored message cannot be shown, in the message that `messages(on_damage="mark")` returns in its
    place."""

    def text_content(self) -> str:
        """Return the text parts of the message, joined without a separator."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> list[ToolPart]:
        """The tool calls of this message, in order."""
        return [part for part in self.parts if isinstance(part, ToolPart)]

    @property
    def tool_results(self) -> list[ToolResultPart]:
        """The tool results of this message, in order, without the results inside its own calls."""
        return [part for part in self.parts if isinstance(part, ToolResultPart)]

    @property
    def file_refs(self) -> list[FileRefPart]:
        """The stored files that this message refers to, in order, including those in tool outputs."""
        refs: list[FileRefPart] = []
        for part in self.parts:
            if isinstance(part, FileRefPart):
                refs.append(part)
            elif isinstance(part, ToolPart | ToolResultPart):
                outputs = (part.output_file, *part.output_parts)
                refs.extend(output for output in outputs if isinstance(output, FileRefPart))
        return refs

    @property
    def provider_id(self) -> str:
        """The provider in the model string, or ""."""
        return self.model_id.split("/", 1)[0] if "/" in self.model_id else ""


MessageWithParts = Message
"""`Message`, under the name that the documentation of `messages()` uses."""


def text_message(role: Role, text: str, **fields: Any) -> Message:
    """Create a message with one text part."""
    return Message(id=fields.pop("id", None) or new_id("msg"), role=role, parts=(TextPart(text=text),), **fields)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A message that refers to a stored file."""

    session_id: str
    message_id: str
    seq: int
    content_id: str
