"""Anthropic's Messages API on loopback: its refusals, its prompt cache and its stream.

Neighbouring messages of one role are joined, as the API reference says. The rules are in the `anthropic_*_rules`
modules, the cache in `anthropic_prompt_cache`.

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

from collections.abc import Iterator
from typing import Any

from tests.support.providers import (
    anthropic_cache_rules,
    anthropic_content_rules,
    anthropic_field_rules,
    anthropic_thinking_rules,
    anthropic_tool_rules,
)
from tests.support.providers.anthropic_prompt_cache import PromptCache, min_cacheable_tokens, render
from tests.support.providers.anthropic_subject import THINKING_TYPES, Subject, join_turns, open_loop_start
from tests.support.providers.strict_server import (
    Failure,
    Json,
    ProviderRequest,
    Reply,
    Response,
    RuleBook,
    StrictServer,
    blocks_of,
    dump,
    fragments,
)

BOOK = RuleBook(
    [
        *anthropic_field_rules.BOOK.rules,
        *anthropic_cache_rules.BOOK.rules,
        *anthropic_thinking_rules.BOOK.rules,
        *anthropic_tool_rules.BOOK.rules,
        *anthropic_content_rules.BOOK.rules,
    ]
)

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


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
