"""Gemini's generateContent and streamGenerateContent on loopback: refusals, thought signatures and implicit caching.

litellm reaches it as `gemini/<model>` with `api_base=server.url + "/v1beta"`: litellm appends `models/<model>:<method>`
(litellm llms/vertex_ai/vertex_llm_base.py, `_check_custom_proxy`).

| rule | holds for | source |
|---|---|---|
| unknown-field | all | litellm types/llms/vertex_ai.py, RequestBody and PartType; google-gemini/gemini-cli#13972; gera2ld/ai.nvim#13; Chevey339/kelivo#543 |
| schema-const | all | zed-industries/zed#44875 |
| parts-empty | all | egoist/chatwise-releases#250 |
| part-without-data | all | router-for-me/CLIProxyAPI#1292; google-gemini/gemini-cli#5575 |
| call-turn | all | google-gemini/gemini-cli#11814; lbjlaq/Antigravity-Manager#3396 |
| response-turn | all | langchain-ai/langchain#27799 |
| response-count | all | google-gemini/gemini-cli#4217; google-gemini/gemini-cli#16415 |
| signature-missing | all | ai.google.dev/gemini-api/docs/thought-signatures; lbjlaq/Antigravity-Manager#139 |
| signature-foreign | all | google-gemini/gemini-cli#13467; lbjlaq/Antigravity-Manager#970; litellm llms/vertex_ai/gemini/rejected_thought_signature_retry.py |
| last-role | off | crewAIInc/crewAI#6973 |
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.providers.strict_server import (
    Failure,
    Json,
    ProviderRequest,
    Reply,
    Response,
    RuleBook,
    StrictServer,
    common_prefix_chars,
    count_tokens,
    dump,
    fragments,
)

BOOK = RuleBook()
rule = BOOK.rule

SIGNATURE_DOCS = "ai.google.dev/gemini-api/docs/thought-signatures"
LITELLM_TYPES = "litellm types/llms/vertex_ai.py, RequestBody and PartType"

TOP_FIELDS = frozenset(
    [
        "contents",
        "tools",
        "toolConfig",
        "safetySettings",
        "systemInstruction",
        "generationConfig",
        "cachedContent",
        "labels",
        "serviceTier",
        "store",
        "model",
    ]
)
PART_FIELDS = frozenset(
    [
        "text",
        "inlineData",
        "fileData",
        "functionCall",
        "functionResponse",
        "executableCode",
        "codeExecutionResult",
        "thought",
        "thoughtSignature",
        "videoMetadata",
        "mediaResolution",
        "partMetadata",
        "toolCall",
        "toolResponse",
    ]
)
DATA_FIELDS = PART_FIELDS - {"thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"}
CALL_FIELDS = {
    "functionCall": {"id", "name", "args"},
    "functionResponse": {"id", "name", "response", "parts", "scheduling", "willContinue"},
}
# SIGNATURE_DOCS, FAQ: these texts replace a signature that another model could not issue. litellm sends the second in Base64.
PLACEHOLDERS = {"context_engineering_is_the_way_to_go", "skip_thought_signature_validator"}
SIGNATURE_REQUIRED = re.compile(r"gemini-([3-9]|\d\d)")
ERROR_STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
ERROR_STATUSES |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


def min_cached_tokens(model: str) -> int:
    """Return the minimum prompt for implicit caching: 2,048 for Gemini 2.5 and 4,096 for later models (ai.google.dev/gemini-api/docs/caching)."""
    return 2048 if "gemini-2.5" in model else 4096


def camel(name: str) -> str:
    """Return the canonical name of a field. The API's JSON accepts snake case as well."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


@dataclass
class Subject:
    """A request prepared for the checks, with camel-case field names in contents and parts."""

    server: StrictGemini
    request: ProviderRequest
    model: str
    contents: list[Json]

    def parts(self) -> Iterator[tuple[int, int, Json]]:
        for index, content in enumerate(self.contents):
            for position, part in enumerate(content["parts"]):
                yield index, position, part

    def has(self, index: int, kind: str) -> int:
        """Return how many parts of the kind a content has; 0 outside the conversation."""
        if not 0 <= index < len(self.contents):
            return 0
        return sum(1 for part in self.contents[index]["parts"] if kind in part)

    def turn_start(self) -> int:
        """Return the index of the last user content that is not only function responses: the current turn's start."""
        for index in range(len(self.contents) - 1, -1, -1):
            parts = self.contents[index]["parts"]
            if self.contents[index].get("role") == "user" and any("functionResponse" not in part for part in parts):
                return index
        return 0


