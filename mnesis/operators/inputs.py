"""The inputs of a map: iterables, and JSONL files of any size, read in batches."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel

from mnesis.errors import ConfigurationError, MissingFileError, UnsuitableFileError
from mnesis.system.open_files import open_file

MAX_BATCH_ITEMS = 256
MAX_BATCH_CHARS = 1_000_000
MAX_LINE_BYTES = 64 * 1024 * 1024
JSONL_SUFFIXES = (".jsonl", ".ndjson")

Inputs = Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str]
"""The inputs of a map: JSON values, pydantic models or dataclasses, or the path of a JSONL file."""


class InputSource:
    """The inputs of one run as JSON texts, in order.

    `total` is their number, or None if it is not known in advance. A `Path`, or a string that ends in .jsonl or
    .ndjson, is a file with one JSON value per line. Blank lines are skipped. Raises, when created,
    `ConfigurationError` for inputs of another type, `MissingFileError`, and `UnsuitableFileError` if the path is not
    a regular file.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.path = _input_path(inputs)
        self._inputs = inputs
        self.total = len(inputs) if self.path is None and isinstance(inputs, Sized) else None
        if self.path is not None:
            with _open_regular_file(self.path):
                pass
        elif isinstance(inputs, bytes | Mapping) or not isinstance(inputs, Iterable | AsyncIterable):
            raise ConfigurationError(
                "inputs must be a list or another iterable of items, or the path of a JSONL file, not"
                f" {type(inputs).__name__}"
            )

    async def batches(self) -> AsyncGenerator[list[str], None]:
        """Yield the inputs in batches. When an async iterable pauses, the batch so far is yielded.

        Raises `ConfigurationError` for an input that is not JSON, and `UnsuitableFileError` for such a line.
        """
        if isinstance(self._inputs, AsyncIterable):
            async for batch in _batch_async(aiter(self._inputs)):
                yield batch
            return
        texts = _read_lines(self.path) if self.path is not None else _encode_inputs(self._inputs)  # type: ignore[arg-type]  # iterable
        while batch := _take_batch(texts):
            yield batch
            await asyncio.sleep(0)


def to_json(value: Any) -> str:
    """Encode a value as JSON in ASCII, so that every string can be stored.

    Raises `TypeError` or `ValueError`.
    """
    return json.dumps(value, allow_nan=False, default=_json_default)


def _json_default(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _input_path(inputs: object) -> Path | None:
    if isinstance(inputs, os.PathLike):
        return Path(inputs).expanduser()
    if not isinstance(inputs, str):
        return None
    if inputs.endswith(JSONL_SUFFIXES):
        return Path(inputs).expanduser()
    raise ConfigurationError(
        f"inputs={inputs[:100]!r} is a single string; pass a list of items, or the path of a JSONL file ending in .jsonl"
    )


@contextmanager
def _open_regular_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file if it is a regular one. Reading a FIFO or a device could block or never end."""
    with ExitStack() as opened:
        try:
            file = opened.enter_context(open_file(path))
        except UnsuitableFileError:
            raise
        except FileNotFoundError as error:
            raise MissingFileError(f"the file {str(path)!r} with the inputs does not exist", path=path) from error
        except (OSError, ValueError) as error:
            raise UnsuitableFileError(f"{str(path)!r} cannot be read: {error}", path=path) from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnsuitableFileError(f"{str(path)!r} is not a regular file; pass the path of a JSONL file", path=path)
        yield file


def _read_lines(path: Path) -> Iterator[str]:
    with _open_regular_file(path) as file:
        line_number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            line_number += 1
            if len(line) > MAX_LINE_BYTES:
                raise UnsuitableFileError(f"{path}, line {line_number}: longer than {MAX_LINE_BYTES} bytes", path=path)
            if line.strip():
                yield _parse_line(line, line_number, path)


def _parse_line(line: bytes, line_number: int, path: Path) -> str:
    try:
        return to_json(json.loads(line.removeprefix(b"\xef\xbb\xbf").decode()))
    except (ValueError, RecursionError) as error:
        raise UnsuitableFileError(
            f"{path}, line {line_number}: not a JSON value ({error!s:.200})", path=path
        ) from error


def _encode_inputs(inputs: Iterable[Any]) -> Iterator[str]:
    for index, value in enumerate(inputs):
        yield _encode_input(value, index)


def _encode_input(value: Any, index: int) -> str:
    try:
        return to_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"input {index} is not a JSON value: {error!s:.200}; pass strings, numbers, lists, dicts, pydantic models or"
            " dataclasses"
        ) from error


def _take_batch(texts: Iterator[str]) -> list[str]:
    batch, chars = [], 0
    for text in texts:
        batch.append(text)
        chars += len(text)
        if len(batch) == MAX_BATCH_ITEMS or chars > MAX_BATCH_CHARS:
            break
    return batch


async def _batch_async(values: AsyncIterator[Any]) -> AsyncGenerator[list[str], None]:
    batch: list[str] = []
    index, next_value = 0, None
    try:
        while True:
            next_value = asyncio.ensure_future(anext(values, _END))
            done, _ = await asyncio.wait({next_value}, timeout=0 if batch else None)
            if batch and (not done or len(batch) == MAX_BATCH_ITEMS):
                yield batch
                batch = []
            value = await next_value
            if value is _END:
                break
            batch.append(_encode_input(value, index))
            index += 1
        if batch:
            yield batch
    finally:
        if next_value is not None and not next_value.done():
            next_value.cancel()
            with suppress(asyncio.CancelledError):
                await next_value


_END = object()
