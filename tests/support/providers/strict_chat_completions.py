"""Chat completions on loopback, as nine providers really behave: their refusals, caches and streams.

The flavours: openai, azure, openrouter, xai, deepseek, moonshot, mistral, alternating (chat templates with strict roles in
vLLM and llama.cpp) and ollama (`/api/chat`). A rule holds for the flavours for which its source speaks. Enabling a rule by
name makes it hold for any flavour. The rules are in the `chat_*_rules` modules.

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

from collections.abc import Iterator
from typing import Any

from tests.support.providers import chat_message_rules, chat_parameter_rules, chat_reasoning_rules, chat_tool_call_rules
from tests.support.providers.chat_prefix_caches import PrefixCache, PrefixUnits
from tests.support.providers.chat_replies import error_body, event_line, message_deltas, ollama_body, ollama_lines
from tests.support.providers.chat_subject import OPENAI, Subject
from tests.support.providers.strict_server import (
    Failure,
    Json,
    ProviderRequest,
    Reply,
    Response,
    RuleBook,
    StrictServer,
    count_tokens,
    dump,
)

BOOK = RuleBook(
    [
        *chat_message_rules.BOOK.rules,
        *chat_tool_call_rules.BOOK.rules,
        *chat_reasoning_rules.BOOK.rules,
        *chat_parameter_rules.BOOK.rules,
    ]
)

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
        return Subject(
            request, self.flavour, self.is_strict_about_cache_control, self.issued_details, self.calls_with_details
        )

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
            return ollama_body(request, reply, usage)
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
            yield from ollama_lines(request, reply, usage)
            return
        head = self._head(request, "chat.completion.chunk")
        calls = self._calls(reply)
        for delta in message_deltas(reply, calls, self._reasoning(reply, calls)):
            yield event_line(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if reply.is_cut:
            return
        yield event_line(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": self._finish(reply)}]})
        if self.flavour == "mistral" or (request.body.get("stream_options") or {}).get("include_usage"):
            yield event_line(head | {"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    def error(self, failure: Failure) -> Json:
        return error_body(self.flavour, failure)
