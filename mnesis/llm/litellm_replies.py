"""litellm's responses and stream chunks as `LLMReply`.

Pure functions, no I/O. Attributes are read without litellm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnesis.ids import new_id
from mnesis.llm.base import Delta, LLMReply
from mnesis.models.message import ToolPart
from mnesis.models.usage import TokenUsage

MAX_PLAUSIBLE_TOKENS = 100_000_000
"""Ten times the largest context limit of any model. A report above it is an error of the provider."""


def parse_usage(report: Any) -> TokenUsage | None:
    """Convert a usage report.

    Returns None if it is missing or implausible (an empty prompt, negative numbers).

    `prompt_tokens` includes cached tokens, as OpenAI counts; litellm converts the reports of all providers to this form.
    """
    details = getattr(report, "prompt_tokens_details", None)
    output_details = getattr(report, "completion_tokens_details", None)
    prompt_tokens = _count(report, "prompt_tokens")
    completion_tokens = _count(report, "completion_tokens")
    cache_read_tokens = _count(details, "cached_tokens") or _count(report, "cache_read_input_tokens")
    cache_write_tokens = _count(report, "cache_creation_input_tokens") or _count(details, "cache_creation_tokens")
    total_tokens = _count(report, "total_tokens")
    counts = (prompt_tokens, completion_tokens, cache_read_tokens, cache_write_tokens, total_tokens)
    if (
        prompt_tokens == 0
        or cache_read_tokens + cache_write_tokens > prompt_tokens
        or not all(0 <= count < MAX_PLAUSIBLE_TOKENS for count in counts)
    ):
        return None
    return TokenUsage(
        input=prompt_tokens - cache_read_tokens - cache_write_tokens,
        output=completion_tokens,
        cache_read=cache_read_tokens,
        cache_write=cache_write_tokens,
        total=max(total_tokens, prompt_tokens + completion_tokens),
        reasoning=min(max(_count(output_details, "reasoning_tokens"), 0), completion_tokens),
    )


def _count(report: Any, name: str) -> int:
    value = getattr(report, name, None)
    return int(value) if isinstance(value, int | float) else 0


def parse_tool_call(id: str, name: str, arguments: str, provider: dict[str, Any] | None = None) -> ToolPart:
    """Build a tool call.

    Arguments that are not a JSON object are kept unchanged in `raw_input`.
    """
    try:
        parsed = json.loads(arguments or "{}", parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        parsed = None
    is_object = isinstance(parsed, dict)
    return ToolPart(
        tool_name=name,
        tool_call_id=id or new_id("call"),
        input=parsed if is_object else {},
        raw_input=None if is_object else arguments,
        provider=provider,
    )


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def parse_reply(choice: Any, usage: TokenUsage | None, cost: float, model: str) -> LLMReply:
    """Build the reply from the first choice of a response that was not streamed."""
    message = choice.message
    calls = [
        parse_tool_call(call.id, call.function.name or "", call.function.arguments or "", _provider_fields(call))
        for call in message.tool_calls or ()
    ]
    return LLMReply(
        text=message.content or "",
        reasoning=getattr(message, "reasoning_content", None) or "",
        reasoning_blocks=tuple(_returnable_block(block) for block in _reasoning_blocks(message)),
        text_provider=None if calls else _text_signatures(message),
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
    """A reply that is built from the chunks of a stream."""

    finish_reason: str = ""
    usage_report: Any = None
    """The last usage report, unchanged."""

    _texts: list[str] = field(default_factory=list)
    _reasoning_texts: list[str] = field(default_factory=list)
    _calls: list[_Call] = field(default_factory=list)
    _call_by_index: dict[int, _Call] = field(default_factory=dict)
    _blocks: list[dict[str, Any]] = field(default_factory=list)
    _text_provider: dict[str, Any] | None = None
    _pending_thinking: str = ""
    _has_raw_details: bool = False

    @property
    def text(self) -> str:
        """The text that has arrived."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """The reasoning that has arrived."""
        return "".join(self._reasoning_texts)

    def add_raw(self, chunk: Any) -> None:
        """Add the reasoning details of a chunk before litellm's stream reads it, which drops chunks that have nothing else."""
        for choice in getattr(chunk, "choices", None) or ():
            for block in _reasoning_blocks(getattr(choice, "delta", None)):
                if _is_detail(block):
                    self._has_raw_details = True
                    self._add_block(block)

    def add(self, chunk: Any) -> Delta | None:
        """Add a chunk. Returns its text or reasoning, or None if it has neither."""
        self.usage_report = getattr(chunk, "usage", None) or self.usage_report
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        for fragment in choice.delta.tool_calls or ():
            self._add_call(fragment)
        for block in _reasoning_blocks(choice.delta):
            if not (self._has_raw_details and _is_detail(block)):
                self._add_block(_returnable_block(block))
        self._text_provider = _text_signatures(choice.delta) or self._text_provider
        text, reasoning = choice.delta.content or "", getattr(choice.delta, "reasoning_content", None) or ""
        self._texts.append(text)
        self._reasoning_texts.append(reasoning)
        return Delta(text=text, reasoning=reasoning) if text or reasoning else None

    def to_reply(self, usage: TokenUsage | None, cost: float, model: str) -> LLMReply:
        """Build the whole reply."""
        return LLMReply(
            text=self.text,
            reasoning=self.reasoning,
            reasoning_blocks=tuple(self._blocks),
            text_provider=None if self._calls else self._text_provider,
            tool_calls=tuple(
                parse_tool_call(call.id, call.name, call.arguments, call.provider) for call in self._calls
            ),
            usage=usage,
            cost=cost,
            finish_reason=self.finish_reason or "stop",
            model=model,
        )

    def _add_call(self, fragment: Any) -> None:
        index = fragment.index or 0
        call = self._call_by_index.get(index)
        # Some providers give every call the index 0; then a new id starts a new call.
        if call is None or (fragment.id and call.id and fragment.id != call.id):
            call = self._call_by_index[index] = _Call()
            self._calls.append(call)
        call.id = call.id or fragment.id or ""
        call.name += fragment.function.name or ""
        call.arguments += fragment.function.arguments or ""
        call.provider = _provider_fields(fragment) or call.provider

    def _add_block(self, block: dict[str, Any]) -> None:
        """Add a block.

        Thinking arrives in pieces and is complete with its signature; other blocks arrive complete.
        """
        if _is_detail(block):
            self._add_detail(block)
        elif block.get("type") != "thinking":
            self._blocks.append(block)
        elif block.get("signature"):
            # Some versions of litellm repeat the text in the signed block, others omit it.
            self._blocks.append({**block, "thinking": block.get("thinking") or self._pending_thinking})
            self._pending_thinking = ""
        else:
            self._pending_thinking += block.get("thinking") or ""

    def _add_detail(self, detail: dict[str, Any]) -> None:
        """Add a fragment of OpenRouter's `reasoning_details`. Fragments with the same index form one item."""
        for position, item in enumerate(self._blocks):
            if _is_detail(item) and (item.get("index"), item["type"]) == (detail.get("index"), detail["type"]):
                texts = {
                    key: (item.get(key) or "") + value
                    for key, value in detail.items()
                    if key in ("text", "summary", "data") and isinstance(value, str)
                }
                others = {key: value for key, value in detail.items() if value is not None}
                self._blocks[position] = {**item, **others, **texts}
                return
        self._blocks.append(dict(detail))


