"""LlamaIndex content blocks as JSON and as parts of the log, and back, exactly. Pure but for reading files given by path.

Media are kept as base64. A file given by path is copied when the message is stored, so that a session stays readable
when the file is gone; as long as it is there, the block comes back with its path.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
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

logger = logging.getLogger(__name__)

Json = dict[str, Any]
MAX_COPIED_BYTES = 8 * 1024 * 1024
"""Files given by path are copied into the log up to this size; of larger ones only the path is kept."""

DATA_FIELDS = {"image": "image", "audio": "audio", "video": "video", "document": "data"}
NESTED_FIELDS = {"citable": "content", "citation": "cited_content"}
_COPY = "copy"
_IS_PATH = "is_path"
_IS_RAW = "is_raw"
_IN_PART = "in_part"
OWN_KEYS = (_COPY, _IS_PATH, _IS_RAW)
"""What `dump_block` adds to the fields of a block."""

_DETAILS = ("auto", "low", "high")


def _block_classes() -> dict[str, type[BaseModel]]:
    union = get_args(get_args(ChatMessage.model_fields["blocks"].annotation)[0])[0]
    return {str(kind.model_fields["block_type"].default): kind for kind in get_args(union)}


BLOCKS = _block_classes()
"""The block classes of the installed llama-index-core by their `block_type`."""

TOOL_CALL_BLOCK: Any = getattr(types, "ToolCallBlock", None)
"""The class of tool call blocks; None before llama-index-core had one."""


def jsonable(value: Any, where: str) -> Any:
    """A value as JSON holds it. What JSON cannot hold is kept as a text that says so. Raises `InvalidMessageError` for what
    has no end."""
    try:
        return to_jsonable_python(value, fallback=_described, bytes_mode="base64", inf_nan_mode="null")
    except (ValueError, RecursionError) as error:
        raise InvalidMessageError(f"{where} cannot be stored: {error}") from error


def _described(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a stranger's __repr__ may fail with anything; the message must be kept all the same
        text = type(value).__qualname__
    return f"[not serialisable: {text[:500]}]"


def dump_block(block: Any) -> Json:
    """A block as JSON."""
    kind = str(block.block_type)
    field, nested = DATA_FIELDS.get(kind), NESTED_FIELDS.get(kind)
    left_out = {name for name in (field, nested) if name is not None}
    data: Json = jsonable(block.model_dump(exclude=left_out), f"a block of type {kind!r}")
    if field is not None:
        content, is_raw = _base64(getattr(block, field))
        if content is not None:
            data |= {field: content, **({_IS_RAW: True} if is_raw else {})}
        elif data.get("path"):
            copied = _copied(data["path"])
            data |= {_COPY: copied} if copied is not None else {}
    if isinstance(getattr(block, "path", None), Path):
        data[_IS_PATH] = True
    if nested is not None:
        inner = getattr(block, nested)
        data[nested] = [dump_block(each) for each in inner] if isinstance(inner, list) else dump_block(inner)
    return data


def load_block(data: Json) -> Any:
    """The block back, a new object. Never raises for what `dump_block` gave: a file that is gone is replaced by its copy."""
    # A copy: nothing that is handed out may reach into what is stored.
    fields = copy.deepcopy(data)
    kind = str(fields.get("block_type"))
    made = BLOCKS.get(kind)
    if made is None:
        return TextBlock(text=f"[a block of type {kind!r}, which this version of llama-index-core does not know]")
    _restore_path(fields)
    nested = NESTED_FIELDS.get(kind)
    if nested is not None:
        inner = fields[nested]
        fields[nested] = [load_block(each) for each in inner] if isinstance(inner, list) else load_block(inner)
    content = _media_bytes(fields, kind)
    try:
        block = made.model_validate(fields)
    except ValidationError:
        # A path whose file is gone and was too large to copy; the rest of the session must stay readable.
        block = made.model_construct(**fields)
    # Validation may encode media once more: they are put back as they were.
    return block if content is None else block.model_copy(update={DATA_FIELDS[kind]: content})


def _restore_path(fields: Json) -> None:
    """Whether a path stays, and as what: a document's may be a string as well, and then stays one."""
    is_path, copied = fields.pop(_IS_PATH, False), fields.pop(_COPY, None)
    path = fields.get("path")
    if path and copied is not None and not os.path.isfile(path):
        fields |= {"path": None, DATA_FIELDS[fields["block_type"]]: copied}
    elif path and is_path:
        fields["path"] = Path(path)


def _media_bytes(fields: Json, kind: str) -> bytes | None:
    """Media content, taken out of the fields: base64 as blocks keep it, or the raw bytes somebody assigned."""
    text = fields.pop(DATA_FIELDS[kind], None) if kind in DATA_FIELDS else None
    is_raw = fields.pop(_IS_RAW, False)
    if text is None:
        return None
    return base64.b64decode(text) if is_raw else str(text).encode("ascii")


