"""Where the inputs of a map come from: iterables, and JSONL files of any size, read a batch at a time."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel

from mnesis.errors import ConfigurationError, MissingFileError, UnsuitableFileError

BATCH_ITEMS = 256
BATCH_CHARACTERS = 1_000_000
MAX_LINE_BYTES = 64 * 1024 * 1024
SUFFIXES = (".jsonl", ".ndjson")

Inputs = Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str]
"""The inputs of a map: JSON values, pydantic models or dataclasses, or the path of a JSONL file."""


class Source:
    """The inputs of one run as JSON texts, in batches and in order. `total` is their number where it is known before.

    A `Path`, or a text that ends in .jsonl or .ndjson, names a file with one JSON value per line; blank lines are left
    out. Raises `ConfigurationError` for inputs that cannot be a list of items, `MissingFileError` and
    `UnsuitableFileError` (no regular file) for files.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.path = _path(inputs)
        self._inputs = inputs
        self.total = len(inputs) if self.path is None and isinstance(inputs, Sized) else None
        if self.path is not None:
            _opened(self.path).close()
        elif isinstance(inputs, bytes | Mapping) or not isinstance(inputs, Iterable | AsyncIterable):
            raise ConfigurationError(
                f"inputs are a list or another iterable of items, or the path of a JSONL file, not {type(inputs).__name__}"
            )

    async def batches(self) -> AsyncGenerator[list[str], None]:
        """The inputs, a batch at a time. An async iterable that pauses ends a batch early."""
        if isinstance(self._inputs, AsyncIterable):
            async for batch in _gathered(aiter(self._inputs)):
                yield batch
            return
        texts = _lines(self.path) if self.path is not None else _encoded(self._inputs)  # type: ignore[arg-type]  # iterable
        while batch := _batch(texts):
            yield batch
            await asyncio.sleep(0)


def json_text(value: Any) -> str:
    """A value as JSON text, in ASCII so that every text can be stored. Raises TypeError or ValueError."""
    return json.dumps(value, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _path(inputs: object) -> Path | None:
    if isinstance(inputs, os.PathLike):
        return Path(inputs).expanduser()
    if not isinstance(inputs, str):
        return None
    if inputs.endswith(SUFFIXES):
        return Path(inputs).expanduser()
    raise ConfigurationError(
        f"inputs={inputs[:100]!r} is one text; give a list of items, or the path of a JSONL file ending in .jsonl"
    )


def _opened(path: Path) -> BinaryIO:
    """The file, if it is a regular one; a FIFO or a device would never end."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {str(path)!r} to read inputs from", path=path) from error
    except (OSError, ValueError) as error:
        raise UnsuitableFileError(f"{str(path)!r} cannot be read: {error}", path=path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnsuitableFileError(f"{str(path)!r} is no regular file; inputs are read from a JSONL file", path=path)
    return os.fdopen(handle, "rb")


def _lines(path: Path) -> Iterator[str]:
    with _opened(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise UnsuitableFileError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes", path=path)
            if line.strip():
                yield _line_text(line, number, path)


def _line_text(line: bytes, number: int, path: Path) -> str:
    try:
        return json_text(json.loads(line.removeprefix(b"\xef\xbb\xbf").decode()))
    except (ValueError, RecursionError) as error:
        raise UnsuitableFileError(f"{path}, line {number}: no JSON value ({error!s:.200})", path=path) from error


def _encoded(inputs: Iterable[Any]) -> Iterator[str]:
    for index, value in enumerate(inputs):
        yield _input_text(value, index)


def _input_text(value: Any, index: int) -> str:
    try:
        return json_text(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"input {index} is no JSON value: {error!s:.200}; give texts, numbers, lists, dicts, pydantic models or dataclasses"
        ) from error


def _batch(texts: Iterator[str]) -> list[str]:
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == BATCH_ITEMS or characters > BATCH_CHARACTERS:
            break
    return batch


async def _gathered(values: AsyncIterator[Any]) -> AsyncGenerator[list[str], None]:
    batch: list[str] = []
    index, coming = 0, None
    try:
        while True:
            coming = asyncio.ensure_future(anext(values, _END))
            done, _ = await asyncio.wait({coming}, timeout=0 if batch else None)
            if batch and (not done or len(batch) == BATCH_ITEMS):
                yield batch
                batch = []
            value = await coming
            if value is _END:
                break
            batch.append(_input_text(value, index))
            index += 1
        if batch:
            yield batch
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming


_END = object()
