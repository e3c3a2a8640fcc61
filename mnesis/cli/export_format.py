"""The lines of an export: JSON objects that restore exactly what was stored.

A line is `{"kind": …, "value": …}` in ASCII. JSON reads a high surrogate followed by a low one as one character, so a line
with such a pair is `{"kind": "encoded", "data": …}`: the base64 of its JSON in UTF-8, surrogates included.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnesis.models.message import Message

FORMAT = "mnesis-session"
FORMAT_VERSION = 1
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def message_dict(message: Message) -> dict[str, Any]:
    """Return the fields of a message that differ from their defaults. `parse_message` is the inverse."""
    fields = message.model_dump(exclude_defaults=True, exclude={"parts", "session_id"})
    parts = [{"type": part.type, **part.model_dump(exclude_defaults=True)} for part in message.parts]
    return {**fields, "parts": parts}


def parse_message(fields: dict[str, Any], session_id: str) -> Message:
    """Return the message with these fields. Raises ValueError if they are not a message."""
    from mnesis.models.message import Message

    return Message.model_validate({**fields, "session_id": session_id})


def write_line(value: dict[str, Any]) -> str:
    """Encode a value as one line, without a newline."""
    plain = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not _SURROGATE_PAIR.search(plain):
        return json.dumps(value, allow_nan=False)
    data = base64.b64encode(plain.encode("utf-8", "surrogatepass")).decode("ascii")
    return json.dumps({"kind": "encoded", "data": data})


def read_line(line: str) -> dict[str, Any]:
    """Decode the value of a line. Raises ValueError if it is not a line of an export."""
    value = json.loads(line)
    if isinstance(value, dict) and value.get("kind") == "encoded":
        try:
            value = json.loads(base64.b64decode(value["data"], validate=True).decode("utf-8", "surrogatepass"))
        except (KeyError, TypeError, binascii.Error, UnicodeDecodeError) as error:
            raise ValueError("the encoded line cannot be decoded") from error
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise ValueError("a line must be a JSON object with a kind")
    return value
