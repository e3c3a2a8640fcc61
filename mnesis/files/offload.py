"""Parts of a message as they are stored: files read from the disk, what is too large for a message moved out of it."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Sequence

from mnesis.errors import FileError, InvalidMessageError
from mnesis.files.handler import LargeFileHandler
from mnesis.files.token_size import may_exceed
from mnesis.formats.openai import output_reference
from mnesis.models.message import FilePart, FileRefPart, MessagePart, ToolPart, ToolResultPart
from mnesis.tokens.estimator import BASE64_CHARS_PER_TOKEN

logger = logging.getLogger(__name__)

UNNAMED = "file"


def needs_intake(parts: Sequence[MessagePart], threshold: int) -> bool:
    """Whether any part may have to be read or moved out; told from types and lengths alone. What a user typed never is."""
    return any(_may_be_moved(part, threshold) for part in parts)


def _may_be_moved(part: MessagePart, threshold: int) -> bool:
    if isinstance(part, FilePart):
        return (
            part.path is not None
            or len(part.data or "") // BASE64_CHARS_PER_TOKEN > threshold
            or may_exceed(part.text or "", threshold)
        )
    if isinstance(part, ToolPart | ToolResultPart):
        return part.output_file is None and may_exceed(_outcome(part), threshold)
    return False


async def taken_in(parts: Sequence[MessagePart], handler: LargeFileHandler) -> list[MessagePart]:
    """The parts as they are stored. Raises a `FileError` for a file that cannot be taken in, `InvalidMessageError`."""
    return [await _taken(part, handler) for part in parts]


async def results_taken_in(results: Sequence[ToolResultPart], handler: LargeFileHandler) -> list[MessagePart]:
    """What tools gave in the middle of a turn. Where it cannot be moved out it stays in the message: a turn under way is
    worth more than a small context."""
    try:
        return await taken_in(results, handler)
    except FileError as error:
        logger.warning("a tool's output stays in its message: %s", error)
        return list(results)


async def _taken(part: MessagePart, handler: LargeFileHandler) -> MessagePart:
    if not _may_be_moved(part, handler.config.inline_threshold):
        return part
    if isinstance(part, FilePart):
        return await _file(part, handler)
    if isinstance(part, ToolPart | ToolResultPart) and await handler.exceeds_threshold(_outcome(part)):
        return await _moved_out(part, handler)
    return part


async def _file(part: FilePart, handler: LargeFileHandler) -> FilePart | FileRefPart:
    if part.path is not None:
        return await _from_disk(part.path, part.name, handler)
    if part.data is not None:
        return await handler.keep(_bytes(part), part.name)
    if part.text is not None and await handler.exceeds_threshold(part.text):
        return await handler.keep(part.text.encode("utf-8", "surrogatepass"), part.name)
    return part


async def _from_disk(path: str, name: str, handler: LargeFileHandler) -> FilePart | FileRefPart:
    result = await handler.handle_file(path)
    name = path if name == UNNAMED else name
    if result.file_ref is not None:
        return result.file_ref.model_copy(update={"path": name})
    return FilePart(name=name, text=result.inline_content)


async def _moved_out(part: ToolPart | ToolResultPart, handler: LargeFileHandler) -> MessagePart:
    """The call or result with a reference in place of its output."""
    content = _outcome(part).encode("utf-8", "surrogatepass")
    kept = await handler.keep(content, f"output of {part.tool_name or 'a tool'}", "")
    failed = isinstance(part, ToolPart) and part.error_message is not None
    shown = output_reference(kept)
    return part.model_copy(update={"error_message" if failed else "output": shown, "output_file": kept})


def _outcome(part: ToolPart | ToolResultPart) -> str:
    if isinstance(part, ToolPart) and part.error_message is not None:
        return part.error_message
    return part.output or ""


def _bytes(part: FilePart) -> bytes:
    try:
        return base64.b64decode("".join((part.data or "").split()), validate=True)
    except binascii.Error as error:
        raise InvalidMessageError(f"the data of the file {part.name!r} is no base64: {error}") from error
