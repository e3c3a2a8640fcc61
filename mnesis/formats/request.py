"""Requests in the form that one provider accepts: the single step between a window and a model client.

Pure functions, no I/O. `mnesis.models.dialects` says what each provider accepts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnesis.formats.anthropic import THINKING, anthropic_steps, merge_steps
from mnesis.formats.cache_marks import MarkSettings, mark_blocks, mark_chat_step, mark_places
from mnesis.formats.openai import (
    EMPTY_MESSAGE,
    chat_message,
    plain_chat_message,
    plain_reply_fields,
    replace_lone_surrogates,
    result_media,
)
from mnesis.formats.origin import adapt_messages
from mnesis.formats.roles import arrange_roles
from mnesis.formats.step import Step, content_blocks, copy_chat_message, is_flat_message
from mnesis.formats.text import is_plain_text
from mnesis.models.context import Window
from mnesis.models.dialects import ADAPTIVE_CLAUDE, Dialect, PromptCache, find_dialect
from mnesis.models.message import Message

Lifetime = Literal["off", "5m", "1h"]

INTERRUPTED_LOOP = "[This turn was interrupted here.]"
"""Ends a tool loop that was interrupted before its reply."""


@dataclass(frozen=True, slots=True)
class Target:
    """The receiver of a request: the model string, its context limit in tokens, and its dialect.

    `cache_lifetime` is the lifetime that cache marks ask for; "off" sends no marks. `awaits_user_message` says that the
    caller will append the next user message. `is_own_client` says that the user's own client sends the request.
    """

    model: str
    dialect: Dialect
    context_limit: int | None = None
    cache_lifetime: Lifetime = "off"
    awaits_user_message: bool = False
    is_own_client: bool = False

    @property
    def known_cache(self) -> PromptCache | None:
        """The provider's cache. None if it is not known, because the user's own client sends the request."""
        return None if self.is_own_client else self.dialect.cache

    @property
    def cache_lifetime_seconds(self) -> float | None:
        """The longest certain lifetime of the provider's cache without use. None if the provider has no cache."""
        cache = self.dialect.cache
        if cache is None:
            return None
        if self.is_own_client:
            return max(cache.lifetimes_seconds.values())
        return cache.lifetime_seconds(self.cache_lifetime)

    def for_users_client(self) -> Target:
        """Return the target without reasoning, if the user's client decides whether to send it."""
        reasoning = self.dialect.reasoning
        if reasoning is None or not reasoning.client_decides:
            return self
        return replace(self, dialect=replace(self.dialect, reasoning=None))

    @classmethod
    def find(cls, model: str, *, dialect: str | None = None, **fields: Any) -> Target:
        """Look up a dialect by its name, or the dialect of a model if `dialect` is None. Raises `ValueError` if there
        is none of this name.
        """
        return cls(model, find_dialect(model, dialect), **fields)


@dataclass(frozen=True, slots=True)
class RenderedSteps:
    """The messages of a request without cache marks, and the window from which they were rendered. Nobody may change
    them.
    """

    steps: Sequence[Step]
    messages: tuple[Message, ...]
    system_prompt: str
    target: Target
    is_flat: bool
    """Whether each message is a role and a text."""

    @classmethod
    def of(cls, steps: Sequence[Step], window: Window, target: Target) -> RenderedSteps:
        """Return the steps of a window, which are in order."""
        is_flat = all(is_flat_message(step.message) for step in steps)
        return cls(steps, window.messages, window.system_prompt, target, is_flat)

    def extend(self, steps: Iterable[Step], window: Window) -> RenderedSteps:
        """Return the steps of a longer window, of which `steps` are the last."""
        new_steps = list(steps)
        is_flat = self.is_flat and all(is_flat_message(step.message) for step in new_steps)
        arranged = arrange_roles(new_steps, self.target.dialect, self.steps)
        return RenderedSteps(arranged, window.messages, self.system_prompt, self.target, is_flat)

    def copy_messages(self) -> list[dict[str, Any]]:
        """Return the rendered messages, new ones at each call."""
        if self.is_flat:
            return [step.message.copy() for step in self.steps]
        return [copy_chat_message(step.message) for step in self.steps]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The parts of a request: chat-completions messages, tools, and further arguments.

    The next request is rendered from `steps`. Clients may change the other parts.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    steps: RenderedSteps | None = field(default=None, repr=False, compare=False)


