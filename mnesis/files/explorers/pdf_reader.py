"""Pages, title and the beginning of the text of a PDF, by pypdf. Run in `sandbox_child`."""

from __future__ import annotations

import logging
from typing import BinaryIO

MAX_PAGES = 10


def answer(file: BinaryIO, max_chars: str) -> dict[str, object]:
    """Return the number of pages, the title and the beginning of the text."""
    import pypdf

    logging.disable(logging.CRITICAL)
    reader = pypdf.PdfReader(file)
    about: dict[str, object] = dict(reader.metadata or {})
    named = {
        name: str(about.get(key))[:300] for name, key in (("Title", "/Title"), ("Author", "/Author")) if about.get(key)
    }
    texts, broken = _page_texts(reader, int(max_chars))
    text = "\n".join(texts)[: int(max_chars)]
    return {"pages": len(reader.pages), "about": named, "text": text, "read": len(texts), "broken": broken}


def _page_texts(reader: object, max_chars: int) -> tuple[list[str], str]:
    """Return the texts of the first pages, and the error if one of them failed."""
    texts: list[str] = []
    for number, page in enumerate(reader.pages):  # type: ignore[attr-defined] # pypdf is imported in `answer` only
        if number >= MAX_PAGES or sum(map(len, texts)) > max_chars:
            break
        # A broken page must not discard the text of earlier pages.
        try:
            texts.append(page.extract_text()[:max_chars])
        except Exception as failure:
            return texts, f"page {number + 1}: {type(failure).__name__}: {failure}"[:300]
    return texts, ""
