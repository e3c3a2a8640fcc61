"""Chat completions on loopback, as nine providers really behave: their refusals, caches and streams.

The flavours: openai, azure, openrouter, xai, deepseek, moonshot, mistral, alternating (chat templates with strict roles in
vLLM and llama.cpp) and ollama (`/api/chat`). A rule holds for the flavours for which its source speaks. Enabling a rule by
name makes it hold for any flavour.

| rule | holds for | source |
|---|---|---|
| unknown-message-field | azure, openai | openai-python, types/chat/*_param.py; songquanpeng/one-api#1319; QwenLM/qwen-code#3304 |
| extra-forbidden | mistral | BerriAI/litellm#30835; charmbracelet/crush#1590; zeroclaw-labs/zeroclaw#2693 |
| cache-control | azure, openai | openai-python, types/chat/*_param.py; quoted by public clients for GPT-5 models |
| content-null | azure, openai | langchain-ai/langchainjs#4153; songquanpeng/one-api#784 |
| content-missing | xai | langchain-ai/langchain#34140; charmbracelet/crush#964; AstrBotDevs/AstrBot#6447 |
| assistant-empty | moonshot | labring/FastGPT#3575; MoonshotAI/kimi-code#1985; AstrBotDevs/AstrBot#7202 |
| mistral-assistant-empty | mistral | mistralai/mistral-common, protocol/instruct/validator.py |
| content-string | ollama | BerriAI/litellm#11273 |
| text-only | deepseek | chatboxai/chatbox#1740; esengine/DeepSeek-Reasonix#7859 |
| name-pattern | azure, openai | crazyyanchao/llmcompiler#1 |
| tool-without-call | azure, deepseek, mistral, openai | miurla/morphic#136; FoundationAgents/OpenManus#744; mistralai/mistral-common, protocol/instruct/validator.py |
| call-without-result | azure, deepseek, mistral, openai | aliasrobotics/cai#111; langgenius/dify#32222; mistralai/mistral-common, protocol/instruct/validator.py |
| tool-result-duplicate | azure, mistral, openai | agno-agi/agno#5116; anomalyco/opencode#1211; mistralai/mistral-common, protocol/instruct/validator.py |
| call-id-duplicate | mistral | mistralai/mistral-common, protocol/instruct/validator.py |
| call-id-length | azure, openai | vercel/ai#5171; agno-agi/agno#5382 |
| mistral-call-id | mistral | mistralai/mistral-common, protocol/instruct/validator.py; anomalyco/opencode#1680; langchain-ai/langchain#24668 |
| mistral-role-order | mistral | mistralai/mistral-common, protocol/instruct/validator.py |
| mistral-last-role | mistral | mistralai/mistral-common, protocol/instruct/validator.py |
| roles-alternate | alternating | microsoft/autogen#1037; google/adk-python#1373; withcatai/node-llama-cpp#263 |
| arguments-json | alternating | vllm-project/vllm#43995; OpenHands/software-agent-sdk#2887 |
| arguments-object | ollama | aliasrobotics/cai#76; ollama/ollama#12794 |
| reasoning-missing | deepseek, moonshot | api-docs.deepseek.com/guides/thinking_mode; continuedev/continue#10193; zeroclaw-labs/zeroclaw#5600; litellm llms/moonshot/chat/transformation.py |
| reasoning-details-changed | openrouter | openrouter.ai/docs, reasoning tokens, preserving reasoning blocks |
| reasoning-details-missing | off | RooCodeInc/Roo-Code#9506 |
| tool-name-pattern | azure, mistral, openai | hackers365/xiaozhi-esp32-server-golang#268; openai-python, types/shared_params; mistralai/mistral-common, protocol/instruct/validator.py |
| tool-schema | azure, openai | spring-projects/spring-ai#4776; tailcallhq/forgecode#1359; github/copilot-cli#2223 |
| tools-empty | off | QwenLM/qwen-code#643 (another provider) |
| max-tokens | azure, openai | decolua/9router#560 |
| temperature | azure, openai | gabrii/Cursor-Azure-GPT-5#33; OpenHands/OpenHands#4131 |
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
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
    common_prefix_chars,
    count_tokens,
    dump,
    fragments,
)

BOOK = RuleBook()
rule = BOOK.rule

OPENAI = ("openai", "azure")
OPENAI_TYPES = "openai-python, types/chat/*_param.py"
MISTRAL_VALIDATOR = "mistralai/mistral-common, protocol/instruct/validator.py"
DEEPSEEK_THINKING = "api-docs.deepseek.com/guides/thinking_mode"

# litellm's route for each flavour, and the path below the server's URL that the route expects.
ROUTES = {
    "openai": ("openai/", "/v1"),
    "azure": ("azure/", ""),
    "openrouter": ("openrouter/", "/api/v1"),
    "xai": ("xai/", "/v1"),
    "deepseek": ("deepseek/", "/v1"),
    "moonshot": ("moonshot/", "/v1"),
    "mistral": ("mistral/", "/v1"),
    "alternating": ("hosted_vllm/", "/v1"),
    "ollama": ("ollama_chat/", ""),
}
OPENAI_MIN_CACHED_TOKENS, OPENAI_CACHE_STEP_TOKENS = 1024, 128  # OpenAI cookbook, "Prompt Caching 201"
OPENAI_CACHE_SECONDS = 300  # the same page: entries stay active for 5 to 10 minutes of inactivity
MAX_CALL_ID_CHARS = 40
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")
OPENAI_REASONING = re.compile(r"^(o[134]|gpt-5)")
KIMI_THINKING = re.compile(r"thinking|kimi-k2\.[5-9]|kimi-k[3-9]")

COMMON_FIELDS = {"role", "content", "name"}
MESSAGE_FIELDS = {
    "assistant": COMMON_FIELDS | {"audio", "function_call", "refusal", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}
MISTRAL_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
}
CALL_FIELDS, FUNCTION_FIELDS = {"id", "type", "function", "custom"}, {"name", "arguments"}
MISTRAL_CALL_FIELDS = {"id", "type", "function", "index"}


@dataclass
class Subject:
    """A request and the server that judges it."""

    server: StrictChatCompletions
    request: ProviderRequest

    @property
    def body(self) -> Json:
        return self.request.body

    @property
    def flavour(self) -> str:
        return self.server.flavour

    @property
    def messages(self) -> list[Json]:
        return self.request.messages

    @property
    def thinks(self) -> bool:
        """Whether the request uses a thinking mode that needs its reasoning back."""
        switch = (self.body.get("thinking") or {}).get("type")
        if switch:
            return bool(switch == "enabled")
        if self.flavour == "deepseek":  # DEEPSEEK_THINKING: enabled by default; deepseek-chat is the alias without it
            return self.request.model != "deepseek-chat"
        return bool(KIMI_THINKING.search(self.request.model))

    def calls(self) -> Iterator[tuple[int, int, Json]]:
        for index, message in enumerate(self.messages):
            for position, call in enumerate(message.get("tool_calls") or []):
                yield index, position, call

    def exchanges(self) -> Iterator[tuple[int, list[str], list[str]]]:
        """Yield each assistant message with calls: its index, the call ids and the ids that the tool messages answer."""
        for index, message in enumerate(self.messages):
            if not (calls := message.get("tool_calls")):
                continue
            result_ids = []
            for later in self.messages[index + 1 :]:
                if later.get("role") != "tool":
                    break
                result_ids.append(str(later.get("tool_call_id")))
            yield index, [str(call.get("id")) for call in calls], result_ids


@rule(
    "unknown-message-field",
    f"{OPENAI_TYPES}; songquanpeng/one-api#1319; QwenLM/qwen-code#3304",
    flavours=OPENAI,
)
def _unknown_message_field(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        allowed = MESSAGE_FIELDS.get(str(message.get("role")), COMMON_FIELDS)
        yield from (f"Unknown parameter: 'messages[{index}].{name}'." for name in message if name not in allowed)
    for index, position, call in subject.calls():
        place = f"messages[{index}].tool_calls[{position}]"
        yield from (f"Unknown parameter: '{place}.{name}'." for name in call if name not in CALL_FIELDS)
        inner = call.get("function") or {}
        yield from (f"Unknown parameter: '{place}.function.{name}'." for name in inner if name not in FUNCTION_FIELDS)


@rule(
    "extra-forbidden",
    "BerriAI/litellm#30835; charmbracelet/crush#1590; zeroclaw-labs/zeroclaw#2693",
    flavours=["mistral"],
    status=422,
)
def _extra_forbidden(subject: Subject) -> Iterator[str]:
    if "max_completion_tokens" in subject.body:  # editor-code-assistant/eca#231
        yield _forbidden("max_completion_tokens")
    for index, message in enumerate(subject.messages):
        role = str(message.get("role"))
        for name in set(message) - MISTRAL_FIELDS.get(role, set(message)):
            yield _forbidden("messages", index, role, name)
    for index, position, call in subject.calls():
        for name in set(call) - MISTRAL_CALL_FIELDS:
            yield _forbidden("messages", index, "assistant", "tool_calls", position, name)
        for name in set(call.get("function") or {}) - FUNCTION_FIELDS:
            yield _forbidden("messages", index, "assistant", "tool_calls", position, "function", name)


def _forbidden(*place: Any) -> str:
    return dump({"type": "extra_forbidden", "loc": ["body", *place], "msg": "Extra inputs are not permitted"})


# Public code quotes "Unknown parameter: 'messages[0].content[0].cache_control'" for GPT-5 models; GPT-4o ignores the field.
@rule("cache-control", f"{OPENAI_TYPES}; quoted by public clients for GPT-5 models", flavours=OPENAI)
def _cache_control(subject: Subject) -> Iterator[str]:
    if not OPENAI_REASONING.match(subject.request.model) and not subject.server.is_strict_about_cache_control:
        return
    for index, message in enumerate(subject.messages):
        for position, block in enumerate(blocks_of(message.get("content"))):
            if "cache_control" in block:
                yield f"Unknown parameter: 'messages[{index}].content[{position}].cache_control'."


@rule("content-null", "langchain-ai/langchainjs#4153; songquanpeng/one-api#784", flavours=OPENAI)
def _content_null(subject: Subject) -> Iterator[str]:
    for message in subject.messages:
        has_call = message.get("tool_calls") or message.get("function_call")
        if message.get("content") is None and not (message.get("role") == "assistant" and has_call):
            yield "Invalid value for 'content': expected a string, got null."


@rule(
    "content-missing",
    "langchain-ai/langchain#34140; charmbracelet/crush#964; AstrBotDevs/AstrBot#6447",
    flavours=["xai"],
)
def _content_missing(subject: Subject) -> Iterator[str]:
    if any(message.get("content") in (None, []) for message in subject.messages):
        yield "Invalid request content: Each message must have at least one content element."


@rule(
    "assistant-empty",
    "labring/FastGPT#3575; MoonshotAI/kimi-code#1985; AstrBotDevs/AstrBot#7202",
    flavours=["moonshot"],
)
def _assistant_empty(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        if message.get("role") == "assistant" and not message.get("content") and not message.get("tool_calls"):
            yield f"Invalid request: the message at position {index} with role 'assistant' must not be empty"


@rule("mistral-assistant-empty", MISTRAL_VALIDATOR, flavours=["mistral"])
def _mistral_assistant_empty(subject: Subject) -> Iterator[str]:
    for message in subject.messages:
        if message.get("role") == "assistant" and not message.get("content") and not message.get("tool_calls"):
            yield "Assistant message must have either content or tool_calls, but not none."


@rule("content-string", "BerriAI/litellm#11273", flavours=["ollama"])
def _content_string(subject: Subject) -> Iterator[str]:
    if any(isinstance(message.get("content"), list) for message in subject.messages):
        yield "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"


@rule("text-only", "chatboxai/chatbox#1740; esengine/DeepSeek-Reasonix#7859", flavours=["deepseek"])
def _text_only(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        if any(block.get("type") != "text" for block in blocks_of(message.get("content"))):
            yield (
                "Failed to deserialize the JSON body into the target type: "
                f"messages[{index}]: unknown variant `image_url`, expected `text`"
            )


@rule("name-pattern", "crazyyanchao/llmcompiler#1", flavours=OPENAI)
def _name_pattern(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        if "name" in message and not NAME.fullmatch(str(message["name"])):
            yield _pattern_fault(f"messages[{index}].name")


def _pattern_fault(place: str) -> str:
    return f"Invalid '{place}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."


@rule(
    "tool-without-call",
    f"miurla/morphic#136; FoundationAgents/OpenManus#744; {MISTRAL_VALIDATOR}",
    flavours=[*OPENAI, "deepseek", "mistral"],
)
def _tool_without_call(subject: Subject) -> Iterator[str]:
    call_ids = {index: ids for index, ids, _ in subject.exchanges()}
    open_ids: list[str] = []
    for index, message in enumerate(subject.messages):
        if message.get("role") != "tool":
            open_ids = call_ids.get(index, [])
        elif message.get("tool_call_id") not in open_ids:
            yield "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'."


@rule(
    "call-without-result",
    f"aliasrobotics/cai#111; langgenius/dify#32222; {MISTRAL_VALIDATOR}",
    flavours=[*OPENAI, "deepseek", "mistral"],
)
def _call_without_result(subject: Subject) -> Iterator[str]:
    for _, ids, result_ids in subject.exchanges():
        if missing := [call for call in ids if call not in result_ids]:
            yield (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
                f"The following tool_call_ids did not have response messages: {', '.join(missing)}"
            )


@rule(
    "tool-result-duplicate",
    f"agno-agi/agno#5116; anomalyco/opencode#1211; {MISTRAL_VALIDATOR}",
    flavours=[*OPENAI, "mistral"],
)
def _tool_result_duplicate(subject: Subject) -> Iterator[str]:
    for index, _, result_ids in subject.exchanges():
        for call, count in Counter(result_ids).items():
            if count > 1:
                yield f"Invalid parameter: Duplicate value for 'tool_call_id' of '{call}', after messages[{index}]."


@rule("call-id-duplicate", MISTRAL_VALIDATOR, flavours=["mistral"])
def _call_id_duplicate(subject: Subject) -> Iterator[str]:
    for _, ids, _ in subject.exchanges():
        yield from (f"Duplicate tool call id {call} in assistant message" for call, n in Counter(ids).items() if n > 1)


@rule("call-id-length", "vercel/ai#5171; agno-agi/agno#5382", flavours=OPENAI)
def _call_id_length(subject: Subject) -> Iterator[str]:
    for index, position, call in subject.calls():
        if (length := len(str(call.get("id")))) > MAX_CALL_ID_CHARS:
            yield (
                f"Invalid 'messages[{index}].tool_calls[{position}].id': string too long. Expected a string with maximum "
                f"length {MAX_CALL_ID_CHARS}, but got a string with length {length} instead."
            )


@rule(
    "mistral-call-id",
    f"{MISTRAL_VALIDATOR}; anomalyco/opencode#1680; langchain-ai/langchain#24668",
    flavours=["mistral"],
)
def _mistral_call_id(subject: Subject) -> Iterator[str]:
    ids = [call.get("id") for _, _, call in subject.calls()]
    ids += [message.get("tool_call_id") for message in subject.messages if message.get("role") == "tool"]
    for call_id in ids:
        if not MISTRAL_ID.fullmatch(str(call_id)):
            yield f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9."


@rule("mistral-role-order", MISTRAL_VALIDATOR, flavours=["mistral"])
def _mistral_role_order(subject: Subject) -> Iterator[str]:
    roles = [str(message.get("role")) for message in subject.messages]
    for earlier, later in pairwise(roles):
        if (earlier == "tool" and later not in ("assistant", "tool")) or (
            later == "tool" and earlier in ("user", "system")
        ):
            yield f"Unexpected role '{later}' after role '{earlier}'"


@rule("mistral-last-role", MISTRAL_VALIDATOR, flavours=["mistral"])
def _mistral_last_role(subject: Subject) -> Iterator[str]:
    last = subject.messages[-1]
    if last.get("role") == "assistant" and not last.get("prefix"):
        yield "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"


# The templates count user messages and plain replies; this server lets tool exchanges pass between them.
@rule(
    "roles-alternate",
    "microsoft/autogen#1037; google/adk-python#1373; withcatai/node-llama-cpp#263",
    flavours=["alternating"],
)
def _roles_alternate(subject: Subject) -> Iterator[str]:
    messages = subject.messages[1:] if subject.messages[0].get("role") == "system" else subject.messages
    plain = [m for m in messages if m.get("role") != "tool" and not m.get("tool_calls")]
    if any((message.get("role") == "user") != (index % 2 == 0) for index, message in enumerate(plain)):
        yield "Conversation roles must alternate user/assistant/user/assistant/..."


@rule("arguments-json", "vllm-project/vllm#43995; OpenHands/software-agent-sdk#2887", flavours=["alternating"])
def _arguments_json(subject: Subject) -> Iterator[str]:
    for _, _, call in subject.calls():
        try:
            json.loads(call["function"]["arguments"] or "{}")
        except (TypeError, ValueError) as error:
            yield f"Failed to parse tool call arguments as JSON: {error}"


@rule("arguments-object", "aliasrobotics/cai#76; ollama/ollama#12794", flavours=["ollama"])
def _arguments_object(subject: Subject) -> Iterator[str]:
    if any(not isinstance(call["function"].get("arguments"), dict) for _, _, call in subject.calls()):
        yield (
            "json: cannot unmarshal string into Go struct field ChatRequest.messages.tool_calls.function.arguments of type "
            "api.ToolCallFunctionArguments"
        )


@rule(
    "reasoning-missing",
    f"{DEEPSEEK_THINKING}; continuedev/continue#10193; zeroclaw-labs/zeroclaw#5600; litellm llms/moonshot/chat/transformation.py",
    flavours=["deepseek", "moonshot"],
)
def _reasoning_missing(subject: Subject) -> Iterator[str]:
    if not subject.thinks:
        return
    for index, message in enumerate(subject.messages):
        if message.get("tool_calls") and not isinstance(message.get("reasoning_content"), str):
            if subject.flavour == "moonshot":
                yield f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {index}"
            yield "The `reasoning_content` in the thinking mode must be passed back to the API."


@rule(
    "reasoning-details-changed",
    "openrouter.ai/docs, reasoning tokens, preserving reasoning blocks",
    flavours=["openrouter"],
)
def _reasoning_details_changed(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        details = message.get("reasoning_details")
        if details and dump(details) not in subject.server.issued_details:
            yield f"messages.{index}: reasoning_details do not match the model's original output"


# "Some upstreams 400 without echoed reasoning": true of Gemini behind OpenRouter, not of every model.
@rule("reasoning-details-missing", "RooCodeInc/Roo-Code#9506", flavours=["openrouter"], is_default=False)
def _reasoning_details_missing(subject: Subject) -> Iterator[str]:
    for index, message in enumerate(subject.messages):
        ids = {str(call.get("id")) for call in message.get("tool_calls") or []}
        if ids & subject.server.calls_with_details and not message.get("reasoning_details"):
            yield f"messages.{index}: reasoning_details are missing"


@rule(
    "tool-name-pattern",
    f"hackers365/xiaozhi-esp32-server-golang#268; openai-python, types/shared_params; {MISTRAL_VALIDATOR}",
    flavours=[*OPENAI, "mistral"],
)
def _tool_name_pattern(subject: Subject) -> Iterator[str]:
    for index, tool in enumerate(subject.body.get("tools") or []):
        if not NAME.fullmatch(str((tool.get("function") or {}).get("name", ""))):
            yield _pattern_fault(f"tools[{index}].function.name")


@rule(
    "tool-schema", "spring-projects/spring-ai#4776; tailcallhq/forgecode#1359; github/copilot-cli#2223", flavours=OPENAI
)
def _tool_schema(subject: Subject) -> Iterator[str]:
    for tool in subject.body.get("tools") or []:
        function = tool.get("function") or {}
        schema = function.get("parameters")
        if schema and schema.get("type") == "object" and "properties" not in schema:
            yield f"Invalid schema for function '{function.get('name')}': In context=(), object schema missing properties."


@rule("tools-empty", "QwenLM/qwen-code#643 (another provider)", is_default=False)
def _tools_empty(subject: Subject) -> Iterator[str]:
    if subject.body.get("tools") == []:
        yield "[] is too short - 'tools'"


@rule("max-tokens", "decolua/9router#560", flavours=OPENAI)
def _max_tokens(subject: Subject) -> Iterator[str]:
    if OPENAI_REASONING.match(subject.request.model) and "max_tokens" in subject.body:
        yield (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )


@rule("temperature", "gabrii/Cursor-Azure-GPT-5#33; OpenHands/OpenHands#4131", flavours=OPENAI)
def _temperature(subject: Subject) -> Iterator[str]:
    value = subject.body.get("temperature", 1)
    if OPENAI_REASONING.match(subject.request.model) and value != 1:
        yield (
            f"Unsupported value: 'temperature' does not support {value} with this model. Only the default (1) value is "
            "supported."
        )


class PrefixCache:
    """Automatic prefix caching: the longest prefix that an earlier request of the model shares."""

    def __init__(self) -> None:
        self._prompts: list[tuple[str, str, float]] = []

    def use(self, model: str, prompt: str, now: float, lifetime_seconds: float | None) -> int:
        """Return the shared tokens and remember the prompt."""
        live = [entry for entry in self._prompts if lifetime_seconds is None or now - entry[2] < lifetime_seconds]
        shared = max((common_prefix_chars(prompt, text) for owner, text, _ in live if owner == model), default=0)
        self._prompts = [*live, (model, prompt, now)]
        return count_tokens(prompt[:shared])


class PrefixUnits:
    """DeepSeek's cache: a request hits only a whole unit (api-docs.deepseek.com/guides/kv_cache).

    Units end at the end of a prompt, at the end of a reply, and where two requests part.
    """

    def __init__(self) -> None:
        self._units: set[str] = set()
        self._prompts: list[str] = []

    def use(self, prompt: str, reply: str) -> int:
        """Return the tokens of the longest unit that the prompt starts with, and store the new units."""
        hit = max((len(unit) for unit in self._units if prompt.startswith(unit)), default=0)
        shared = max((common_prefix_chars(prompt, earlier) for earlier in self._prompts), default=0)
        self._prompts.append(prompt)
        self._units |= {prompt, prompt + reply, prompt[:shared]} - {""}
        return count_tokens(prompt[:hit])


class StrictChatCompletions(StrictServer):
    """POST …/chat/completions, or /api/chat for ollama. Use with litellm as `model(name)` and `**options`."""

    book = BOOK

    def __init__(
        self, flavour: str, *script: Reply | Failure, is_strict_about_cache_control: bool = False, **options: Any
    ) -> None:
        if flavour not in ROUTES:
            raise ValueError(f"flavour must be one of {sorted(ROUTES)!r}, not {flavour!r}")
        self.flavour = flavour
        self.is_strict_about_cache_control = is_strict_about_cache_control
        self.issued_details: set[str] = set()
        self.calls_with_details: set[str] = set()
        self._prefixes, self._units = PrefixCache(), PrefixUnits()
        self.api_path = ROUTES[flavour][1]
        if flavour == "ollama":
            self.content_type = "application/x-ndjson"
        super().__init__(*script, **options)

    @property
    def options(self) -> Json:
        return super().options | ({"api_version": "2025-04-01-preview"} if self.flavour == "azure" else {})

    def model(self, name: str) -> str:
        return ROUTES[self.flavour][0] + name

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Describe a model to litellm's Ollama route (POST /api/show); refuse any other path."""
        if request.path.endswith("/api/show"):
            return Response(200, {"capabilities": ["completion", "tools", "thinking"], "template": "{{ .Tools }}"})
        path = request.path.split("?")[0]
        if not path.endswith("/api/chat" if self.flavour == "ollama" else "/chat/completions"):
            return Response(404, self.error(Failure(404, f"no such path: {path}")))
        return None

    def inspect(self, request: ProviderRequest) -> Subject:
        return Subject(self, request)

    def is_stream(self, request: ProviderRequest) -> bool:
        return bool(request.body.get("stream", self.flavour == "ollama"))  # Ollama streams unless told not to

    def account(self, request: ProviderRequest, reply: Reply) -> Json:
        lines = [dump(message) for message in request.messages]
        prompt = "\n".join([dump(request.body.get("tools") or []), *lines]) + "\n"
        prompt_tokens, thinking_tokens = count_tokens(prompt), reply.thinking_tokens
        completion_tokens = reply.output_tokens + thinking_tokens
        usage: Json = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        if thinking_tokens:
            usage["completion_tokens_details"] = {"reasoning_tokens": thinking_tokens}
        return usage | self._cache_report(request, reply, prompt, prompt_tokens)

    def _cache_report(self, request: ProviderRequest, reply: Reply, prompt: str, prompt_tokens: int) -> Json:
        if self.flavour == "deepseek":
            reply_message = dump({"role": "assistant", "content": reply.text}) + "\n"
            hit = self._units.use(prompt, reply_message)
            report = {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": prompt_tokens - hit}
            return report | {"prompt_tokens_details": {"cached_tokens": hit}}
        if self.flavour in ("openai", "azure", "openrouter"):
            shared = self._prefixes.use(request.model, prompt, self.clock(), OPENAI_CACHE_SECONDS)
            steps = (shared - OPENAI_MIN_CACHED_TOKENS) // OPENAI_CACHE_STEP_TOKENS
            cached = OPENAI_MIN_CACHED_TOKENS + steps * OPENAI_CACHE_STEP_TOKENS if steps >= 0 else 0
            return {"prompt_tokens_details": {"cached_tokens": cached}}
        if self.flavour == "xai":  # docs.x.ai, prompt caching: any shared prefix counts
            return {"prompt_tokens_details": {"cached_tokens": self._prefixes.use(request.model, prompt, 0, None)}}
        return {}

    def forget_cache(self) -> None:
        """Drop all cached prefixes, as providers do when they need the memory."""
        self._prefixes = PrefixCache()

    def _call_id(self, name: str) -> str:
        if self.flavour == "mistral":
            return self.mint("", 9)
        if self.flavour == "moonshot":  # can1357/oh-my-pi#2055 shows the form of Kimi's ids
            self._minted += 1
            return f"functions.{name}:{self._minted}"
        return self.mint("call_")

    def _calls(self, reply: Reply) -> list[Json]:
        return [
            {
                "id": call.id or self._call_id(call.name),
                "type": "function",
                "function": {"name": call.name, "arguments": dump(call.arguments)},
            }
            for call in reply.calls
        ]

    def _reasoning(self, reply: Reply, calls: list[Json]) -> Json:
        """Return the reasoning fields of a reply in the flavour's form. OpenAI and Mistral show none."""
        if not reply.thinking or self.flavour in (*OPENAI, "mistral"):
            return {}
        if self.flavour != "openrouter":
            return {"reasoning_content": reply.thinking}
        details = [
            {"type": "reasoning.text", "text": reply.thinking, "signature": self.sign(reply.thinking), "index": 0}
        ]
        self.issued_details.add(dump(details))
        self.calls_with_details |= {call["id"] for call in calls}
        return {"reasoning": reply.thinking, "reasoning_details": details}

    def whole(self, request: ProviderRequest, reply: Reply, usage: Json) -> Json:
        if self.flavour == "ollama":
            return self._ollama(request, reply, usage)
        calls = self._calls(reply)
        message: Json = {"role": "assistant", "content": reply.text or None, **self._reasoning(reply, calls)}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": self._finish(reply)}
        return self._head(request, "chat.completion") | {"choices": [choice], "usage": usage}

    def _head(self, request: ProviderRequest, kind: str) -> Json:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": request.model}

    def _finish(self, reply: Reply) -> str:
        return reply.finish_reason or ("tool_calls" if reply.calls else "stop")

    def stream(self, request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str | bytes]:
        if self.flavour == "ollama":
            yield from self._ollama_stream(request, reply, usage)
            return
        head = self._head(request, "chat.completion.chunk")
        for delta in self._deltas(reply):
            yield _line(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if reply.is_cut:
            return
        yield _line(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": self._finish(reply)}]})
        if self.flavour == "mistral" or (request.body.get("stream_options") or {}).get("include_usage"):
            yield _line(head | {"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    def _deltas(self, reply: Reply) -> Iterator[Json]:
        calls = self._calls(reply)
        reasoning = self._reasoning(reply, calls)
        yield {"role": "assistant", "content": ""}
        for name in ("reasoning", "reasoning_content"):
            yield from ({name: part} for part in fragments(reasoning.get(name, "")))
        if "reasoning_details" in reasoning:
            yield {"reasoning_details": reasoning["reasoning_details"]}
        yield from ({"content": part} for part in fragments(reply.text))
        for index, call in enumerate(calls if not reply.is_cut else []):
            arguments = call["function"]["arguments"]
            start = {**call, "function": {**call["function"], "arguments": ""}}
            yield {"tool_calls": [{"index": index, **start}]}
            for part in fragments(arguments):
                yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}

    def _ollama(self, request: ProviderRequest, reply: Reply, usage: Json) -> Json:
        message: Json = {"role": "assistant", "content": reply.text}
        if reply.thinking:
            message["thinking"] = reply.thinking
        if reply.calls:
            message["tool_calls"] = [{"function": {"name": c.name, "arguments": c.arguments}} for c in reply.calls]
        counts = {"prompt_eval_count": usage["prompt_tokens"], "eval_count": usage["completion_tokens"]}
        head = {"model": request.model, "created_at": "2025-01-01T00:00:00Z", "done": True}
        return head | {"done_reason": reply.finish_reason or "stop", "message": message, **counts}

    def _ollama_stream(self, request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str]:
        last = self._ollama(request, reply, usage)
        parts = [{"thinking": part, "content": ""} for part in fragments(reply.thinking)]
        parts += [{"content": part} for part in fragments(reply.text)]
        head = {"model": request.model, "created_at": last["created_at"], "done": False}
        for part in parts:
            yield dump(head | {"message": {"role": "assistant", **part}}) + "\n"
        if not reply.is_cut:
            calls = {"tool_calls": last["message"]["tool_calls"]} if reply.calls else {}
            yield dump(last | {"message": {"role": "assistant", "content": "", **calls}}) + "\n"

    def error(self, failure: Failure) -> Json:
        if self.flavour == "ollama":
            return {"error": failure.message}
        if self.flavour == "xai":
            return {"code": "Client specified an invalid argument", "error": failure.message}
        kind = "invalid_request_error" if failure.status < 429 else "server_error"
        if self.flavour in ("mistral", "alternating"):
            return {"object": "error", "message": failure.message, "type": kind, "param": None, "code": failure.status}
        return {"error": {"message": failure.message, "type": kind, "param": None, "code": None}}


def _line(value: Json) -> str:
    return f"data: {dump(value)}\n\n"
