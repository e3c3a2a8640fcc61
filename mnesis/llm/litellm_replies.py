"""litellm's responses and stream chunks as plain replies. Pure: they are read by attribute, litellm is not needed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from mnesis.ids import new_id
from mnesis.llm.base import Delta, LLMReply
from mnesis.models.message import ToolPart
from mnesis.models.usage import TokenUsage

# Ten times the largest window on offer; above it a report is a fault, not a measurement.
ABSURD_TOKENS = 100_000_000


def usage_of(report: Any) -> TokenUsage | None:
    """A provider's report in our terms; None where it reports nothing, or what cannot be (nothing read, below zero).

    OpenAI's form counts cached tokens among `prompt_tokens`; litellm reports every provider so.
    """
    details = getattr(report, "prompt_tokens_details", None)
    asked = _count(report, "prompt_tokens")
    answered = _count(report, "completion_tokens")
    read = _count(details, "cached_tokens") or _count(report, "cache_read_input_tokens")
    written = _count(report, "cache_creation_input_tokens") or _count(details, "cache_creation_tokens")
    total = _count(report, "total_tokens")
    counts = (asked, answered, read, written, total)
    if asked == 0 or read + written > asked or not all(0 <= count < ABSURD_TOKENS for count in counts):
        return None
    return TokenUsage(
        input=asked - read - written,
        output=answered,
        cache_read=read,
        cache_write=written,
        total=max(total, asked + answered),
    )


def _count(report: Any, name: str) -> int:
    value = getattr(report, name, None)
    return int(value) if isinstance(value, int | float) else 0


def tool_part(id: str, name: str, arguments: str, provider: dict[str, Any] | None = None) -> ToolPart:
    """A tool call. Arguments that are no JSON object are kept as they are in `raw_input`."""
    try:
        parsed = json.loads(arguments or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        parsed = None
    valid = isinstance(parsed, dict)
    return ToolPart(
        tool_name=name,
        tool_call_id=id or new_id("call"),
        input=parsed if valid else {},
        raw_input=None if valid else arguments,
        provider=provider,
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def whole_reply(choice: Any, usage: TokenUsage | None, cost: float, model: str) -> LLMReply:
    """The reply in the first choice of a response that was not streamed."""
    message = choice.message
    calls = [
        tool_part(call.id, call.function.name or "", call.function.arguments or "", _provider_fields(call))
        for call in message.tool_calls or ()
    ]
    return LLMReply(
        text=message.content or "",
        reasoning=getattr(message, "reasoning_content", None) or "",
        reasoning_blocks=tuple(dict(block) for block in getattr(message, "thinking_blocks", None) or ()),
        tool_calls=tuple(calls),
        usage=usage,
        cost=cost,
        finish_reason=choice.finish_reason or "stop",
        model=model,
    )


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""
    provider: dict[str, Any] | None = None


@dataclass
class StreamedReply:
    """A reply that grows with each chunk."""

    text: str = ""
    reasoning: str = ""
    finish_reason: str = ""
    report: Any = None
    """The usage report that came last, as it came."""
    _calls: list[_Call] = field(default_factory=list)
    _call_at: dict[int, _Call] = field(default_factory=dict)
    _blocks: list[dict[str, Any]] = field(default_factory=list)
    _thinking: str = ""

    def add(self, chunk: Any) -> Delta | None:
        """Take a chunk in; the piece of text or reasoning it brought, if any."""
        self.report = getattr(chunk, "usage", None) or self.report
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        for fragment in choice.delta.tool_calls or ():
            self._add_call(fragment)
        for block in getattr(choice.delta, "thinking_blocks", None) or ():
            self._add_block(dict(block))
        text, reasoning = choice.delta.content or "", getattr(choice.delta, "reasoning_content", None) or ""
        self.text += text
        self.reasoning += reasoning
        return Delta(text=text, reasoning=reasoning) if text or reasoning else None

    def finished(self, usage: TokenUsage | None, cost: float, model: str) -> LLMReply:
        """The whole reply."""
        return LLMReply(
            text=self.text,
            reasoning=self.reasoning,
            reasoning_blocks=tuple(self._blocks),
            tool_calls=tuple(tool_part(call.id, call.name, call.arguments, call.provider) for call in self._calls),
            usage=usage,
            cost=cost,
            finish_reason=self.finish_reason or "stop",
            model=model,
        )

    def _add_call(self, fragment: Any) -> None:
        index = fragment.index or 0
        call = self._call_at.get(index)
        # Some providers number every call 0; a new id then begins a new call.
        if call is None or (fragment.id and call.id and fragment.id != call.id):
            call = self._call_at[index] = _Call()
            self._calls.append(call)
        call.id = call.id or fragment.id or ""
        call.name += fragment.function.name or ""
        call.arguments += fragment.function.arguments or ""
        call.provider = _provider_fields(fragment) or call.provider

    def _add_block(self, block: dict[str, Any]) -> None:
        """Thinking comes in pieces and is whole with its signature; other blocks come whole."""
        if block.get("type") != "thinking":
            self._blocks.append(block)
        elif block.get("signature"):
            # The signed block repeats the text in some versions of litellm and leaves it out in others.
            self._blocks.append({**block, "thinking": block.get("thinking") or self._thinking})
            self._thinking = ""
        else:
            self._thinking += block.get("thinking") or ""


def _provider_fields(call: Any) -> dict[str, Any] | None:
    return getattr(call, "provider_specific_fields", None) or None
