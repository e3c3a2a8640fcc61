"""Arriving from `SimpleChatStore` files, and leaving to them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory.types import DEFAULT_CHAT_STORE_KEY
from llama_index.memory.mnesis.blocks import OWN_KEYS, dump_block, jsonable, load_block

from mnesis.errors import InvalidMessageError


def read_simple_chat_store(path: str | os.PathLike[str], key: str = DEFAULT_CHAT_STORE_KEY) -> list[ChatMessage]:
    """The messages that a persisted `SimpleChatStore` has under `key`; give them to `put_messages()` or `set()`.

    Raises `InvalidMessageError` if the file is no such store or has no such key.
    """
    try:
        stored = json.loads(Path(path).read_text("utf-8"))["store"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidMessageError(f"{os.fspath(path)} is no persisted SimpleChatStore") from error
    if key not in stored:
        raise InvalidMessageError(f"{os.fspath(path)} has no key {key!r}; it has {', '.join(map(repr, stored))}")
    return [_read(data) for data in stored[key]]


def write_simple_chat_store(
    path: str | os.PathLike[str], messages: list[ChatMessage], key: str = DEFAULT_CHAT_STORE_KEY
) -> None:
    """Write messages (`memory.get_all()`, `memory.history()`) to a file that `SimpleChatStore.from_persist_path()` reads."""
    data = {"store": {key: [_written(message) for message in messages]}, "class_name": "SimpleChatStore"}
    Path(path).write_text(json.dumps(data), "utf-8")


def _read(data: dict[str, Any]) -> ChatMessage:
    blocks = data.get("blocks")
    if blocks is None:  # written before messages had blocks
        return ChatMessage.model_validate(data)
    rest = {name: value for name, value in data.items() if name != "blocks"}
    message = ChatMessage.model_validate(rest)
    message.blocks = [load_block(block) for block in blocks]
    return message


def _written(message: ChatMessage) -> dict[str, Any]:
    # A copy of a file given by path is the log's own; other readers know only blocks' fields.
    blocks = [
        {name: value for name, value in dump_block(block).items() if name not in OWN_KEYS} for block in message.blocks
    ]
    kwargs = jsonable(message.additional_kwargs, "additional_kwargs")
    return {"role": message.role.value, "additional_kwargs": kwargs, "blocks": blocks}
