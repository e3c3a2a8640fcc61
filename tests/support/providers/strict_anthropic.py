"""Anthropic's Messages API on loopback: its refusals, its prompt cache and its stream.

Neighbouring messages of one role are joined, as the API reference says. The cache follows the documentation: explicit and
automatic marks, a prefix hash over tools, system and messages, a look-back of 20 positions, a minimum length for each model,
5 minutes or 1 hour measured from the start of the request that wrote or last read the entry.

| rule | holds for | source |
|---|---|---|
| required-field | all | anthropics/skills, claude-api/shared/error-codes.md |
| unknown-field | all | anthropics/anthropic-sdk-python, types/message_create_params.py and *_block_param.py; anthropics/claude-code#4378 |
| system-role | all | Maol-1997/cursor-claude-connector#3; anthropics/skills, claude-api/shared/prompt-caching.md |
| first-user | all | anthropics/skills, claude-api/shared/error-codes.md |
| roles-alternate | off | anthropics/skills, claude-api/shared/error-codes.md |
| cache-marks-max | all | litellm integrations/anthropic_cache_control_hook.py; griffinmartin/opencode-claude-auth#121 |
| cache-mark-on-thinking | all | Wei-Shaw/sub2api#225; LeenHawk/gproxy#67; BerriAI/litellm#39815 |
| cache-mark-on-empty-text | all | anthropics/claude-code#50082 |
| cache-mark-nested | all | caozhiyuan/copilot-api#241 |
| cache-ttl-order | all | cnighswonger/claude-code-cache-fix#44; vellum-ai/vellum-assistant#22191 |
| cache-automatic | all | anthropics/skills, claude-api/shared/prompt-caching.md |
| thinking-signature | all | anthropics/anthropic-sdk-python#1598; ding113/claude-code-hub#518 |
| thinking-first | all | anthropics/claude-code#20692; anthropics/claude-code#20727; kaitranntt/ccs#113 |
| thinking-order | all | anthropics/claude-code#20698 |
| thinking-budget | all | anthropics/skills, claude-api/shared/error-codes.md; themaximalist/llm.js#30 |
| thinking-temperature | all | MartialBE/one-hub#529 |
| thinking-tool-choice | off | Claude docs, extended thinking: tool_choice may only be auto or none |
| model-parameters | all | anthropics/skills, claude-api/shared/error-codes.md |
| prefill | all | ericc-ch/copilot-api#261; cortexkit/magic-context#511 |
| tool-result-missing | all | anthropics/claude-code#5989 |
| tool-result-unexpected | all | router-for-me/CLIProxyAPI#497; decocms/studio#1803 |
| tool-result-first | all | Ironclad/rivet#487; anthropics/anthropic-sdk-typescript#653 |
| tool-result-duplicate | all | vectorize-io/hindsight#4250 |
| tool-use-duplicate | all | NachoSEO/claudegram#12; BerriAI/litellm#23510 |
| tool-use-id | all | BlockRunAI/ClawRouter#17; farion1231/cc-switch#1181 |
| tools-missing | off | anthropics/anthropic-sdk-python#494 |
| empty-message | all | anthropics/claude-code#6774 |
| empty-text | all | experientiallabs/experiential#799 |
| blank-text | all | nick1udwig/kibitz#78; anomalyco/opencode#31259 |
| trailing-space | all | tailcallhq/forgecode#1872; litellm litellm_core_utils/prompt_templates/factory.py |
| image-type | all | vybestack/llxprt-code#2130; anthropics/anthropic-sdk-python, types/message_create_params.py and *_block_param.py |
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

from tests.support.providers.strict_server import (
    Failure,
    Json,
    ProviderRequest,
    Reply,
    Response,
    RuleBook,
    StrictServer,
    blocks_of,
    count_tokens,
    dump,
    fragments,
)

BOOK = RuleBook()
rule = BOOK.rule

CACHE_GUIDE = "anthropics/skills, claude-api/shared/prompt-caching.md"
ERROR_GUIDE = "anthropics/skills, claude-api/shared/error-codes.md"
SDK_TYPES = "anthropics/anthropic-sdk-python, types/message_create_params.py and *_block_param.py"

MAX_MARKS = 4
# CACHE_GUIDE, "20-block lookback window". The documentation page counts a run of consecutive tool_use blocks, and a run of
# consecutive tool_result blocks, as one position (platform.claude.com, prompt caching; quoted by two public repositories).
LOOK_BACK_POSITIONS = 20
LIFETIME_SECONDS = {"5m": 300, "1h": 3600}
READ_FACTOR = 0.1  # of the input price; CACHE_GUIDE, "Economics"
WRITE_FACTORS = {"5m": 1.25, "1h": 2.0}
# CACHE_GUIDE, "Minimum cacheable prefix"; the first match counts.
MIN_CACHEABLE_TOKENS = (
    (r"opus-5|fable-5-1|mythos-5-1", 512),
    (r"opus-4-7|mythos-preview|haiku-3|3-5-haiku|3-haiku", 2048),
    (r"opus-4-[56]|haiku-4-5", 4096),
    (r"", 1024),
)
# CACHE_GUIDE, "Thinking blocks and the messages cache": these keep the thinking of earlier turns in the prompt.
KEEPS_THINKING = re.compile(r"opus-4-[5-9]|opus-5|sonnet-4-[6-9]|sonnet-5|fable|mythos")
# ERROR_GUIDE, "Model-specific 400s".
WITHOUT_SAMPLING = re.compile(r"opus-5|fable-5|opus-4-[78]")
# ericc-ch/copilot-api#261 and cortexkit/magic-context#511 name these models.
WITHOUT_PREFILL = re.compile(r"opus-4-[678]|opus-5|sonnet-4-6|sonnet-5|fable")
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
IMAGE_STARTS = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
THINKING_TYPES = ("thinking", "redacted_thinking")
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


@dataclass
class Subject:
    """A request prepared for the checks: turns are the messages after joining neighbours of one role."""

    server: StrictAnthropic
    request: ProviderRequest
    messages: list[tuple[str, list[Json]]] = field(default_factory=list)
    turns: list[tuple[str, list[Json]]] = field(default_factory=list)

    @property
    def body(self) -> Json:
        return self.request.body

    @property
    def thinking(self) -> str:
        return str((self.body.get("thinking") or {}).get("type", "disabled"))

    @property
    def betas(self) -> str:
        return self.request.headers.get("anthropic-beta", "")

    def blocks(self) -> Iterator[tuple[str, str, Json]]:
        """Yield the place, the role and the block of each message block."""
        for index, (role, blocks) in enumerate(self.messages):
            for position, block in enumerate(blocks):
                yield f"messages.{index}.content.{position}", role, block

    def marked(self) -> Iterator[tuple[str, Json]]:
        """Yield every block that can carry a cache mark, in the order in which the API processes them."""
        for index, tool in enumerate(self.body.get("tools") or []):
            yield f"tools.{index}", tool
        for index, block in enumerate(blocks_of(self.body.get("system"))):
            yield f"system.{index}", block
        for place, _, block in self.blocks():
            yield place, block

    def marks(self) -> list[tuple[str, Json]]:
        return [(place, block["cache_control"]) for place, block in self.marked() if block.get("cache_control")]


def join_turns(messages: list[tuple[str, list[Json]]]) -> list[tuple[str, list[Json]]]:
    """Join neighbouring messages of one role into one turn."""
    groups = groupby(messages, key=lambda message: message[0])
    return [(role, [block for _, blocks in group for block in blocks]) for role, group in groups]


def _ids(blocks: list[Json], kind: str, key: str) -> list[str]:
    return [str(block.get(key)) for block in blocks if block.get("type") == kind]


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


@rule("cache-marks-max", "litellm integrations/anthropic_cache_control_hook.py; griffinmartin/opencode-claude-auth#121")
def _cache_marks_max(subject: Subject) -> Iterator[str]:
    if (count := len(subject.marks())) > MAX_MARKS:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {count}."


@rule("cache-mark-on-thinking", "Wei-Shaw/sub2api#225; LeenHawk/gproxy#67; BerriAI/litellm#39815")
def _cache_mark_on_thinking(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") in THINKING_TYPES and "cache_control" in block:
            yield f"{place}.{block['type']}.cache_control: Extra inputs are not permitted"


@rule("cache-mark-on-empty-text", "anthropics/claude-code#50082")
def _cache_mark_on_empty_text(subject: Subject) -> Iterator[str]:
    for place, block in subject.marked():
        if block.get("type") == "text" and not block.get("text") and block.get("cache_control"):
            yield f"{place}.text: cache_control cannot be set for empty text blocks"


@rule("cache-mark-nested", "caozhiyuan/copilot-api#241")
def _cache_mark_nested(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") != "tool_result":
            continue
        for index, inner in enumerate(blocks_of(block.get("content"))):
            if inner.get("cache_control"):
                yield (
                    f"{place}.tool_result.content.{index}.cache_control: cache_control may not be specified within "
                    "`tool_result.content`. Instead, place it directly on `tool_result`"
                )


@rule("cache-ttl-order", "cnighswonger/claude-code-cache-fix#44; vellum-ai/vellum-assistant#22191")
def _cache_ttl_order(subject: Subject) -> Iterator[str]:
    is_short = False
    for place, mark in subject.marks():
        if mark.get("ttl") == "1h" and is_short:
            yield (
                f"{place}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control "
                "block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
        is_short = is_short or mark.get("ttl", "5m") == "5m"


@rule("cache-automatic", CACHE_GUIDE)
def _cache_automatic(subject: Subject) -> Iterator[str]:
    if not (automatic := subject.body.get("cache_control")):
        return
    if len(subject.marks()) >= MAX_MARKS:
        yield "cache_control: all 4 cache_control blocks are already in use"
    last = list(subject.marked())[-1][1].get("cache_control")
    if last and last.get("ttl", "5m") != automatic.get("ttl", "5m"):
        yield "cache_control: the last block has a cache_control with a different ttl"


@rule("thinking-signature", "anthropics/anthropic-sdk-python#1598; ding113/claude-code-hub#518")
def _thinking_signature(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") != "thinking":
            continue
        if not isinstance(block.get("signature"), str):
            yield f"{place}.thinking.signature.str: Input should be a valid string"
        elif not subject.server.has_signed(str(block.get("thinking")), block["signature"]):
            yield f"{place}: Invalid `signature` in `thinking` block"


def open_loop_start(turns: list[tuple[str, list[Json]]]) -> int | None:
    """Return the index of the assistant turn that opened the tool loop at the end. None if the last turn has no results.

    A loop is one assistant turn for the API: without interleaved thinking, only its first message has thinking (Claude docs,
    extended thinking, "Toggling thinking modes" and the example without interleaved thinking).
    """
    if len(turns) < 2 or turns[-1][0] != "user" or not _ids(turns[-1][1], "tool_result", "tool_use_id"):
        return None
    start = len(turns) - 2
    while start > 1 and _ids(turns[start - 1][1], "tool_result", "tool_use_id"):
        if any(block.get("type") != "tool_result" for block in turns[start - 1][1]):
            break  # Claude docs, thinking and prompt caching: other content beside results begins another loop
        start -= 2
    return start


# The documentation also says that the API may switch thinking off for the request instead; disable the rule for that.
@rule("thinking-first", "anthropics/claude-code#20692; anthropics/claude-code#20727; kaitranntt/ccs#113")
def _thinking_first(subject: Subject) -> Iterator[str]:
    index = open_loop_start(subject.turns)
    if subject.thinking != "enabled" or index is None:
        return
    kind = subject.turns[index][1][0].get("type")
    if kind not in THINKING_TYPES:
        yield (
            f"messages.{index}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{kind}`. When "
            "`thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost "
            "set of `tool_use` and `tool_result` blocks)."
        )


@rule("thinking-order", "anthropics/claude-code#20698")
def _thinking_order(subject: Subject) -> Iterator[str]:
    if subject.thinking != "enabled":
        return
    for index, (role, blocks) in enumerate(subject.turns):
        kinds = [block.get("type") for block in blocks]
        if role == "assistant" and set(kinds) & set(THINKING_TYPES) and kinds[0] not in THINKING_TYPES:
            yield (
                f"messages.{index}.content.0: If an assistant message contains any thinking blocks, the first block must be "
                f"`thinking` or `redacted_thinking`. Found `{kinds[0]}`."
            )


@rule("thinking-budget", f"{ERROR_GUIDE}; themaximalist/llm.js#30")
def _thinking_budget(subject: Subject) -> Iterator[str]:
    if subject.thinking != "enabled":
        return
    budget = int(subject.body["thinking"].get("budget_tokens", 0))
    if budget < 1024:
        yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
    # With interleaved thinking the budget spans several requests and may exceed max_tokens (Claude docs).
    if budget >= int(subject.body.get("max_tokens", 0)) and "interleaved-thinking" not in subject.betas:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`."


@rule("thinking-temperature", "MartialBE/one-hub#529")
def _thinking_temperature(subject: Subject) -> Iterator[str]:
    if subject.thinking in ("enabled", "adaptive") and subject.body.get("temperature", 1) != 1:
        yield "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."


@rule("thinking-tool-choice", "Claude docs, extended thinking: tool_choice may only be auto or none", is_default=False)
def _thinking_tool_choice(subject: Subject) -> Iterator[str]:
    kind = (subject.body.get("tool_choice") or {}).get("type", "auto")
    if subject.thinking in ("enabled", "adaptive") and kind not in ("auto", "none"):
        yield "Thinking may not be enabled when tool_choice forces tool use."


@rule("model-parameters", ERROR_GUIDE)
def _model_parameters(subject: Subject) -> Iterator[str]:
    if not WITHOUT_SAMPLING.search(subject.request.model):
        return
    for name in ("temperature", "top_p", "top_k"):
        if name in subject.body:
            yield f"{name}: this parameter is not supported on this model"
    if subject.thinking == "enabled":
        yield "thinking: type 'enabled' is not supported on this model; use 'adaptive'"


@rule("prefill", "ericc-ch/copilot-api#261; cortexkit/magic-context#511")
def _prefill(subject: Subject) -> Iterator[str]:
    if subject.turns and subject.turns[-1][0] == "assistant" and WITHOUT_PREFILL.search(subject.request.model):
        yield "This model does not support assistant message prefill. The conversation must end with a user message."


@rule("tool-result-missing", "anthropics/claude-code#5989")
def _tool_result_missing(subject: Subject) -> Iterator[str]:
    for index, (role, blocks) in enumerate(subject.turns):
        following = subject.turns[index + 1][1] if index + 1 < len(subject.turns) else []
        result_ids = _ids(following, "tool_result", "tool_use_id")
        open_ids = [call for call in _ids(blocks, "tool_use", "id") if call not in result_ids]
        if role == "assistant" and open_ids:
            yield (
                f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(open_ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
                "message."
            )


@rule("tool-result-unexpected", "router-for-me/CLIProxyAPI#497; decocms/studio#1803")
def _tool_result_unexpected(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.turns):
        call_ids = _ids(subject.turns[index - 1][1], "tool_use", "id") if index else []
        for position, block in enumerate(blocks):
            if block.get("type") == "tool_result" and block.get("tool_use_id") not in call_ids:
                yield (
                    f"messages.{index}.content.{position}: unexpected `tool_use_id` found in `tool_result` blocks: "
                    f"{block.get('tool_use_id')}. Each `tool_result` block must have a corresponding `tool_use` block in the "
                    "previous message."
                )


@rule("tool-result-first", "Ironclad/rivet#487; anthropics/anthropic-sdk-typescript#653")
def _tool_result_first(subject: Subject) -> Iterator[str]:
    for index, (role, blocks) in enumerate(subject.turns):
        kinds = [block.get("type") == "tool_result" for block in blocks]
        if role == "user" and any(later and not earlier for earlier, later in pairwise(kinds)):
            yield (
                f"messages.{index}: Did not find {sum(kinds)} `tool_result` block(s) at the beginning of this message. "
                "Messages following `tool_use` blocks must begin with a matching number of `tool_result` blocks."
            )


@rule("tool-result-duplicate", "vectorize-io/hindsight#4250")
def _tool_result_duplicate(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.turns):
        result_ids = _ids(blocks, "tool_result", "tool_use_id")
        if doubles := sorted({call for call in result_ids if result_ids.count(call) > 1}):
            yield (
                f"messages.{index}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
                f"{doubles[0]}"
            )


@rule("tool-use-duplicate", "NachoSEO/claudegram#12; BerriAI/litellm#23510")
def _tool_use_duplicate(subject: Subject) -> Iterator[str]:
    seen_ids: set[str] = set()
    for place, _, block in subject.blocks():
        if block.get("type") == "tool_use":
            if block.get("id") in seen_ids:
                yield f"{place}: `tool_use` ids must be unique"
            seen_ids.add(str(block.get("id")))


@rule("tool-use-id", "BlockRunAI/ClawRouter#17; farion1231/cc-switch#1181")
def _tool_use_id(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        if block.get("type") == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]+", str(block.get("id", ""))):
            yield f"{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"


# Anthropic's own endpoint required this in 2024; vercel/ai#16991 recorded a live Claude Sonnet 4.6 that accepts it.
@rule("tools-missing", "anthropics/anthropic-sdk-python#494", is_default=False)
def _tools_missing(subject: Subject) -> Iterator[str]:
    if not subject.body.get("tools") and any(
        b.get("type") in ("tool_use", "tool_result") for _, _, b in subject.blocks()
    ):
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools."


@rule("empty-message", "anthropics/claude-code#6774")
def _empty_message(subject: Subject) -> Iterator[str]:
    last = len(subject.messages) - 1
    for index, message in enumerate(subject.request.messages):
        if not message.get("content") and not (index == last and message.get("role") == "assistant"):
            yield (
                f"messages.{index}: all messages must have non-empty content except for the optional final assistant message"
            )


@rule("empty-text", "experientiallabs/experiential#799")
def _empty_text(subject: Subject) -> Iterator[str]:
    if any(block.get("type") == "text" and not block.get("text") for _, _, block in subject.blocks()):
        yield "messages: text content blocks must be non-empty"


@rule("blank-text", "nick1udwig/kibitz#78; anomalyco/opencode#31259")
def _blank_text(subject: Subject) -> Iterator[str]:
    if any(block.get("type") == "text" and block.get("text", "").isspace() for _, _, block in subject.blocks()):
        yield "messages: text content blocks must contain non-whitespace text"


@rule("trailing-space", "tailcallhq/forgecode#1872; litellm litellm_core_utils/prompt_templates/factory.py")
def _trailing_space(subject: Subject) -> Iterator[str]:
    if not subject.turns or subject.turns[-1][0] != "assistant" or not subject.turns[-1][1]:
        return
    text = subject.turns[-1][1][-1].get("text", "")
    if text != text.rstrip():
        yield "messages: final assistant content cannot end with trailing whitespace"


@rule("image-type", f"vybestack/llxprt-code#2130; {SDK_TYPES}")
def _image_type(subject: Subject) -> Iterator[str]:
    for place, _, block in subject.blocks():
        inner = blocks_of(block.get("content")) if block.get("type") == "tool_result" else []
        for image in (each for each in [block, *inner] if each.get("type") == "image"):
            yield from _image_faults(place, image.get("source") or {})


def _image_faults(place: str, source: Json) -> Iterator[str]:
    if source.get("type") != "base64":
        return
    declared, start = source.get("media_type"), base64.b64decode(source.get("data", "")[:16])
    actual = next((kind for magic, kind in IMAGE_STARTS.items() if start.startswith(magic)), None)
    if declared not in IMAGE_STARTS.values():
        yield f"{place}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
    elif actual and actual != declared:
        yield (
            f"{place}.image.source.base64: The image was specified using the {declared} media type, "
            f"but the image appears to be a {actual} image"
        )


@dataclass
class Prompt:
    """The rendered prompt: for each block its kind, prefix hash, tokens up to its end, and cache mark."""

    kinds: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    ttls: dict[int, str] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.ends[-1] if self.ends else 0

    def add(self, salt: str, block: Json) -> None:
        text = dump({name: value for name, value in block.items() if name != "cache_control"})
        earlier = self.hashes[-1] if self.hashes else ""
        self.hashes.append(hashlib.sha256(f"{earlier}\n{salt}\n{text}".encode()).hexdigest())
        self.ends.append(self.tokens + count_tokens(text))
        self.kinds.append(str(block.get("type")))
        if mark := block.get("cache_control"):
            self.ttls[len(self.ends) - 1] = mark.get("ttl", "5m")


def render(body: Json, turns: list[tuple[str, list[Json]]]) -> Prompt:
    """Render tools, system and messages, each tier with the parameters that invalidate it."""
    prompt = Prompt()
    for tool in body.get("tools") or []:
        prompt.add(f"tools {body.get('model')}", tool)
    for block in blocks_of(body.get("system")):
        prompt.add(f"system {body.get('model')}", block)
    has_image = any(block.get("type") == "image" for _, blocks in turns for block in blocks)
    settings = dump([body.get("tool_choice"), body.get("thinking"), body.get("output_config"), has_image])
    for role, block in _visible(body, turns):
        prompt.add(f"messages {body.get('model')} {settings} {role}", block)
    _mark_automatically(body, prompt)
    return prompt


def _visible(body: Json, turns: list[tuple[str, list[Json]]]) -> Iterator[tuple[str, Json]]:
    """Yield the blocks that the model sees: the API removes thinking that the model does not use."""
    is_on = (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    user_turns = [
        i for i, (role, blocks) in enumerate(turns) if role == "user" and not _ids(blocks, "tool_result", "type")
    ]
    keeps_all = bool(KEEPS_THINKING.search(str(body.get("model"))))
    for index, (role, blocks) in enumerate(turns):
        keeps = is_on and (keeps_all or index > (user_turns[-1] if user_turns else -1))
        yield from ((role, block) for block in blocks if keeps or block.get("type") not in THINKING_TYPES)


def _mark_automatically(body: Json, prompt: Prompt) -> None:
    """Place the mark of a top-level `cache_control` on the last block that can carry one."""
    if not (automatic := body.get("cache_control")):
        return
    for index in range(len(prompt.kinds) - 1, -1, -1):
        if prompt.kinds[index] not in THINKING_TYPES:
            prompt.ttls.setdefault(index, automatic.get("ttl", "5m"))
            return


class PromptCache:
    """Entries by prefix hash, written at marks and found by looking back from marks.

    That a request also refreshes the entries at its shorter marks is an assumption; the sources speak of reads only.
    """

    def __init__(self) -> None:
        self._expiries: dict[str, float] = {}
        self._lifetimes: dict[str, int] = {}

    def use(self, prompt: Prompt, min_tokens: int, now: float) -> Json:
        """Read and write as one request does. Returns Anthropic's usage fields for the input."""
        hit = max((index for mark in prompt.ttls if (index := self._find(prompt, mark, now)) is not None), default=None)
        read = 0 if hit is None else prompt.ends[hit]
        if hit is not None:
            self._refresh(prompt.hashes[hit], now)
        write_tokens, end = {"5m": 0, "1h": 0}, read
        for mark, ttl in sorted(prompt.ttls.items()):
            if prompt.ends[mark] <= end:
                self._refresh(prompt.hashes[mark], now)
                continue
            if prompt.ends[mark] < min_tokens:
                continue
            self._write(prompt.hashes[mark], LIFETIME_SECONDS[ttl], now)
            write_tokens[ttl] += prompt.ends[mark] - end
            end = prompt.ends[mark]
        return {
            "input_tokens": prompt.tokens - end,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": sum(write_tokens.values()),
            "cache_creation": {f"ephemeral_{ttl}_input_tokens": tokens for ttl, tokens in write_tokens.items()},
        }

    def _write(self, prefix: str, lifetime_seconds: int, now: float) -> None:
        self._expiries[prefix], self._lifetimes[prefix] = now + lifetime_seconds, lifetime_seconds

    def _refresh(self, prefix: str, now: float) -> None:
        """Start the lifetime of a live entry again, as a read does."""
        if self._expiries.get(prefix, -1.0) > now:
            self._write(prefix, self._lifetimes[prefix], now)

    def _find(self, prompt: Prompt, mark: int, now: float) -> int | None:
        """Look back over 20 positions, the mark's own included. A run of tool calls or of results is one position."""
        positions, previous = 0, ""
        for index in range(mark, -1, -1):
            kind = prompt.kinds[index]
            if not (kind == previous and kind in ("tool_use", "tool_result")):
                positions += 1
            if positions > LOOK_BACK_POSITIONS:
                return None
            if self._expiries.get(prompt.hashes[index], -1.0) > now:
                return index
            previous = kind
        return None