def _reasoning_blocks(message: Any) -> list[dict[str, Any]]:
    """Return the blocks that the provider wants back: signed thinking, reasoning details or reasoning items.

    OpenRouter sends its details to the clients of all models; litellm keeps them among the provider's fields.
    """
    fields = getattr(message, "provider_specific_fields", None) or {}
    details = fields.get("reasoning_details") or getattr(message, "reasoning_details", None)
    blocks = details or getattr(message, "thinking_blocks", None) or getattr(message, "reasoning_items", None) or ()
    return [block if isinstance(block, dict) else dict(block) for block in blocks]


def _is_detail(block: Mapping[str, Any]) -> bool:
    return str(block.get("type", "")).startswith("reasoning.")


def _text_signatures(message: Any) -> dict[str, Any] | None:
    """Return Gemini's signature of a text, as litellm wants it back."""
    signatures = (getattr(message, "provider_specific_fields", None) or {}).get("thought_signatures")
    return {"thought_signatures": list(signatures)} if signatures else None


def _returnable_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the stream index that litellm adds to a block.

    Providers reject blocks with unknown keys.
    """
    return {key: value for key, value in block.items() if key != "index" or _is_detail(block)}


def _provider_fields(call: Any) -> dict[str, Any] | None:
    return getattr(call, "provider_specific_fields", None) or None