def render_request(
    window: Window,
    target: Target,
    *,
    tools: Sequence[dict[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
    earlier: RenderedSteps | None = None,
) -> Rendered:
    """Render a window for one call. `tools` are chat-completions tools, `options` the caller's further arguments.

    Messages that the request shares with an `earlier` one are not rendered again.
    """
    rendered = _render_steps(window, target, earlier)
    sent = rendered.copy_messages()
    if target.dialect.content_blocks:
        sent = [_with_blocks(message) for message in sent]
    rendered_tools = list(tools)
    settings = _mark_settings(window, target)
    if settings is not None:
        sent, rendered_tools = _mark(sent, rendered.steps, rendered_tools, settings)
    return Rendered(sent, rendered_tools, request_options(target, options or {}, sent), rendered)


def _render_steps(window: Window, target: Target, earlier: RenderedSteps | None) -> RenderedSteps:
    messages, prompt, dialect = window.messages, window.system_prompt, target.dialect
    if earlier is not None and (earlier.system_prompt, earlier.target) == (prompt, target):
        if earlier.messages is messages:
            return earlier
        added = _added_messages(earlier.messages, messages)
        if added is not None:
            return earlier.extend(_conversation_steps(adapt_messages(added, dialect, target.model), target), window)
    text = replace_lone_surrogates(prompt)
    steps = [Step({"role": "system", "content": text})] if text else []
    steps += _conversation_steps(adapt_messages(messages, dialect, target.model), target)
    return RenderedSteps.of(arrange_roles(steps, dialect), window, target)


def _added_messages(earlier: Sequence[Message], messages: Sequence[Message]) -> Sequence[Message] | None:
    """Return the messages after those of an earlier window, if each is rendered in the same way wherever it is.

    None if the window does not begin with the earlier one, or has other messages after it.
    """
    added = messages[len(earlier) :]
    if len(earlier) > len(messages) or not all(map(operator.is_, earlier, messages)):
        return None
    is_plain = all(
        message.role in ("user", "assistant") and not message.is_summary and is_plain_text(message) for message in added
    )
    return added if is_plain else None


def request_options(
    target: Target, options: Mapping[str, Any], messages: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return the further arguments of a call. The caller's options take precedence."""
    arguments = dict(options)
    dialect = target.dialect
    if dialect.context_limit_argument and target.context_limit:
        arguments.setdefault(dialect.context_limit_argument, target.context_limit)
    if dialect.name == "anthropic":
        if _asks_for_thinking(arguments, target.model) and not _open_loop_thinks(messages):
            # Extended thinking cannot be switched on inside a tool loop (platform.claude.com, extended-thinking); the API
            # rejects such a request, on Bedrock and Vertex always.
            arguments = {k: v for k, v in arguments.items() if k not in ("thinking", "reasoning_effort")}
        arguments |= _mend_thinking(arguments, target)
    return arguments


def _asks_for_thinking(options: Mapping[str, Any], model: str) -> bool:
    thinking = options.get("thinking")
    if isinstance(thinking, Mapping):
        return thinking.get("type") == "enabled"
    effort = options.get("reasoning_effort")
    return effort not in (None, "none") and not re.search(ADAPTIVE_CLAUDE, model.lower().replace(".", "-"))


def _open_loop_thinks(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the tool loop at the end of the messages begins with thinking. True if there is no open loop.

    A loop also counts as open if the user interrupts it: sources differ on whether text next to results begins another.
    """
    last_reply = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    if not any(message["role"] == "tool" for message in messages[last_reply + 1 :]):
        return True
    start = max((i for i in range(last_reply) if messages[i]["role"] == "user"), default=-1)
    opening = next(message for message in messages[start + 1 :] if message["role"] == "assistant")
    return bool(opening.get("thinking_blocks"))


def _mend_thinking(options: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Ask models that check what precedes a thinking block to drop blocks from before a compaction.

    By default the API rejects them (platform.claude.com, preserved-thinking, fix-bound-to-a-different-conversation). litellm adds
    the beta header.
    """
    if not re.search(target.dialect.mends_thinking, target.model.lower().replace(".", "-")):
        return {}
    thinking = options.get("thinking", {"type": "adaptive"})
    if "reasoning_effort" in options or not isinstance(thinking, Mapping) or thinking.get("type") != "adaptive":
        return {}
    return {"thinking": {"block_binding": {"prefix_mismatch_behavior": "drop_block"}, **thinking}}


def _conversation_steps(messages: Iterable[Message], target: Target) -> Iterator[Step]:
    """Yield the steps of the messages. Media of tool results follow the last result of a step, where the dialect wants that."""
    media: list[dict[str, Any]] = []
    is_anthropic, reply_fields = target.dialect.name == "anthropic", plain_reply_fields(target.dialect, target.model)
    moves_media = target.dialect.media_in_results == "user message"
    for message in messages:
        role = message.role
        if media and role != "tool":
            yield Step({"role": "user", "content": media})
            media = []
        if role != "tool" and is_plain_text(message):  # the case of most messages, which every request renders again
            rendered = plain_chat_message(message, reply_fields)
            rendered = _without_blank_text(rendered) if is_anthropic else rendered
            yield Step(rendered, message.token_count, message.is_summary)
            continue
        yield from _steps(message, target)
        if moves_media:
            media = media + replace_lone_surrogates(result_media(message))
    if media:
        yield Step({"role": "user", "content": media})


def _steps(message: Message, target: Target) -> list[Step]:
    rendered = chat_message(message, target.dialect, target.model)
    if target.dialect.name == "anthropic":
        rendered = [_without_blank_text(step) for step in rendered]
    first, *others = rendered
    return [Step(first, message.token_count, message.is_summary), *(Step(o, 0, message.is_summary) for o in others)]


def _without_blank_text(message: dict[str, Any]) -> dict[str, Any]:
    """Replace text that is only white space, which Anthropic rejects (nick1udwig/kibitz#78)."""
    content = message["content"]
    if isinstance(content, str) and not content.strip():
        return {**message, "content": None if message.get("tool_calls") else EMPTY_MESSAGE}
    if isinstance(content, list):
        blocks = [block for block in content if block["type"] != "text" or block["text"].strip()]
        return {**message, "content": blocks or EMPTY_MESSAGE}
    return message


def _with_blocks(message: dict[str, Any]) -> dict[str, Any]:
    """Send texts as lists of blocks, so that a cache mark does not change their form."""
    content = message["content"]
    if message["role"] == "assistant" or not isinstance(content, str):
        return message
    return {**message, "content": content_blocks(content)}


def _mark_settings(window: Window, target: Target) -> MarkSettings | None:
    """Return the settings for marking a request. None if the dialect has no marks, or marks are off."""
    cache = target.dialect.cache
    if cache is None or not cache.max_marks or target.cache_lifetime == "off":
        return None
    message_tokens = sum(message.token_count for message in window.messages)
    return MarkSettings(
        cache,
        cache.min_tokens_for(target.model),
        target.cache_lifetime,
        window.tokens - message_tokens,
        target.awaits_user_message,
    )


def _mark(
    messages: Sequence[dict[str, Any]], steps: Sequence[Step], tools: list[dict[str, Any]], settings: MarkSettings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    places = mark_places(steps, settings)
    if settings.marks_prefix:
        system = next((i for i, step in enumerate(steps) if step.role == "system"), None)
        if system is not None:
            places.add(system)
        elif tools:
            tools = [*tools[:-1], {**tools[-1], "cache_control": settings.mark}]
    marked = [mark_chat_step(message, settings.mark) if i in places else message for i, message in enumerate(messages)]
    return marked, tools


class RequestMessages(list[dict[str, Any]]):
    """Messages for your own client: a list, with the system prompt in the provider's form as `system`.

    `system` is a string for chat completions, and a list of text blocks for Anthropic.
    """

    system: str | list[dict[str, Any]]

    def __init__(self, messages: Sequence[dict[str, Any]], system: str | list[dict[str, Any]]) -> None:
        super().__init__(messages)
        self.system = system


def render_for_client(
    window: Window, target: Target, earlier: RenderedSteps | None = None
) -> tuple[RequestMessages, RenderedSteps | None]:
    """Render a window as chat-completions messages without the system prompt, which is `system` of the result.

    `target` is one `for_users_client()`. Also returns the state for rendering the next window, which is passed as
    `earlier`.
    """
    rendered = render_request(window, target, earlier=earlier)
    sent = [message for message in rendered.messages if message["role"] != "system"]
    return RequestMessages(sent, window.system_prompt), rendered.steps


def _ends_in_loop_with_thinking(steps: Sequence[Step]) -> bool:
    """Return whether a tool loop that is open at the end begins with thinking. True if there is no open loop.

    The caller's next message joins the results of the loop, and Claude refuses to think in a loop that began without
    thinking (platform.claude.com, extended-thinking).
    """
    if not steps or steps[-1].role != "tool":
        return True
    start = max((i for i, step in enumerate(steps) if step.role == "user"), default=-1)
    opening = next((step for step in steps[start + 1 :] if step.role == "assistant"), None)
    return opening is None or opening.message["content"][0]["type"] in THINKING


def render_for_anthropic(window: Window, target: Target) -> RequestMessages:
    """Render a window as Anthropic messages and system blocks, with cache marks."""
    system: list[dict[str, Any]] = []
    if window.system_prompt.strip():
        system = [{"type": "text", "text": replace_lone_surrogates(window.system_prompt)}]
    steps = anthropic_steps(adapt_messages(window.messages, target.dialect, target.model))
    if not _ends_in_loop_with_thinking(steps):
        steps.append(Step({"role": "assistant", "content": [{"type": "text", "text": INTERRUPTED_LOOP}]}))
    settings = _mark_settings(window, target)
    if settings is not None:
        for index in mark_places(steps, settings):
            step = steps[index]
            blocks = mark_blocks(step.message["content"], settings.mark)
            steps[index] = replace(step, message={**step.message, "content": blocks})
        if settings.marks_prefix:
            system = mark_blocks(system, settings.mark)
    return RequestMessages(merge_steps(steps), system)
