"""What a page of the documentation holds: its fenced blocks, in order."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)(?P=mark) *$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, its first line in the page, and the output shown right below it."""

    language: str
    text: str
    line: int
    output: str | None = None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page. A `text` block with nothing but space between it and a `python` block is its output."""
    text = page.read_text("utf-8")
    found: list[Block] = []
    end = -1
    for match in _FENCE.finditer(text):
        language = (match["info"].split() or [""])[0]
        body = textwrap.dedent(match["body"])
        follows = found and found[-1].language == "python" and not text[end : match.start()].strip()
        if language == "text" and follows:
            shown = found[-1]
            found[-1] = Block(shown.language, shown.text, shown.line, output=body)
        else:
            found.append(Block(language, body, text.count("\n", 0, match.start("body")) + 1))
        end = match.end()
    return found


def python_blocks(page: Path) -> list[Block]:
    """The blocks that are run."""
    return [block for block in blocks(page) if block.language == "python"]
