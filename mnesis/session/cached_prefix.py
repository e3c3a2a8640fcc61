"""The conversation in the provider's cache, derived from the newest request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnesis.compaction.cached_prefix import CachedPrefix
from mnesis.compaction.policy import is_certainly_cached
from mnesis.formats.cache_marks import mark_chat_step
from mnesis.formats.request import render_request
from mnesis.formats.request_digests import digest_request
from mnesis.models.context import Window
from mnesis.models.dialects import PromptCache
from mnesis.models.sent_request import SentRequest
from mnesis.session.core import SessionCore


async def find_cached_prefix(core: SessionCore, price_ratio: float) -> CachedPrefix | None:
    """Return the conversation as the provider has it in its cache. None if the content of the cache is not certain: the
    cache may have expired, another process's request with tools filled it, or the conversation is now rendered
    differently. None also if the newest step is a tool call.
    """
    target, age, newest = core.request_target(), core.cache_age(), core.record.last_request
    cache = target.known_cache
    if cache is None or age is None or newest is None or newest.model != target.model:
        return None
    cached_tokens = newest.cached_tokens if cache.max_marks else _estimate_automatic_cache(newest, cache)
    if not (cached_tokens and is_certainly_cached(cache, age.idle_seconds, age.lifetime_seconds)):
        return None
    parts = core.shared.sent_parts
    window = await core.window(system_prompt=parts.system_prompt)
    rendered = render_request(
        window, replace(target, cache_lifetime="off"), tools=list(parts.tools), options=parts.options
    )
    digests = digest_request(rendered, core.shared.sent_digests)
    is_same = (digests.tools, digests.system, digests.options) == (
        newest.tools_digest,
        newest.system_digest,
        newest.options_digest,
    )
    if not is_same or digests.messages[newest.message_count - 1 : newest.message_count] != (newest.messages_digest,):
        return None
    messages = _cut_after_reply(rendered.messages, newest.message_count)
    if messages is None or window.omitted:
        return None
    end = _find_kept_end(messages, newest.message_count)
    uncached_tokens = max(core.record.context_tokens - cached_tokens, 0)
    changed_tokens = sum(core.count_tokens(str(m)) for m in messages[end + 1 :]) if cache.max_marks else 0
    return CachedPrefix(
        messages=_with_mark(messages, end, target.cache_lifetime) if cache.max_marks else messages,
        tools=rendered.tools,
        options=rendered.options,
        shown=_shown_messages(window),
        cache=cache,
        cached_tokens=max(cached_tokens - changed_tokens, 0),
        uncached_tokens=uncached_tokens + changed_tokens,
        price_ratio=price_ratio,
        max_output_tokens=(core.budget.max_output_tokens or core.model.max_output_tokens)
        if core.model.is_known
        else None,
    )


def _estimate_automatic_cache(request: SentRequest, cache: PromptCache) -> int:
    """Return the number of tokens of a request that a provider caches automatically. Nothing below its minimum
    length.
    """
    return request.input_tokens if request.input_tokens >= cache.min_tokens_for(request.model) else 0


def _cut_after_reply(messages: Sequence[dict[str, Any]], message_count: int) -> list[dict[str, Any]] | None:
    """Return the messages up to the reply of the newest request, which had `message_count` without the system prompt.

    None if that reply calls tools, because an instruction must not come between a call and its result.
    """
    start = sum(message["role"] == "system" for message in messages) + message_count
    reply = messages[start] if start < len(messages) else None
    if reply is None or reply["role"] != "assistant":
        return list(messages[:start])
    return None if reply.get("tool_calls") else list(messages[: start + 1])


def _find_kept_end(messages: Sequence[dict[str, Any]], message_count: int) -> int:
    """Return the index of the last message that the provider has cached, and will find unchanged after an instruction.

    That is the end of the newest request. If the newest turn contains thinking, it is that turn's user message. Many
    Claude models drop the thinking of a turn at the next user message (platform.claude.com, extended-thinking,
    caching).
    """
    end = sum(message["role"] == "system" for message in messages) + message_count - 1
    start = max((i for i in range(end + 1) if messages[i]["role"] == "user"), default=end)
    return start if any(message.get("thinking_blocks") for message in messages[start : end + 1]) else end


def _with_mark(messages: Sequence[dict[str, Any]], end: int, lifetime: str) -> list[dict[str, Any]]:
    """Mark a message at which an earlier request had a mark. The provider finds the cache entry there and writes
    nothing.
    """
    mark = {"type": "ephemeral"} if lifetime == "5m" else {"type": "ephemeral", "ttl": lifetime}
    return [mark_chat_step(message, mark) if i == end else message for i, message in enumerate(messages)]


def _shown_messages(window: Window) -> dict[int, Any]:
    return {message.seq: message for message in window.messages if message.seq and not message.is_summary}
