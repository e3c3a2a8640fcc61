"""Exact conversion of LlamaIndex content blocks to JSON and message parts, and back.

Media are stored as base64. A file given by path is copied when the message is stored, so the session stays readable if
the file is deleted. While the file exists, the block is restored with its path. Reading such files is the only I/O.
"""

from __future__ import annotations

import base64
import copy
import json
import os
from io import IOBase
from pathlib import Path
from typing import Any, get_args

from llama_index.core.base.llms import types
from llama_index.core.base.llms.types import ChatMessage, DocumentBlock, ImageBlock, TextBlock
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from mnesis.errors import InvalidMessageError
from mnesis.models.message import DataPart, FilePart, ImagePart, MessagePart, ReasoningPart, TextPart, ToolPart
from mnesis.redaction import get_logger
from mnesis.system.open_files import open_file

logger = get_logger(__name__)

Json = dict[str, Any]
MAX_COPIED_BYTES = 8 * 1024 * 1024
"""The largest file given by path that is copied into the log. Only the path of a larger file is stored."""

DATA_FIELDS = {"image": "image", "audio": "audio", "video": "video", "document": "data"}
NESTED_FIELDS = {"citable": "content", "citation": "cited_content"}
_COPY = "copy"
_IS_PATH = "is_path"
_IS_RAW = "is_raw"
_IN_PART = "in_part"
ADDED_KEYS = (_COPY, _IS_PATH, _IS_RAW)
"""The keys that `dump_block` adds to the fields of a block."""

_DETAILS = ("auto", "low", "high")


def _block_classes() -> dict[str, type[BaseModel]]:
    union = get_args(get_args(ChatMessage.model_fields["blocks"].annotation)[0])[0]
    return {str(kind.model_fields["block_type"].default): kind for kind in get_args(union)}


BLOCKS = _block_classes()
"""The block classes of the installed llama-index-core, by `block_type`."""

TOOL_CALL_BLOCK: Any = getattr(types, "ToolCallBlock", None)
"""The class of tool call blocks; None if the installed llama-index-core does not have one."""


def to_json_value(value: Any, location: str) -> Any:
    """Convert a value to JSON. A value that JSON cannot express becomes a text with its repr.

    `location` describes the value in the error message. Raises `InvalidMessageError` for circular references.
    """
    try:
        return to_jsonable_python(value, fallback=_describe, bytes_mode="base64", inf_nan_mode="null")
    except (ValueError, RecursionError) as error:
        raise InvalidMessageError(
            f"{location} cannot be stored as JSON ({error}); remove circular references from it"
        ) from error


def _describe(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a __repr__ of user code may raise any exception; the message is stored anyway
        text = type(value).__qualname__
    return f"[not serialisable: {text[:500]}]"


def dump_block(block: Any) -> Json:
    """Convert a block to JSON."""
    kind = str(block.block_type)
    field, nested = DATA_FIELDS.get(kind), NESTED_FIELDS.get(kind)
    excluded_fields = {name for name in (field, nested) if name is not None}
    data: Json = to_json_value(block.model_dump(exclude=excluded_fields), f"a block of type {kind!r}")
    if field is not None:
        content, is_raw = _to_base64(getattr(block, field))
        if content is not None:
            data |= {field: content, **({_IS_RAW: True} if is_raw else {})}
        elif data.get("path"):
            file_copy = _copy_file(data["path"])
            data |= {_COPY: file_copy} if file_copy is not None else {}
    if isinstance(getattr(block, "path", None), Path):
        data[_IS_PATH] = True
    if nested is not None:
        inner = getattr(block, nested)
        data[nested] = [dump_block(each) for each in inner] if isinstance(inner, list) else dump_block(inner)
    return data


def load_block(data: Json) -> Any:
    """Convert JSON of `dump_block` back to a new block. A deleted file is replaced by its copy. Never raises."""
    # A copy, so that changing the returned block does not change the stored data.
    fields = copy.deepcopy(data)
    kind = str(fields.get("block_type"))
    block_class = BLOCKS.get(kind)
    if block_class is None:
        return TextBlock(text=f"[a block of type {kind!r}, which this version of llama-index-core does not know]")
    _restore_path(fields)
    nested = NESTED_FIELDS.get(kind)
    if nested is not None:
        inner = fields[nested]
        fields[nested] = [load_block(each) for each in inner] if isinstance(inner, list) else load_block(inner)
    content = _media_bytes(fields, kind)
    try:
        block = block_class.model_validate(fields)
    except ValidationError:
        # The path of a deleted file that was too large to copy. The rest of the session must stay readable.
        block = block_class.model_construct(**fields)
    # Validation may encode media again, so the stored bytes are put back.
    return block if content is None else block.model_copy(update={DATA_FIELDS[kind]: content})


def _restore_path(fields: Json) -> None:
    """Restore a path with its original type, or replace the path of a deleted file by the copy."""
    is_path, file_copy = fields.pop(_IS_PATH, False), fields.pop(_COPY, None)
    path = fields.get("path")
    if path and file_copy is not None and not os.path.isfile(path):
        fields |= {"path": None, DATA_FIELDS[fields["block_type"]]: file_copy}
    elif path and is_path:
        fields["path"] = Path(path)


def _media_bytes(fields: Json, kind: str) -> bytes | None:
    """Remove media content from the fields and return it: base64 as blocks keep it, or raw bytes."""
    text = fields.pop(DATA_FIELDS[kind], None) if kind in DATA_FIELDS else None
    is_raw = fields.pop(_IS_RAW, False)
    if text is None:
        return None
    return base64.b64decode(text) if is_raw else str(text).encode("ascii")


def _to_base64(value: Any) -> tuple[str | None, bool]:
    """Return media as base64 text, and whether they were raw bytes. Blocks normally contain base64 already."""
    if isinstance(value, IOBase):
        position = value.tell()
        value.seek(0)
        content = value.read()
        value.seek(position)
        return base64.b64encode(content).decode(), False
    if not isinstance(value, bytes):
        return None, False
    try:
        return value.decode("ascii"), False
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), True