def min_cacheable_tokens(model: str) -> int:
    return next(tokens for pattern, tokens in MIN_CACHEABLE_TOKENS if re.search(pattern, model))


def input_cost(usage: Json, token_price: float) -> float:
    """Price the input of one usage report: reads at a tenth, writes with their premium."""
    written = usage["cache_creation"]
    weighted = usage["input_tokens"] + READ_FACTOR * usage["cache_read_input_tokens"]
    weighted += sum(factor * written[f"ephemeral_{ttl}_input_tokens"] for ttl, factor in WRITE_FACTORS.items())
    return float(weighted * token_price)


class StrictAnthropic(StrictServer):
    """POST /v1/messages. Use with litellm as `anthropic/<model>`."""

    book = BOOK
    flavour = "anthropic"

    def __init__(self, *script: Reply | Failure, **options: Any) -> None:
        self._cache = PromptCache()
        super().__init__(*script, **options)

    def model(self, name: str = "claude-sonnet-4-5") -> str:
        return f"anthropic/{name}"

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Refuse any path but /v1/messages."""
        if request.path.split("?")[0] == "/v1/messages":
            return None
        return Response(404, self.error(Failure(404, f"no such path: {request.path}")))

    def inspect(self, request: ProviderRequest) -> Subject:
        messages = [(str(m.get("role")), list(blocks_of(m.get("content")))) for m in request.messages]
        return Subject(self, request, messages, join_turns(messages))

    def thinking_block(self, text: str) -> Json:
        """Return a thinking block with this server's signature."""
        return {"type": "thinking", "thinking": text, "signature": self.sign(text)}

    def account(self, request: ProviderRequest, reply: Reply) -> Json:
        prompt = render(request.body, self.inspect(request).turns)
        usage = self._cache.use(prompt, min_cacheable_tokens(request.model), self.clock())
        thinking_tokens = reply.thinking_tokens if self._thinks(request) else 0
        return {**usage, "output_tokens": reply.output_tokens + thinking_tokens}

    def _thinks(self, request: ProviderRequest) -> bool:
        """Return whether the reply may think; with `thinking-first` disabled, a loop without thinking switches it off."""
        kind = (request.body.get("thinking") or {}).get("type", "disabled")
        turns = self.inspect(request).turns
        index = open_loop_start(turns)
        is_broken = index is not None and turns[index][1][0].get("type") not in THINKING_TYPES
        return kind == "adaptive" or (kind == "enabled" and not is_broken)

    def _content(self, request: ProviderRequest, reply: Reply) -> list[Json]:
        content: list[Json] = []
        if reply.thinking and self._thinks(request):
            content.append(self.thinking_block(reply.thinking))
        if reply.text:
            content.append({"type": "text", "text": reply.text})
        for call in reply.calls:
            call_id = call.id or self.mint("toolu_01")
            content.append({"type": "tool_use", "id": call_id, "name": call.name, "input": call.arguments})
        return content

    def _message(self, request: ProviderRequest, content: list[Json], stop: str | None, usage: Json) -> Json:
        return {
            "id": self.mint("msg_01"),
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": usage,
        }

    def _stop(self, reply: Reply) -> str:
        return reply.finish_reason or ("tool_use" if reply.calls else "end_turn")

    def whole(self, request: ProviderRequest, reply: Reply, usage: Json) -> Json:
        return self._message(request, self._content(request, reply), self._stop(reply), usage)

    def stream(self, request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str | bytes]:
        start = self._message(request, [], None, {**usage, "output_tokens": 1})
        yield _event("message_start", message=start)
        for index, block in enumerate(self._content(request, reply)):
            yield from _block_events(index, block)
            if reply.is_cut and block["type"] == "text":
                return
        delta = {"stop_reason": self._stop(reply), "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage={"output_tokens": usage["output_tokens"]})
        yield _event("message_stop")

    def error(self, failure: Failure) -> Json:
        kind = ERROR_TYPES.get(failure.status, "api_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": failure.message},
            "request_id": self.mint("req_011"),
        }


def _event(kind: str, **fields: Any) -> str:
    return f"event: {kind}\ndata: {dump({'type': kind, **fields})}\n\n"


def _block_events(index: int, block: Json) -> Iterator[str]:
    kind = block["type"]
    empty: Json = (
        {"input": {}} if kind == "tool_use" else {kind: "", **({"signature": ""} if kind == "thinking" else {})}
    )
    yield _event("content_block_start", index=index, content_block={**block, **empty})
    if kind == "tool_use":
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in fragments(dump(block["input"]))]
    else:
        deltas = [{"type": f"{kind}_delta", kind: part} for part in fragments(block[kind])]
    if kind == "thinking":
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    for delta in deltas:
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)
