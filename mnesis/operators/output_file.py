"""Results as a JSONL file: one line per item, complete or absent, private to its owner."""

from __future__ import annotations

import glob
import os
from contextlib import suppress
from pathlib import Path

from mnesis.errors import ConfigurationError
from mnesis.operators.inputs import to_json
from mnesis.operators.item_queue import FinishedItem
from mnesis.system.open_files import refuse_output_path
from mnesis.system.worker_ids import is_dead, register_worker, unregister_worker

MAX_BUFFER_BYTES = 100_000


class OutputFile:
    """A file that appears under its name when the run is complete.

    Until then its lines are in a hidden file next to it. An earlier file of the same name is replaced at that moment.
    Raises `ConfigurationError` when created for a path that cannot be a file.
    """

    def __init__(self, path: str | os.PathLike[str], inputs: Path | None) -> None:
        self._path = Path(path).expanduser()
        refuse_output_path(self._path)
        try:
            problem = _path_problem(self._path, inputs)
        except (OSError, ValueError) as error:
            problem = f"cannot be written: {error}"
        if problem is not None:
            raise ConfigurationError(f"output_path={str(path)!r} {problem}")
        self._worker = register_worker()
        self._hidden_path = self._path.with_name(f".{self._path.name}.{self._worker}.part")
        self._file: int | None = None
        self._buffer = bytearray()

    def open(self) -> None:
        """Create the hidden file. Raises `ConfigurationError` if it cannot be written."""
        self._remove_stale_files()
        try:
            self._file = os.open(self._hidden_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"output_path={str(self._path)!r} cannot be written: {error}") from error

    def write(self, result: FinishedItem) -> None:
        """Add the line of an item."""
        outcome = result.outcome
        line = {
            "index": result.index,
            "input": result.input,
            "success": outcome.success,
            **outcome.record,
            "attempts": outcome.attempts,
            "usage": outcome.usage.model_dump(),
            "cost": outcome.cost,
        }
        self._buffer += to_json(line).encode() + b"\n"
        if len(self._buffer) > MAX_BUFFER_BYTES:
            self._flush()

    def commit(self) -> None:
        """Write everything to disk and rename the file to its final name.

        Call it once, when all lines are written.
        """
        file = self._flush()
        os.fsync(file)
        os.close(file)
        self._file = None
        os.replace(self._hidden_path, self._path)

    def discard(self) -> None:
        """Remove the hidden file. Does nothing if the file was committed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        with suppress(OSError, ValueError):  # usually the file does not exist or already has its final name
            self._hidden_path.unlink()
        unregister_worker(self._worker)

    def _flush(self) -> int:
        if self._file is None:
            raise ValueError("open() was not called")
        view = memoryview(bytes(self._buffer))
        while view:
            view = view[os.write(self._file, view) :]
        self._buffer.clear()
        return self._file

    def _remove_stale_files(self) -> None:
        """Remove the hidden files of workers that were killed."""
        prefix = f".{self._path.name}."
        for path in self._path.parent.glob(f"{glob.escape(prefix)}*.part"):
            if is_dead(path.name.removeprefix(prefix).removesuffix(".part")):
                path.unlink(missing_ok=True)


def _path_problem(path: Path, inputs: Path | None) -> str | None:
    """Return why no output file can be at this path, or None if one can."""
    if path.is_dir() or not path.parent.is_dir():
        return "is a directory, or its directory does not exist; pass a file in an existing directory"
    if path.exists() and not path.is_file():
        return "is not a regular file"
    if inputs is not None and inputs.resolve() == path.resolve():
        return "is the file that the inputs come from"
    return None