@rule("unknown-field", f"{LITELLM_TYPES}; google-gemini/gemini-cli#13972; gera2ld/ai.nvim#13; Chevey339/kelivo#543")
def _unknown_field(subject: Subject) -> Iterator[str]:
    for name in subject.request.body:
        if camel(name) not in TOP_FIELDS:
            yield _unknown(name)
    for index, content in enumerate(subject.contents):
        yield from (_unknown(name, f"contents[{index}]") for name in set(content) - {"role", "parts"})
    for index, position, part in subject.parts():
        place = f"contents[{index}].parts[{position}]"
        yield from (_unknown(name, place) for name in set(part) - PART_FIELDS)
        for kind, allowed in CALL_FIELDS.items():
            names = set(part.get(kind, {})) - allowed
            if not SIGNATURE_REQUIRED.search(subject.model):  # LITELLM_TYPES: models before Gemini 3 reject ids
                names |= {"id"} & set(part.get(kind, {}))
            yield from (_unknown(name, f"{place}.{kind}") for name in names)


def _unknown(name: str, place: str = "") -> str:
    where = f" at '{place}'" if place else ""
    return f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'


@rule("schema-const", "zed-industries/zed#44875")
def _schema_const(subject: Subject) -> Iterator[str]:
    for index, tool in enumerate(subject.request.body.get("tools") or []):
        declarations = tool.get("functionDeclarations") or tool.get("function_declarations") or []
        for position, declaration in enumerate(declarations):
            if '"const":' in dump(declaration.get("parameters") or {}):
                yield _unknown("const", f"tools[{index}].function_declarations[{position}].parameters")


@rule("parts-empty", "egoist/chatwise-releases#250")
def _parts_empty(subject: Subject) -> Iterator[str]:
    for index, content in enumerate(subject.contents):
        if not content["parts"]:
            yield f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty."


@rule("part-without-data", "router-for-me/CLIProxyAPI#1292; google-gemini/gemini-cli#5575")
def _part_without_data(subject: Subject) -> Iterator[str]:
    for index, position, part in subject.parts():
        has_data = any(name in part and part[name] != "" for name in DATA_FIELDS)
        if not has_data and not part.get("thoughtSignature"):
            yield (
                f"* GenerateContentRequest.contents[{index}].parts[{position}].data: required oneof field 'data' must have "
                "one initialized field"
            )


@rule("call-turn", "google-gemini/gemini-cli#11814; lbjlaq/Antigravity-Manager#3396")
def _call_turn(subject: Subject) -> Iterator[str]:
    for index, content in enumerate(subject.contents):
        follows_user = index > 0 and subject.contents[index - 1].get("role") != "model"
        if content.get("role") == "model" and subject.has(index, "functionCall") and not follows_user:
            yield (
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
            )


@rule("response-turn", "langchain-ai/langchain#27799")
def _response_turn(subject: Subject) -> Iterator[str]:
    for index in range(len(subject.contents)):
        if subject.has(index, "functionResponse") and not subject.has(index - 1, "functionCall"):
            yield "Please ensure that function response turn comes immediately after a function call turn."


@rule("response-count", "google-gemini/gemini-cli#4217; google-gemini/gemini-cli#16415")
def _response_count(subject: Subject) -> Iterator[str]:
    for index in range(len(subject.contents)):
        calls = subject.has(index, "functionCall")
        if calls and calls != subject.has(index + 1, "functionResponse"):
            yield (
                "Please ensure that the number of function response parts is equal to the number of function call parts of "
                "the function call turn."
            )


