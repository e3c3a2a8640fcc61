"""Content explored as a file of any name, for the tests of explorers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mnesis.files.explorers import Exploration, explore


def explored(name: str, content: bytes | str, **limits: float) -> Exploration:
    """As the storage would have it: a file whose own name tells nothing."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "0123abcd")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return explore(path, name, **limits)  # type: ignore[arg-type]


def text_of(name: str, content: bytes | str) -> str:
    return explored(name, content).text
