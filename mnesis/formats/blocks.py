"""Content blocks of chat-completions and Anthropic as parts. Pure functions, no I/O.

A block that is not valid raises KeyError, TypeError, AttributeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnesis.models.message import FilePart, ImagePart, TextPart


def parse_text(item: Mapping[str, Any]) -> TextPart:
    """Parse a text block. Further keys (citations, cache marks) are kept in `provider`."""
    known = {"type", "text", "provider"}
    extra_keys = {name: value for name, value in item.items() if name not in known and value is not None}
    return TextPart(text=item["text"], provider=item.get("provider") or extra_keys or None)


def parse_image_url(image: Any) -> ImagePart:
    """Parse the image of a chat-completions block: a URL, or a dict with `url`."""
    spec: dict[str, Any] = {"url": image} if isinstance(image, str) else dict(image)
    url = spec["url"]
    if not isinstance(url, str) or not url:
        raise KeyError("url")
    media_type = url[5:].partition(";")[0] if url.startswith("data:image/") else "image/png"
    return ImagePart(url=url, detail=spec.get("detail"), media_type=media_type)


def parse_image_source(source: Mapping[str, Any]) -> ImagePart:
    """Parse the source of an Anthropic image block."""
    if source.get("type") == "url":
        return ImagePart(url=source["url"])
    return ImagePart(data=source["data"], media_type=source.get("media_type", "image/png"))


def parse_document(item: Mapping[str, Any]) -> FilePart:
    """Parse an Anthropic document block."""
    source, name = item["source"], item.get("title") or "document"
    if source.get("type") == "text":
        return FilePart(name=name, text=source["data"])
    return FilePart(name=name, data=source["data"], media_type=source.get("media_type") or "application/pdf")


def parse_file(file: Mapping[str, Any]) -> FilePart:
    """Parse the file of a chat-completions block."""
    head, _, data = str(file["file_data"]).partition(",")
    media_type = head.removeprefix("data:").partition(";")[0] or "application/octet-stream"
    return FilePart(name=file.get("filename", "file"), data=data or head, media_type=media_type)