def _copy_file(path: str) -> str | None:
    try:
        if os.path.getsize(path) > MAX_COPIED_BYTES:
            return None
        with open_file(path) as file:
            return base64.b64encode(file.read()).decode()
    except OSError as error:
        logger.warning("%s cannot be read, so only its path is stored: %s", path, error)
        return None


def split_block(block: Any) -> tuple[MessagePart, Json | None]:
    """Convert a block to a message part and the extra data needed to restore the block (None if none is needed)."""
    if type(block) is TextBlock:
        return TextPart(text=block.text), None
    data = dump_block(block)
    match data["block_type"]:
        case "image":
            return _image_part(block, data)
        case "document":
            return _document_part(block, data)
        case "thinking":
            return _reasoning_part(data)
        case "tool_call":
            return tool_call_part(data.get("tool_call_id"), data.get("tool_name"), data.get("tool_kwargs")), data
        case kind:
            return DataPart(kind=kind, data=data, text=_block_text(data)), {_IN_PART: "data"}


def join_block(part: MessagePart, extra: Json | None) -> Any:
    """Restore the block that `split_block` converted."""
    if extra is None:
        return TextBlock.model_construct(block_type="text", text=part.text if isinstance(part, TextPart) else "")
    data = dict(extra)
    field_name = data.pop(_IN_PART, None)
    if isinstance(part, DataPart) and field_name == "data":
        return load_block(part.data)
    if field_name is not None:
        data[field_name] = part.text if isinstance(part, ReasoningPart) else getattr(part, "data", None)
    return load_block(data)


def tool_call_part(call_id: Any, name: Any, arguments: Any) -> ToolPart:
    """Convert a tool call to a part. Arguments that are not a JSON object are kept as the model wrote them."""
    call = ToolPart(tool_call_id=str(call_id or ""), tool_name=str(name or ""))
    if isinstance(arguments, dict):
        return call.model_copy(update={"input": arguments})
    if not isinstance(arguments, str) or not arguments.strip():
        return call
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        parsed = None
    return call.model_copy(update={"input": parsed} if isinstance(parsed, dict) else {"raw_input": arguments})


def _extract_media(data: Json, field: str) -> tuple[str | None, Json]:
    """Split media content from the other data, which records the field that the content belongs to."""
    for name in (field, _COPY):
        if data.get(name) is not None:
            rest = {key: value for key, value in data.items() if key != name}
            return data[name], {**rest, _IN_PART: name}
    return None, data


def _image_part(block: ImageBlock, data: Json) -> tuple[MessagePart, Json]:
    content, rest = _extract_media(data, "image")
    detail = block.detail if block.detail in _DETAILS else None
    if content is not None:
        return ImagePart(data=content, media_type=block.image_mimetype or "image/png", detail=detail), rest  # type: ignore[arg-type]  # detail is one of _DETAILS
    if data.get("url"):
        return ImagePart(url=data["url"], media_type=block.image_mimetype or "image/png", detail=detail), data  # type: ignore[arg-type]  # as above
    return DataPart(kind="image", data=data, text=_block_text(data)), {_IN_PART: "data"}


def _document_part(block: DocumentBlock, data: Json) -> tuple[MessagePart, Json]:
    content, rest = _extract_media(data, "data")
    if content is None:
        return DataPart(kind="document", data=data, text=_block_text(data)), {_IN_PART: "data"}
    media_type = block.document_mimetype or "application/octet-stream"
    return FilePart(name=block.title or "document", data=content, media_type=media_type), rest


def _reasoning_part(data: Json) -> tuple[MessagePart, Json]:
    text, rest = data.get("content"), {key: value for key, value in data.items() if key != "content"}
    if not isinstance(text, str):
        return ReasoningPart(text=""), data
    signature = (data.get("additional_information") or {}).get("signature")
    provider = {"type": "thinking", "thinking": text, "signature": signature} if isinstance(signature, str) else None
    return ReasoningPart(text=text, provider=provider), {**rest, _IN_PART: "content"}


def _block_text(data: Json) -> str:
    """Return the text that replaces a block for readers that do not support it."""
    kind = str(data.get("block_type"))
    if kind == "text":
        return str(data.get("text") or "")
    if kind == "cache":
        return ""
    if kind in NESTED_FIELDS:
        inner = data[NESTED_FIELDS[kind]]
        texts = [_block_text(each) for each in (inner if isinstance(inner, list) else [inner])]
        return "\n".join([str(data.get("title") or kind), *texts])
    location = data.get("url") or data.get("path") or data.get("title") or ""
    return f"[{kind} {location}]" if location else f"[{kind}]"
