"""Rules of the Messages API on content: empty messages, blank texts and images."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from tests.support.providers.anthropic_subject import SDK_TYPES, Subject
from tests.support.providers.strict_server import Json, RuleBook, blocks_of

BOOK = RuleBook()
rule = BOOK.rule

IMAGE_STARTS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


@rule("empty-message", "anthropics/claude-code#6774")
def _empty_message(subject: Subject) -> Iterator[str]:
    last = len(subject.messages) - 1
    for index, message in enumerate(subject.request.messages):
        if not message.get("content") and not (index == last and message.get("role") == "assistant"):
            yield (
                f"messages.{index}: all messages must have non-empty content except for the optional final assistant message"
            )


@rule("empty-text", "experientiallabs/experiential#799")
def _empty_text(subject: Subject) -> Iterator[str]:
    if any(block.get("type") == "text" and not block.get("text") for _, _, block in subject.blocks()):
        yield "messages: text content blocks must be non-empty"


@rule("blank-text", "nick1udwig/kibitz#78; anomalyco/opencode#31259")
def _blank_text(subject: Subject) -> Iterator[str]:
    if any(block.get("type") == "text" and block.get("text", "").isspace() for _, _, block in subject.blocks()):
        yield "messages: text content blocks must contain non-whitespace text"


@rule("trailing-space", "tailcallhq/forgecode#1872; litellm litellm_core_utils/prompt_templates/factory.py")
def _trailing_space(subject: Subject) -> Iterator[str]:
    if not subject.turns or subject.turns[-1][0] != "assistant" or not subject.turns[-1][1]:
        return
    text = subject.turns[-1][1][-1].get("text", "")
    if text != text.rstrip():
        yield "messages: final assistant content cannot end with trailing whitespace"


@rule("image-type", f"vybestack/llxprt-code#2130; {SDK_TYPES}")
def _image_type(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        inner = blocks_of(block.get("content")) if block.get("type") == "tool_result" else []
        for image in (each for each in [block, *inner] if each.get("type") == "image"):
            yield from _image_faults(place, image.get("source") or {})


def _image_faults(place: str, source: Json) -> Iterator[str]:
    if source.get("type") != "base64":
        return
    declared, start = source.get("media_type"), base64.b64decode(source.get("data", "")[:16])
    actual = next((kind for magic, kind in IMAGE_STARTS.items() if start.startswith(magic)), None)
    if declared not in IMAGE_STARTS.values():
        yield f"{place}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
    elif actual and actual != declared:
        yield (
            f"{place}.image.source.base64: The image was specified using the {declared} media type, "
            f"but the image appears to be a {actual} image"
        )
