"""Which old tool outputs become markers. Pure; the log keeps every output."""

from __future__ import annotations

from collections.abc import Callable

from mnesis.compaction.fold import FRESH_TURNS, turn_starts, visible_tokens
from mnesis.config import CompactionConfig
from mnesis.context.markers import pruned_output
from mnesis.models.context import ActiveContext, Prune
from mnesis.models.message import Message, MessagePart, ToolPart, ToolResultPart


def plan_prune(context: ActiveContext, config: CompactionConfig, count: Callable[[str], int]) -> tuple[Prune, ...]:
    """Outputs outside the newest `prune_protect_tokens` of the conversation and outside the two newest user turns.

    Nothing if together they save less than `prune_minimum_tokens`, or if pruning is off. Oldest first.
    """
    if not config.prune:
        return ()
    messages = [item for item in context.items if isinstance(item, Message)]
    starts = turn_starts(messages)
    fresh = starts[-FRESH_TURNS] if len(starts) > FRESH_TURNS else 0
    behind, found = sum(visible_tokens(m, context.prunes) for m in messages[fresh:]), []
    for message in reversed(messages[:fresh]):
        if behind >= config.prune_protect_tokens and message.tool_tokens and message.seq not in context.pins:
            found.extend(_prunable(message, context, count))
        behind += visible_tokens(message, context.prunes)
    if sum(prune.tokens_saved for prune in found) < config.prune_minimum_tokens:
        return ()
    return tuple(sorted(found, key=lambda prune: (prune.seq, prune.part_index)))


def _prunable(message: Message, context: ActiveContext, count: Callable[[str], int]) -> list[Prune]:
    found = []
    for index, part in enumerate(message.parts):
        if (message.seq, index) in context.prunes:
            continue
        output = _output(part)
        if not output:
            continue
        tokens = count(output)
        name = part.tool_name if isinstance(part, ToolPart | ToolResultPart) else ""
        saved = tokens - count(pruned_output(message.id, name, tokens))
        if saved > 0:
            found.append(Prune(seq=message.seq, part_index=index, tokens_saved=saved))
    return found


def _output(part: MessagePart) -> str:
    if isinstance(part, ToolPart | ToolResultPart) and part.output_file is not None:
        # It is short already, and the context would no longer name the file.
        return ""
    if isinstance(part, ToolPart):
        return part.error_message if part.error_message is not None else part.output or ""
    return part.output if isinstance(part, ToolResultPart) else ""
