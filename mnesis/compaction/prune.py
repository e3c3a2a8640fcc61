"""Which old tool outputs are replaced by markers.

Pure functions, no I/O. The log keeps every output.
"""

from __future__ import annotations

from collections.abc import Callable

from mnesis.compaction.fold import FRESH_TURNS, visible_tokens
from mnesis.config import CompactionConfig
from mnesis.context.markers import pruned_output_marker
from mnesis.context.turns import turn_starts
from mnesis.models.context import ActiveContext, Prune
from mnesis.models.message import FileRefPart, Message, MessagePart, ToolPart, ToolResultPart
from mnesis.tokens.estimator import result_tokens


def plan_prune(context: ActiveContext, config: CompactionConfig, count: Callable[[str], int]) -> tuple[Prune, ...]:
    """Choose the old tool outputs to replace with markers.

    Outputs in the newest `prune_protect_tokens` of the conversation and in the two newest user turns are kept. Returns
    them oldest first. Returns nothing if together they save less than `prune_minimum_tokens`, or if pruning is off.
    """
    if not config.prune:
        return ()
    messages = [item for item in context.items if isinstance(item, Message)]
    starts = turn_starts(messages)
    fresh_start = starts[-FRESH_TURNS] if len(starts) > FRESH_TURNS else 0
    newer_tokens = sum(visible_tokens(m, context.prunes) for m in messages[fresh_start:])
    prunes: list[Prune] = []
    for message in reversed(messages[:fresh_start]):
        if newer_tokens >= config.prune_protect_tokens and message.tool_tokens and message.seq not in context.pins:
            prunes.extend(_prunes_of(message, context, count))
        newer_tokens += visible_tokens(message, context.prunes)
    if sum(prune.tokens_saved for prune in prunes) < config.prune_minimum_tokens:
        return ()
    return tuple(sorted(prunes, key=lambda prune: (prune.seq, prune.part_index)))


def _prunes_of(message: Message, context: ActiveContext, count: Callable[[str], int]) -> list[Prune]:
    prunes = []
    for index, part in enumerate(message.parts):
        if (message.seq, index) in context.prunes:
            continue
        result = _prunable_result(part)
        if result is None:
            continue
        tokens = result_tokens(result, count)
        tokens_saved = tokens - count(pruned_output_marker(message.id, result.tool_name, tokens))
        if tokens_saved > 0:
            prunes.append(Prune(seq=message.seq, part_index=index, tokens_saved=tokens_saved))
    return prunes


def _prunable_result(part: MessagePart) -> ToolResultPart | None:
    """Return the result in a part if a marker may replace it."""
    result = part.result() if isinstance(part, ToolPart) and part.has_result else part
    if not isinstance(result, ToolResultPart) or not (result.output or result.output_parts):
        return None
    # A reference to a stored file is short already, and a marker would no longer name the file.
    has_reference = result.output_file is not None or any(isinstance(p, FileRefPart) for p in result.output_parts)
    return None if has_reference else result
