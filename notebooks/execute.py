"""Run the notebooks from the top and write their outputs back, free of what changes from run to run.

uv run python notebooks/execute.py                     # all of them
uv run python notebooks/execute.py 03                  # those whose names begin so
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
TIMEOUT_SECONDS = 120
# Ids end in random digits, and in what numbers come from a clock or a directory of the moment there is nothing to read.
_IDS = re.compile(r"\b(msg|sum|sess|run|call|grant)_[0-9a-zA-Z]{8,}\b")
_NOISE = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "uuid"),
    (re.compile(r"\b1[78]\d{11}\b"), "0"),
    (re.compile(r"(?<=ends at )[0-9a-f]{12}\b|(?<=\[)[0-9a-f]{12}(?=\])"), "0123456789ab"),
    (re.compile(r"/[^\s'\"<>]*/notebook-[^/\s'\"<>]+"), "…"),
    (re.compile(r"<(\w[\w.]*)( object)? at 0x[0-9a-f]+>"), r"<\1>"),
    (re.compile(r"\b\d+(?:\.\d+)? ms\b"), "… ms"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?\b"), "2026-01-01 12:00"),
)


def notebooks(beginning: str = "") -> list[Path]:
    """The notebooks, in order."""
    return sorted(path for path in FOLDER.glob("*.ipynb") if path.name.startswith(beginning))


def executed(path: Path, home: Path, kernel_name: str = "python3") -> Any:
    """The notebook with the outputs of a run with an empty home directory and without a key. Raises if a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    directory = home / f"notebook-{path.stem}"
    directory.mkdir()
    environment = {**os.environ, "HOME": str(home), "MNESIS_MOCK_LLM": "1", "IPYTHONDIR": str(home / "ipython")}
    environment.pop("MNESIS_DB", None)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_SECONDS,
        kernel_name=kernel_name,
        resources={"metadata": {"path": str(directory)}},
        coalesce_streams=True,  # how many pieces a kernel sends its output in is a matter of time
    )
    client.execute(env=environment)
    return without_noise(notebook)


def without_noise(notebook: Any) -> Any:
    """The notebook with stable ids in place of random ones, and nothing that tells when, where or how fast it ran."""
    names: dict[str, str] = {}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.get("metadata", {}).clear()
            _clean(output, names)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def _clean(output: Any, names: dict[str, str]) -> None:
    if "text" in output:
        output["text"] = _stable(output["text"], names)
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/") or kind == "image/svg+xml":
            output["data"][kind] = _stable(value, names)


def _stable(text: str, names: dict[str, str]) -> str:
    def renamed(match: re.Match[str]) -> str:
        return names.setdefault(
            match[0], f"{match[1]}_{sum(name.startswith(match[1]) for name in names.values()) + 1:04}"
        )

    text = _IDS.sub(renamed, text)
    for pattern, replacement in _NOISE:
        text = pattern.sub(replacement, text)
    return text


def texts(notebook: Any) -> Iterator[str]:
    """Everything a notebook printed or showed as text, in order; of a picture only that there is one."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text" in output:
                yield output["text"]
            for kind, value in sorted(output.get("data", {}).items()):
                yield kind if kind.startswith("image/") else f"{kind}: {value}"


def main() -> None:
    """Execute the notebooks named by the first argument, or all."""
    for path in notebooks(*sys.argv[1:2]):
        with tempfile.TemporaryDirectory() as home:
            nbformat.write(executed(path, Path(home)), path)
        print(path.name)


if __name__ == "__main__":
    main()