def _base64(value: Any) -> tuple[str | None, bool]:
    """Media as base64 text, and whether they were raw bytes. Blocks hold base64 already, unless somebody assigned others."""
    if isinstance(value, IOBase):
        place = value.tell()
        value.seek(0)
        content = value.read()
        value.seek(place)
        return base64.b64encode(content).decode(), False
    if not isinstance(value, bytes):
        return None, False
    try:
        return value.decode("ascii"), False
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), True


def _copied(path: str) -> str | None:
    try:
        if os.path.getsize(path) > MAX_COPIED_BYTES:
            return None
        return base64.b64encode(Path(path).read_bytes()).decode()
    except OSError as error:
        logger.warning("%s cannot be read now, only its path is stored: %s", path, error)
        return None


def split(block: Any) -> tuple[MessagePart, Json | None]:
    """A block as a part of the log, and what has to be stored beside that part to get the block back (None: nothing)."""
    if type(block) is TextBlock:
        return TextPart(text=block.text), None
    data = dump_block(block)
    match data["block_type"]:
        case "image":
            return _image(block, data)
        case "document":
            return _document(block, data)
        case "thinking":
            return _thinking(data)
        case "tool_call":
            return call_part(data.get("tool_call_id"), data.get("tool_name"), data.get("tool_kwargs")), data
        case kind:
            return DataPart(kind=kind, data=data, text=_readable(data)), {_IN_PART: "data"}


def join(part: MessagePart, beside: Json | None) -> Any:
    """The inverse of `split`."""
    if beside is None:
        return TextBlock.model_construct(block_type="text", text=part.text if isinstance(part, TextPart) else "")
    data = dict(beside)
    where = data.pop(_IN_PART, None)
    if isinstance(part, DataPart) and where == "data":
        return load_block(part.data)
    if where is not None:
        data[where] = part.text if isinstance(part, ReasoningPart) else getattr(part, "data", None)
    return load_block(data)


def call_part(call_id: Any, name: Any, arguments: Any) -> ToolPart:
    """A tool call as a part; arguments that are no JSON object are kept as the model wrote them."""
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


def _moved(data: Json, field: str) -> tuple[str | None, Json]:
    """Media content and the rest, which says where the content goes back."""
    for name in (field, _COPY):
        if data.get(name) is not None:
            rest = {key: value for key, value in data.items() if key != name}
            return data[name], {**rest, _IN_PART: name}
    return None, data


def _image(block: ImageBlock, data: Json) -> tuple[MessagePart, Json]:
    content, rest = _moved(data, "image")
    detail = block.detail if block.detail in _DETAILS else None
    if content is not None:
        return ImagePart(data=content, media_type=block.image_mimetype or "image/png", detail=detail), rest  # type: ignore[arg-type]  # detail is one of _DETAILS
    if data.get("url"):
        return ImagePart(url=data["url"], media_type=block.image_mimetype or "image/png", detail=detail), data  # type: ignore[arg-type]  # as above
    return DataPart(kind="image", data=data, text=_readable(data)), {_IN_PART: "data"}


def _document(block: DocumentBlock, data: Json) -> tuple[MessagePart, Json]:
    content, rest = _moved(data, "data")
    if content is None:
        return DataPart(kind="document", data=data, text=_readable(data)), {_IN_PART: "data"}
    media_type = block.document_mimetype or "application/octet-stream"
    return FilePart(name=block.title or "document", data=content, media_type=media_type), rest


def _thinking(data: Json) -> tuple[MessagePart, Json]:
    text, rest = data.get("content"), {key: value for key, value in data.items() if key != "content"}
    if not isinstance(text, str):
        return ReasoningPart(text=""), data
    signature = (data.get("additional_information") or {}).get("signature")
    provider = {"type": "thinking", "thinking": text, "signature": signature} if isinstance(signature, str) else None
    return ReasoningPart(text=text, provider=provider), {**rest, _IN_PART: "content"}


def _readable(data: Json) -> str:
    """How a block reads where it cannot be sent as itself."""
    kind = str(data.get("block_type"))
    if kind == "text":
        return str(data.get("text") or "")
    if kind == "cache":
        return ""
    if kind in NESTED_FIELDS:
        inner = data[NESTED_FIELDS[kind]]
        texts = [_readable(each) for each in (inner if isinstance(inner, list) else [inner])]
        return "\n".join([str(data.get("title") or kind), *texts])
    place = data.get("url") or data.get("path") or data.get("title") or ""
    return f"[{kind} {place}]" if place else f"[{kind}]"
