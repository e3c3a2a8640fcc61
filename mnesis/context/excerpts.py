"""Excerpts of messages: head, tail and a pointer to the rest. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from mnesis.context import markers
from mnesis.formats.text import compact_arguments, parts_text
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
)
from mnesis.tokens.estimator import TokenCounter, message_tokens, result_tokens

MIN_EXCERPT_TOKENS = 72
"""A message that is only a pointer, counted with the tokenizer that needs the most tokens for it."""


def truncate(message: Message, max_tokens: int, count: TokenCounter) -> Message:
    """Truncate a message to about `max_tokens`.

    Texts, inputs and outputs become head, tail and pointer; media, pointers.

    Call ids and names do not change, so that calls and results remain paired. A message with many small calls can
    therefore exceed `max_tokens`.
    """
    if message.token_count <= max_tokens:
        return message
    min_part_tokens = MIN_EXCERPT_TOKENS // 2
    part_tokens = max(max_tokens // max(len(message.parts), 1) - 12, min_part_tokens)
    while True:
        truncated = _replace_parts(
            message, [_truncate_part(part, part_tokens, count, message.id) for part in message.parts], count
        )
        if truncated.token_count <= max_tokens:
            return truncated
        if part_tokens <= min_part_tokens:
            return _merge_into_excerpt(truncated, message, max_tokens, count)
        part_tokens //= 2


def _merge_into_excerpt(truncated: Message, message: Message, max_tokens: int, count: TokenCounter) -> Message:
    """Merge all parts except calls and results into one excerpt.

    Many small parts cannot be truncated one by one.
    """
    calls = [part for part in truncated.parts if isinstance(part, ToolPart | ToolResultPart)]
    text = parts_text([part for part in message.parts if not isinstance(part, ToolPart | ToolResultPart)])
    if not text:
        return truncated
    available_tokens = max_tokens - message_tokens(message.model_copy(update={"parts": tuple(calls)}), count)[0]
    return _replace_parts(
        message, [TextPart(text=markers.excerpt(text, available_tokens, count, message.id)), *calls], count
    )


def _replace_parts(message: Message, parts: Sequence[MessagePart], count: TokenCounter) -> Message:
    changed = message.model_copy(update={"parts": tuple(parts)})
    tokens, tool_tokens = message_tokens(changed, count)
    return changed.model_copy(update={"token_count": tokens, "tool_tokens": tool_tokens})


def _truncate_part(part: MessagePart, max_tokens: int, count: TokenCounter, message_id: str) -> MessagePart:
    if isinstance(part, TextPart | DataPart):
        return part.model_copy(update={"text": markers.excerpt(part.text, max_tokens, count, message_id)})
    if isinstance(part, ToolResultPart):
        if result_tokens(part, count) <= max_tokens:
            return part
        output = markers.excerpt(_output_without_media(part, message_id), max_tokens, count, message_id)
        return part.model_copy(update={"output": output, "output_parts": ()})
    if isinstance(part, ToolPart):
        return _truncate_call(part, max_tokens, count, message_id)
    if isinstance(part, FilePart) and part.text is not None:
        return part.model_copy(update={"text": markers.excerpt(part.text, max_tokens, count, message_id)})
    if isinstance(part, ImagePart | FilePart):
        return TextPart(text=markers.omitted_part_marker(part.type, message_id))
    if isinstance(part, FileRefPart):
        summary = markers.excerpt(part.exploration_summary, max_tokens, count, message_id)
        return part.model_copy(update={"exploration_summary": summary})
    if isinstance(part, ReasoningPart) and part.provider is not None and count(part.text) > max_tokens:
        # Providers accept signed reasoning only unchanged.
        return TextPart(text=markers.omitted_part_marker(part.type, message_id))
    return part


def _output_without_media(part: ToolResultPart, message_id: str) -> str:
    """Return the text of an output, with pointers in place of its images and files."""
    if not part.output_parts:
        return part.output
    return parts_text(
        [
            TextPart(text=markers.omitted_part_marker(output.type, message_id))
            if isinstance(output, ImagePart) or (isinstance(output, FilePart) and output.text is None)
            else output
            for output in part.output_parts
        ]
    )


def _truncate_call(part: ToolPart, max_tokens: int, count: TokenCounter, message_id: str) -> ToolPart:
    changes: dict[str, object] = {}
    if part.has_result and result_tokens(part.result(), count) > max_tokens:
        output = markers.excerpt(_output_without_media(part.result(), message_id), max_tokens, count, message_id)
        changes["output" if part.error_message is None else "error_message"] = output
        changes["output_parts"] = ()
    arguments = compact_arguments(part)
    if count(arguments) > max_tokens:
        changes["input"] = {"shortened": markers.excerpt(arguments, max_tokens, count, message_id)}
        changes["raw_input"] = None
    return part.model_copy(update=changes)
