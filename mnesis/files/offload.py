"""Offloading: read files from disk, and move parts that are too large for a message to stored files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from mnesis.errors import ConfigurationError, FileError, InvalidMessageError
from mnesis.files.handler import LargeFileHandler
from mnesis.files.token_size import may_exceed
from mnesis.formats.text import output_reference, parts_text
from mnesis.models.message import FilePart, FileRefPart, MessagePart, OutputPart, TextPart, ToolPart, ToolResultPart
from mnesis.redaction import get_logger
from mnesis.tokens.estimator import BASE64_CHARS_PER_TOKEN

logger = get_logger(__name__)

DEFAULT_FILE_NAME = "file"

ToolOutputPart = TypeVar("ToolOutputPart", ToolPart, ToolResultPart)


def may_need_offload(parts: Sequence[MessagePart], threshold: int) -> bool:
    """Return whether any part may need to be read or offloaded, judging by types and lengths. User text never does."""
    return any(type(part) is not TextPart and _part_may_need_offload(part, threshold) for part in parts)


def _part_may_need_offload(part: MessagePart, threshold: int) -> bool:
    if isinstance(part, FilePart):
        return (
            part.path is not None
            or len(part.data or "") // BASE64_CHARS_PER_TOKEN > threshold
            or may_exceed(part.text or "", threshold)
        )
    if isinstance(part, ToolPart | ToolResultPart):
        if part.output_parts:
            return any(_output_part_may_need_offload(output, threshold) for output in part.output_parts)
        return part.output_file is None and may_exceed(_output_text(part), threshold)
    return False


def _output_part_may_need_offload(part: OutputPart, threshold: int) -> bool:
    if isinstance(part, TextPart):
        return may_exceed(part.text, threshold)
    return _part_may_need_offload(part, threshold)


async def offload_large_parts(parts: Sequence[MessagePart], handler: LargeFileHandler) -> list[MessagePart]:
    """Return the parts to store, with files read and large parts replaced with references.

    Raises a `FileError` if a file cannot be read or stored, and `InvalidMessageError` for invalid base64 data.
    """
    return [await _offload_part(part, handler) for part in parts]


async def offload_results(results: Sequence[ToolResultPart], handler: LargeFileHandler) -> list[ToolResultPart]:
    """Offload large tool results during a turn. If that fails, a result remains in the message: finishing the turn
    matters more than a small context. A result with a file that cannot be read becomes an error, which the model sees.
    """
    return [await _offload_result(result, handler) for result in results]


async def _offload_result(result: ToolResultPart, handler: LargeFileHandler) -> ToolResultPart:
    try:
        return await _offload_tool_output(result, handler)
    except (FileError, InvalidMessageError, ConfigurationError) as error:  # such as an object store without its library
        if any(isinstance(part, FilePart) and part.path is not None for part in result.output_parts):
            return result.model_copy(update={"output": str(error), "output_parts": (), "is_error": True})
        logger.warning("a tool output could not be offloaded and remains in its message: %s", error)
        return result


async def _offload_part(part: MessagePart, handler: LargeFileHandler) -> MessagePart:
    if not _part_may_need_offload(part, handler.config.inline_threshold):
        return part
    if isinstance(part, FilePart):
        return await _offload_file(part, handler)
    if isinstance(part, ToolPart):
        return await _offload_tool_output(part, handler)
    return await _offload_tool_output(part, handler) if isinstance(part, ToolResultPart) else part


async def _offload_tool_output(part: ToolOutputPart, handler: LargeFileHandler) -> ToolOutputPart:
    if not _part_may_need_offload(part, handler.config.inline_threshold):
        return part
    if part.output_parts:
        return await _offload_output_parts(part, handler)
    return await _offload_output(part, handler) if await handler.exceeds_threshold(_output_text(part)) else part


async def _offload_file(part: FilePart, handler: LargeFileHandler) -> FilePart | FileRefPart:
    if part.path is not None:
        return await _read_file(part.path, part.name, handler)
    if part.data is not None:
        return await handler.store_content(_decode_base64(part), part.name)
    if part.text is not None and await handler.exceeds_threshold(part.text):
        return await handler.store_content(part.text.encode("utf-8", "surrogatepass"), part.name)
    return part


async def _read_file(path: str, name: str, handler: LargeFileHandler) -> FilePart | FileRefPart:
    result = await handler.handle_file(path)
    name = path if name == DEFAULT_FILE_NAME else name
    if result.file_ref is not None:
        return result.file_ref.model_copy(update={"path": name})
    return FilePart(name=name, text=result.inline_content)


async def _offload_output(part: ToolOutputPart, handler: LargeFileHandler) -> ToolOutputPart:
    """Store the output of a call or result, and replace it with a reference."""
    content = _output_text(part).encode("utf-8", "surrogatepass")
    reference = await handler.store_content(content, f"output of {part.tool_name or 'a tool'}", "")
    is_error = isinstance(part, ToolPart) and part.error_message is not None
    replacement = output_reference(reference)
    return part.model_copy(update={"error_message" if is_error else "output": replacement, "output_file": reference})


async def _offload_output_parts(part: ToolOutputPart, handler: LargeFileHandler) -> ToolOutputPart:
    """Read and offload the files and long texts of an output."""
    parts = tuple([await _offload_output_part(output, part.tool_name, handler) for output in part.output_parts])
    is_error = isinstance(part, ToolPart) and part.error_message is not None
    return part.model_copy(update={"error_message" if is_error else "output": parts_text(parts), "output_parts": parts})


async def _offload_output_part(part: OutputPart, tool_name: str, handler: LargeFileHandler) -> OutputPart:
    if isinstance(part, FilePart) and _part_may_need_offload(part, handler.config.inline_threshold):
        return await _offload_file(part, handler)
    if isinstance(part, TextPart) and await handler.exceeds_threshold(part.text):
        content = part.text.encode("utf-8", "surrogatepass")
        return await handler.store_content(content, f"output of {tool_name or 'a tool'}", "")
    return part


def _output_text(part: ToolPart | ToolResultPart) -> str:
    if isinstance(part, ToolPart) and part.error_message is not None:
        return part.error_message
    return part.output or ""


def _decode_base64(part: FilePart) -> bytes:
    try:
        return base64.b64decode("".join((part.data or "").split()), validate=True)
    except binascii.Error as error:
        raise InvalidMessageError(f"the data of the file {part.name!r} is not valid base64: {error}") from error
