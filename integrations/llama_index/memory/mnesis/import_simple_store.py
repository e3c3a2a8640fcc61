"""Import from and export to `SimpleChatStore` files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory.types import DEFAULT_CHAT_STORE_KEY
from llama_index.memory.mnesis.blocks import ADDED_KEYS, dump_block, load_block, to_json_value

from mnesis.errors import InvalidMessageError
from mnesis.system.open_files import open_file, refuse_output_path


def read_simple_chat_store(path: str | os.PathLike[str], key: str = DEFAULT_CHAT_STORE_KEY) -> list[ChatMessage]:
    """Read the messages under `key` from a persisted `SimpleChatStore`. Pass them to `put_messages()` or `set()`.

    Raises `InvalidMessageError` if the file is not a `SimpleChatStore` or does not have the key.
    """
    try:
        with open_file(path) as file:
            stored = json.load(file)["store"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidMessageError(
            f"{os.fspath(path)!r} is not a persisted SimpleChatStore; pass the path of a file that persist() wrote"
        ) from error
    if key not in stored:
        raise InvalidMessageError(
            f"{os.fspath(path)!r} does not have the key {key!r}; pass one of {', '.join(map(repr, stored))}"
        )
    return [_load_message(data) for data in stored[key]]


def read_buffer_dump(data: Mapping[str, Any]) -> tuple[list[ChatMessage], int | None]:
    """Return the messages and the token limit of a dump that `ChatMemoryBuffer.to_dict()` or `to_string()` made.

    Raises `InvalidMessageError` if the dump has another form.
    """
    try:
        store, key = data["chat_store"], data.get("chat_store_key") or DEFAULT_CHAT_STORE_KEY
        stored = json.loads(store) if isinstance(store, str) else store
        limit = data.get("token_limit")
        return [_load_message(item) for item in stored["store"].get(key, [])], limit if isinstance(limit, int) else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidMessageError(
            f"the dump of {data.get('class_name', 'a memory')} has no readable chat_store ({error!r}); pass the result of"
            " ChatMemoryBuffer.to_dict() or to_string()"
        ) from error


def write_simple_chat_store(
    path: str | os.PathLike[str], messages: list[ChatMessage], key: str = DEFAULT_CHAT_STORE_KEY
) -> None:
    """Write messages to a file for `SimpleChatStore.from_persist_path()`.

    `messages` are usually those of `memory.get_all()` or `memory.history()`.
    """
    data = {"store": {key: [_dump_message(message) for message in messages]}, "class_name": "SimpleChatStore"}
    refuse_output_path(path)
    Path(path).write_text(json.dumps(data), "utf-8")


def _load_message(data: dict[str, Any]) -> ChatMessage:
    blocks = data.get("blocks")
    if blocks is None:  # the file was written before messages had blocks
        return ChatMessage.model_validate(data)
    rest = {name: value for name, value in data.items() if name != "blocks"}
    message = ChatMessage.model_validate(rest)
    message.blocks = [load_block(block) for block in blocks]
    return message


def _dump_message(message: ChatMessage) -> dict[str, Any]:
    # File copies and flags belong to the log; other readers only know the fields of blocks.
    blocks = [
        {name: value for name, value in dump_block(block).items() if name not in ADDED_KEYS} for block in message.blocks
    ]
    kwargs = to_json_value(message.additional_kwargs, "additional_kwargs")
    return {"role": message.role.value, "additional_kwargs": kwargs, "blocks": blocks}
