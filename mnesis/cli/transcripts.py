"""Transcripts of a session's log: Markdown, or one self-contained HTML file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

from mnesis.cli.output import clean, format_time

if TYPE_CHECKING:
    from mnesis.models.message import Message, MessagePart
    from mnesis.models.session import SessionRecord

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0}article{border-left:.2rem solid;padding-left:1rem;"
    "margin:1.5rem 0}details,h2{font-size:.9rem;opacity:.8}"
)
_CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def message_blocks(message: Message) -> Iterator[tuple[str, str]]:
    """Yield the parts of a message as (label, text). The label of its own text is ""."""
    for part in message.parts:
        yield from _part_blocks(part)


def _part_blocks(part: MessagePart) -> Iterator[tuple[str, str]]:
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
            yield f"file {part.path}, stored as {part.content_id}", part.exploration_summary
        case "image":
            yield "image", (part.url or part.media_type)[:200]
        case _:
            yield part.kind, part.text


def render_markdown(session: SessionRecord, messages: Iterable[Message]) -> Iterator[str]:
    """Render the log as Markdown. The messages' own text is unchanged; everything else is fenced."""
    yield f"# {_on_one_line(session.title or session.id)}\n"
    for message in messages:
        yield f"\n## #{message.seq} {message.role}, {format_time(message.created_at)}\n"
        for label, text in message_blocks(message):
            text = clean(text)
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text) or [""]))
            yield f"\n{text}\n" if not label else f"\n{_on_one_line(label)}:\n\n{fence}text\n{text}\n{fence}\n"


def render_html(session: SessionRecord, messages: Iterable[Message]) -> Iterator[str]:
    """Render the log as one HTML file that loads and executes nothing."""
    title = escape(_on_one_line(session.title or session.id))
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_CONTENT_SECURITY_POLICY}"><style>{_STYLE}</style></head><body>'
    yield f"<h1>{title}</h1>\n"
    for message in messages:
        yield f"<article><h2>#{message.seq} {message.role}, {format_time(message.created_at)}</h2>\n"
        for label, text in message_blocks(message):
            body = f"<pre>{escape(clean(text))}</pre>"
            yield (
                f"<details><summary>{escape(_on_one_line(label))}</summary>{body}</details>\n" if label else f"{body}\n"
            )
        yield "</article>\n"
    yield "</body></html>\n"


def _on_one_line(text: str) -> str:
    return " ".join(clean(text).split())
