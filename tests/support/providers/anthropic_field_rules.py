"""Rules of the Messages API on the fields of a request and the roles of its messages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from tests.support.providers.anthropic_subject import CACHE_GUIDE, ERROR_GUIDE, SDK_TYPES, Subject
from tests.support.providers.strict_server import RuleBook

BOOK = RuleBook()
rule = BOOK.rule

# CACHE_GUIDE, "Mid-conversation system messages".
WITH_SYSTEM_MESSAGES = re.compile(r"opus-5|opus-4-8|fable-5-1|mythos-5-1")
TOP_FIELDS = frozenset(
    [
        "model",
        "messages",
        "max_tokens",
        "cache_control",
        "container",
        "inference_geo",
        "metadata",
        "output_config",
        "service_tier",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    ]
)
BLOCK_FIELDS = {
    "text": {"type", "text", "cache_control", "citations"},
    "image": {"type", "source", "cache_control"},
    "tool_use": {"type", "id", "name", "input", "cache_control", "caller", "toolset_name"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
}


@rule("required-field", ERROR_GUIDE)
def _required_field(subject: Subject) -> Iterator[str]:
    for name in ("model", "max_tokens", "messages"):
        if not subject.body.get(name) and subject.body.get(name) != 0:
            yield f"{name}: Field required"


@rule("unknown-field", f"{SDK_TYPES}; anthropics/claude-code#4378")
def _unknown_field(subject: Subject) -> Iterator[str]:
    if not subject.betas:  # a beta header may add fields that this server does not know
        yield from (f"{name}: Extra inputs are not permitted" for name in subject.body if name not in TOP_FIELDS)
    for index, message in enumerate(subject.request.messages):
        for name in set(message) - {"role", "content"}:
            yield f"messages.{index}.{name}: Extra inputs are not permitted"
    for place, _, block in subject.blocks():
        kind = str(block.get("type"))
        for name in set(block) - BLOCK_FIELDS.get(kind, set(block)) - {"cache_control"}:
            yield f"{place}.{kind}.{name}: Extra inputs are not permitted"


@rule("system-role", f"Maol-1997/cursor-claude-connector#3; {CACHE_GUIDE}")
def _system_role(subject: Subject) -> Iterator[str]:
    roles = [role for role, _ in subject.messages]
    for index, role in enumerate(roles):
        if role != "system":
            continue
        if index == 0:
            yield (
                'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, '
                'not "system" as an input message role.'
            )
        elif not WITH_SYSTEM_MESSAGES.search(subject.request.model):
            yield f"messages.{index}: role 'system' is not supported on this model"
        elif roles[index - 1] != "user" or roles[index + 1 : index + 2] not in ([], ["assistant"]):
            yield f"messages.{index}: a system message must follow a user message and precede an assistant turn"


@rule("first-user", ERROR_GUIDE)
def _first_user(subject: Subject) -> Iterator[str]:
    if subject.messages and subject.messages[0][0] == "assistant":
        yield "messages: first message must use the user role"


# The SDK's reference says that consecutive turns are combined; the error guide lists a 400. The reference wins.
@rule("roles-alternate", ERROR_GUIDE, is_default=False)
def _roles_alternate(subject: Subject) -> Iterator[str]:
    if any(one[0] == other[0] for one, other in pairwise(subject.messages)):
        yield 'messages: roles must alternate between "user" and "assistant"'
