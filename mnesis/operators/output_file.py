"""Results as a JSONL file: a line per item, there whole or not at all, private to its user."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from pathlib import Path

from mnesis.errors import ConfigurationError
from mnesis.operators.inputs import json_text
from mnesis.operators.item_queue import Finished
from mnesis.operators.worker_ids import is_dead, new_worker, retire


class ResultsFile:
    """Lines are gathered in a hidden file beside `path`; `commit` puts it in the place of `path` when the run is complete.

    An earlier file of that name is replaced then. Raises `ConfigurationError` for a place where no file can be.
    """

    def __init__(self, path: str | os.PathLike[str], inputs: Path | None) -> None:
        self._path = Path(path).expanduser()
        try:
            wrong = _unfit(self._path, inputs)
        except (OSError, ValueError) as error:
            wrong = f"cannot be written: {error}"
        if wrong:
            raise ConfigurationError(f"output_path={str(path)!r} {wrong}")
        self._worker = new_worker()
        self._part = self._path.with_name(f".{self._path.name}.{self._worker}.part")
        self._file: int | None = None
        self._buffer = bytearray()

    def begin(self) -> None:
        """Open the hidden file. Raises `ConfigurationError` where none can be written."""
        self._remove_left_behind()
        try:
            self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"output_path={str(self._path)!r} cannot be written: {error}") from error

    def write(self, finished: Finished) -> None:
        """Add the line of an item."""
        outcome = finished.outcome
        line = {
            "index": finished.index,
            "input": finished.input,
            "success": outcome.success,
            **outcome.record,
            "attempts": outcome.attempts,
            "usage": outcome.usage.model_dump(),
            "cost": outcome.cost,
        }
        self._buffer += json_text(line).encode() + b"\n"
        if len(self._buffer) > 100_000:
            self._flush()

    def commit(self) -> None:
        """Everything is written: show the file under its name."""
        file = self._flush()
        os.fsync(file)
        os.close(file)
        self._file = None
        os.replace(self._part, self._path)

    def discard(self) -> None:
        """Leave nothing behind that was not committed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        with suppress(OSError, ValueError):  # most often it was never there, or has its final name
            self._part.unlink()
        retire(self._worker)

    def _flush(self) -> int:
        if self._file is None:
            raise ValueError("begin() was not called")
        view = memoryview(bytes(self._buffer))
        while view:
            view = view[os.write(self._file, view) :]
        self._buffer.clear()
        return self._file

    def _remove_left_behind(self) -> None:
        """Hidden files of workers that were killed."""
        start = f".{self._path.name}."
        for path in self._path.parent.glob(f"{glob.escape(start)}*.part"):
            if is_dead(path.name.removeprefix(start).removesuffix(".part")):
                path.unlink(missing_ok=True)


def _unfit(path: Path, inputs: Path | None) -> str:
    """What speaks against this place for a file, "" if nothing does."""
    if path.is_dir() or not path.parent.is_dir():
        return "is a directory, or lies in none; name a file in one"
    if path.exists() and not path.is_file():
        return "is no regular file"
    if inputs is not None and inputs.resolve() == path.resolve():
        return "is the file that the inputs come from"
    return ""
