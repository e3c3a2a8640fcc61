"""A session's log for reading elsewhere: Markdown, one self-contained HTML file, chat-completions messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from mnesis.cli.output import clean, when
from mnesis.llm.redact import redact

if TYPE_CHECKING:
    from mnesis.models.message import Message, MessagePart
    from mnesis.models.session import SessionRecord

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0}article{border-left:.2rem solid;padding-left:1rem;"
    "margin:1.5rem 0}details,h2{font-size:.9rem;opacity:.8}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def redacted(value: Any) -> Any:
    """`value` with every text in it, at any depth, free of what looks like a key, token or password."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    return [redacted(item) for item in value] if isinstance(value, list | tuple) else value


def blocks(message: Message) -> Iterator[tuple[str, str]]:
    """What a message holds: a label ("" for what was said) and a text each."""
    for part in message.parts:
        yield from _block(part)


def _block(part: MessagePart) -> Iterator[tuple[str, str]]:
    match part.type:
        case "text":
            yield "", part.text
        case "reasoning":
            yield "thinking", part.text
        case "tool":
            yield f"call of {part.tool_name}", part.raw_input or json.dumps(part.input, ensure_ascii=False)
            if part.has_result:
                yield f"result of {part.tool_name}", part.result().output
        case "tool_result":
            yield f"result of {part.tool_name}", part.output
        case "file":
            yield f"file {part.name}", part.text if part.text is not None else f"({part.media_type}, not text)"
        case "file_ref":
            yield f"file {part.path}, kept as {part.content_id}", part.exploration_summary
        case "image":
            yield "image", (part.url or part.media_type)[:200]
        case _:
            yield part.kind, part.text


def markdown(session: SessionRecord, messages: Iterable[Message]) -> Iterator[str]:
    """The log as Markdown. What was said stands as it is; everything else is fenced."""
    yield f"# {_inline(session.title or session.id)}\n"
    for message in messages:
        yield f"\n## #{message.seq} {message.role}, {when(message.created_at)}\n"
        for label, text in blocks(message):
            text = clean(text)
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
            yield f"\n{text}\n" if not label else f"\n{_inline(label)}:\n\n{fence}text\n{text}\n{fence}\n"


def html(session: SessionRecord, messages: Iterable[Message]) -> Iterator[str]:
    """The log as one HTML file that loads and runs nothing."""
    title = escape(_inline(session.title or session.id))
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{title}</h1>\n"
    for message in messages:
        yield f"<article><h2>#{message.seq} {message.role}, {when(message.created_at)}</h2>\n"
        for label, text in blocks(message):
            body = f"<pre>{escape(clean(text))}</pre>"
            yield f"<details><summary>{escape(_inline(label))}</summary>{body}</details>\n" if label else f"{body}\n"
        yield "</article>\n"
    yield "</body></html>\n"


def _inline(text: str) -> str:
    return " ".join(clean(text).split())