@rule("signature-missing", f"{SIGNATURE_DOCS}; lbjlaq/Antigravity-Manager#139")
def _signature_missing(subject: Subject) -> Iterator[str]:
    if not SIGNATURE_REQUIRED.search(subject.model):
        return
    for index in range(subject.turn_start() + 1, len(subject.contents)):
        calls = [part for part in subject.contents[index]["parts"] if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            name = calls[0]["functionCall"].get("name")
            yield (
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
                "correctly, and missing thought_signature may lead to degraded model performance. Additional data, function "
                f"call `default_api:{name}`, position {index + 1}."
            )


@rule(
    "signature-foreign",
    "google-gemini/gemini-cli#13467; lbjlaq/Antigravity-Manager#970; litellm llms/vertex_ai/gemini/rejected_thought_signature_retry.py",
)
def _signature_foreign(subject: Subject) -> Iterator[str]:
    for _, _, part in subject.parts():
        signature = part.get("thoughtSignature")
        if signature and not subject.server.accepts_signature(signature):
            yield "Corrupted thought signature."


# Sources disagree: the message stems from Gemini 1.0, a public client still guards against it, and later models take prefills.
@rule("last-role", "crewAIInc/crewAI#6973", is_default=False)
def _last_role(subject: Subject) -> Iterator[str]:
    if subject.contents and subject.contents[-1].get("role") == "model":
        yield "Please ensure that multiturn requests end with a user role or a function response."


class StrictGemini(StrictServer):
    """POST /v1beta/models/<model>:generateContent and :streamGenerateContent."""

    book = BOOK
    flavour = "gemini"
    api_path = "/v1beta"

    def __init__(self, *script: Reply | Failure, **options: Any) -> None:
        self._prompts: list[tuple[str, str]] = []
        self._signatures: set[str] = set()
        super().__init__(*script, **options)

    def model(self, name: str = "gemini-3-pro-preview") -> str:
        return f"gemini/{name}"

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Refuse any method but the two that generate content."""
        if re.search(r":(g|streamG)enerateContent$", request.path.split("?")[0]):
            return None
        return Response(404, self.error(Failure(404, f"no such method: {request.path}")))

    def inspect(self, request: ProviderRequest) -> Subject:
        contents = [
            {**{camel(k): v for k, v in content.items()}, "parts": [_camel_part(p) for p in content.get("parts") or []]}
            for content in request.body.get("contents") or []
        ]
        return Subject(self, request, _model(request), contents)

    def issue_signature(self) -> str:
        """Return a new signature of this server."""
        signature = self.sign(self.mint("thought"))
        self._signatures.add(signature)
        return signature

    def accepts_signature(self, signature: str) -> bool:
        encoded = {base64.b64encode(text.encode()).decode() for text in PLACEHOLDERS}
        return signature in self._signatures | PLACEHOLDERS | encoded

    def is_stream(self, request: ProviderRequest) -> bool:
        return ":streamGenerateContent" in request.path

    def account(self, request: ProviderRequest, reply: Reply) -> Json:
        body = request.body
        system = body.get("systemInstruction") or body.get("system_instruction")
        lines = [dump(content) for content in body.get("contents") or []]
        prompt = "\n".join([dump(system), dump(body.get("tools")), *lines]) + "\n"
        tokens = count_tokens(prompt)
        usage = {"promptTokenCount": tokens, "candidatesTokenCount": reply.output_tokens}
        if reply.thinking:
            usage["thoughtsTokenCount"] = reply.thinking_tokens
        usage["totalTokenCount"] = tokens + reply.output_tokens + reply.thinking_tokens
        if cached := self._cached_tokens(_model(request), prompt):
            usage["cachedContentTokenCount"] = cached
        return usage

    # The documentation gives no lifetime and no guarantee; here a prefix stays cached for ever.
    def _cached_tokens(self, model: str, prompt: str) -> int:
        shared = max((common_prefix_chars(prompt, text) for owner, text in self._prompts if owner == model), default=0)
        self._prompts.append((model, prompt))
        tokens = count_tokens(prompt[:shared])
        return tokens if tokens >= min_cached_tokens(model) else 0

    def _parts(self, request: ProviderRequest, reply: Reply) -> list[Json]:
        """Build the parts: the first call carries the signature, or the last part if there is no call."""
        parts: list[Json] = [{"text": reply.thinking, "thought": True}] if reply.thinking else []
        if reply.text:
            parts.append({"text": reply.text})
        calls: list[Json] = [{"functionCall": {"name": call.name, "args": call.arguments}} for call in reply.calls]
        parts += calls
        if parts and SIGNATURE_REQUIRED.search(_model(request)):
            signed = calls[0] if calls else parts[-1]
            signed["thoughtSignature"] = self.issue_signature()
        return parts

    def _chunk(self, request: ProviderRequest, parts: list[Json], finish: str | None, usage: Json) -> Json:
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": _model(request), "responseId": "r-1"}

    def whole(self, request: ProviderRequest, reply: Reply, usage: Json) -> Json:
        return self._chunk(request, self._parts(request, reply), reply.finish_reason or "STOP", usage)

    def stream(self, request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str | bytes]:
        for part in self._parts(request, reply):
            pieces = fragments(part["text"]) if "text" in part else []
            for piece in pieces[:-1]:
                opened = {key: value for key, value in part.items() if key != "thoughtSignature"}
                yield _line(self._chunk(request, [{**opened, "text": piece}], None, usage))
            last = {**part, "text": pieces[-1]} if pieces else part
            yield _line(self._chunk(request, [last], None, usage))
            if reply.is_cut and part.get("text") == reply.text:
                return
        yield _line(self._chunk(request, [{"text": ""}], reply.finish_reason or "STOP", usage))

    def error(self, failure: Failure) -> Json:
        status = ERROR_STATUSES.get(failure.status, "UNKNOWN")
        return {"error": {"code": failure.status, "message": failure.message, "status": status}}


def _model(request: ProviderRequest) -> str:
    return request.path.split("?")[0].rsplit("/", 1)[-1].split(":")[0]


def _camel_part(part: Json) -> Json:
    return {camel(name): value for name, value in part.items()}


def _line(value: Json) -> str:
    return f"data: {dump(value)}\r\n\r\n"
