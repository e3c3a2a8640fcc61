"""Amazon Bedrock's Converse API on loopback: signed requests, its own refusals, and those of Claude behind it.

A request is checked against the API's model, which is part of botocore, and then as the Converse API checks it. For Claude it
is translated and checked by the rules of `strict_anthropic` as well: Bedrock passes the refusals of the model on. The prompt cache
is that of `strict_anthropic`. The flavours: bedrock (Claude) and nova.

| rule | holds for | source |
|---|---|---|
| signature | all | docs.aws.amazon.com, Signature Version 4 signing process; botocore, auth.py |
| api-model | all | botocore, data/bedrock-runtime/2023-09-30/service-2.json |
| first-user | all | NousResearch/hermes-agent#63983 |
| roles-alternate | all | langgenius/dify#9294; langchain-ai/langchain-aws#192 |
| content-empty | all | archestra-ai/archestra#4220 |
| text-blank | all | aws-samples/bedrock-engineer#8; earendil-works/pi#4975 |
| tool-config | all | langgenius/dify#17545; nearai/ironclaw#1629 |
| results-missing | all | zeroclaw-labs/zeroclaw#1476 |
| results-unexpected | all | Just-Curieous/Curie#16; pydantic/pydantic-ai#2327 |
| error-without-content | all | aws-samples/sample-multi-agent-orchestration-chat-on-agentcore#15 |
| cache-after-reasoning | all | strands-agents/harness-sdk#1820; 0xPlaygrounds/rig#1673 |
| cache-first-in-message | all | strands-agents/harness-sdk#3677 |
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

from tests.support.providers import strict_anthropic
from tests.support.providers.strict_anthropic import StrictAnthropic, join_turns
from tests.support.providers.strict_server import (
    Failure,
    Json,
    ProviderRequest,
    Reply,
    Response,
    RuleBook,
    blocks_of,
    dump,
    fragments,
)

BOOK = RuleBook()
rule = BOOK.rule

REGION, ACCESS_KEY, SECRET_KEY = "us-east-1", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
# The rules of the Messages API that need its own form of a request, or that the Converse API replaces.
NOT_IN_CONVERSE = {"required-field", "unknown-field", "system-role", "first-user", "roles-alternate", "cache-automatic"}
NOT_IN_CONVERSE |= {"tools-missing", "cache-mark-nested", "cache-mark-on-empty-text", "thinking-tool-choice"}


@dataclass
class Subject(strict_anthropic.Subject):
    """A request as Claude gets it, and `converse`, as it was sent."""

    converse: Json = field(default_factory=dict)
    sent: ProviderRequest = field(default_factory=lambda: ProviderRequest("", {}, {}))

    def converse_messages(self) -> list[tuple[str, list[Json]]]:
        return [(str(m.get("role")), list(m.get("content") or [])) for m in self.converse.get("messages") or []]


@rule("signature", "docs.aws.amazon.com, Signature Version 4 signing process; botocore, auth.py", status=403)
def _signature(subject: Subject) -> Iterator[str]:
    sent = subject.sent
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\w+)/\d{8}/([\w-]+)/bedrock/aws4_request, SignedHeaders=([\w;-]+), Signature=(\w+)",
        sent.headers.get("authorization", ""),
    )
    if match is None or match[1] != ACCESS_KEY:
        yield "The security token included in the request is invalid."
    elif match[2] != REGION or match[4] != sign(sent, subject.server.url, match[3].split(";")):
        yield "The request signature we calculated does not match the signature you provided."


def sign(request: ProviderRequest, url: str, signed_headers: list[str]) -> str:
    """Return the signature of a request with the keys of this server."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    headers = {name: request.headers.get(name, "") for name in signed_headers}
    signed = AWSRequest("POST", url + request.path, headers, request.raw)
    signed.context["timestamp"] = headers.get("x-amz-date", "")
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "bedrock", REGION)
    return str(auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed))


@functools.cache
def api_model() -> Any:
    """Return the shape of a Converse request in botocore's model of the API."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    model = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"), "bedrock-runtime")
    return model.operation_model("Converse").input_shape


@rule("api-model", "botocore, data/bedrock-runtime/2023-09-30/service-2.json")
def _api_model(subject: Subject) -> Iterator[str]:
    yield from check_shape({"modelId": "m", **subject.converse}, api_model(), "")


def check_shape(value: Any, shape: Any, place: str) -> Iterator[str]:
    """Yield what is wrong with a value of a shape of the API's model: members, lengths, patterns and choices."""
    if shape.type_name == "structure" and not shape.is_document_type:
        yield from _check_structure(value, shape, place)
    elif shape.type_name == "list":
        yield from _check_length(len(value), shape, place)
        for index, item in enumerate(value):
            yield from check_shape(item, shape.member, f"{place}.{index}")
    elif shape.type_name == "string":
        yield from _check_length(len(value), shape, place)
        pattern, choices = shape.metadata.get("pattern"), shape.metadata.get("enum")
        if (pattern and not re.fullmatch(pattern, value)) or (choices and value not in choices):
            expected = pattern or ", ".join(choices)
            yield f"Value '{value}' at '{place}' failed to satisfy constraint: Member must satisfy {expected}"
    elif shape.type_name == "blob":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            yield f"Value at '{place}' is not a valid base64 string"


def _check_structure(value: Any, shape: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"Unexpected field type at '{place}'"
        return
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield f"Value at '{place}' must set exactly one member, not {sorted(value)}"
    yield from (f"Missing required field {name} at '{place}'" for name in shape.required_members if name not in value)
    for name, member in value.items():
        if name not in shape.members:
            yield f"#/{place}: extraneous key [{name}] is not permitted"
        else:
            yield from check_shape(member, shape.members[name], f"{place}.{name}".strip("."))


def _check_length(length: int, shape: Any, place: str) -> Iterator[str]:
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max", length)
    if not least <= length <= most:
        yield f"Value at '{place}' failed to satisfy constraint: Member must have length between {least} and {most}"


@rule("first-user", "NousResearch/hermes-agent#63983")
def _first_user(subject: Subject) -> Iterator[str]:
    if subject.converse_messages()[:1] and subject.converse_messages()[0][0] != "user":
        yield "A conversation must start with a user message. Try again with a conversation that starts with a user message."


@rule("roles-alternate", "langgenius/dify#9294; langchain-ai/langchain-aws#192")
def _roles_alternate(subject: Subject) -> Iterator[str]:
    if any(one[0] == other[0] for one, other in pairwise(subject.converse_messages())):
        yield (
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between "
            "user and assistant roles and try again."
        )


@rule("content-empty", "archestra-ai/archestra#4220")
def _content_empty(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.converse_messages()):
        if not blocks:
            yield f"The content field in the Message object at messages.{index} is empty."


@rule("text-blank", "aws-samples/bedrock-engineer#8; earendil-works/pi#4975")
def _text_blank(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.converse_messages()):
        for position, block in enumerate(blocks):
            if "text" in block and not block["text"].strip():
                yield (
                    f"The text field in the ContentBlock object at messages.{index}.content.{position} is blank. Add text to the "
                    "text field, and try again."
                )


@rule("tool-config", "langgenius/dify#17545; nearai/ironclaw#1629")
def _tool_config(subject: Subject) -> Iterator[str]:
    blocks = [block for _, blocks in subject.converse_messages() for block in blocks]
    if not subject.converse.get("toolConfig") and any("toolUse" in b or "toolResult" in b for b in blocks):
        yield "The toolConfig field must be defined when using toolUse and toolResult content blocks."


def _ids(blocks: list[Json], kind: str) -> list[str]:
    return [str(block[kind].get("toolUseId")) for block in blocks if kind in block]


@rule("results-missing", "zeroclaw-labs/zeroclaw#1476")
def _results_missing(subject: Subject) -> Iterator[str]:
    messages = [*subject.converse_messages(), ("user", [])]
    for index, ((_, blocks), (_, following)) in enumerate(pairwise(messages)):
        answered = _ids(following, "toolResult")
        if missing := [call for call in _ids(blocks, "toolUse") if call not in answered]:
            place = f"messages.{index + 1}.content"
            yield f"Expected toolResult blocks at {place} for the following Ids: {', '.join(missing)}"


@rule("results-unexpected", "Just-Curieous/Curie#16; pydantic/pydantic-ai#2327")
def _results_unexpected(subject: Subject) -> Iterator[str]:
    messages = [("assistant", []), *subject.converse_messages()]
    for index, ((_, before), (_, blocks)) in enumerate(pairwise(messages)):
        if len(_ids(blocks, "toolResult")) > len(_ids(before, "toolUse")):
            yield (
                f"The number of toolResult blocks at messages.{index}.content exceeds the number of toolUse blocks of previous "
                "turn."
            )


@rule("error-without-content", "aws-samples/sample-multi-agent-orchestration-chat-on-agentcore#15")
def _error_without_content(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.converse_messages()):
        for position, block in enumerate(blocks):
            result = block.get("toolResult") or {}
            if result.get("status") == "error" and not result.get("content"):
                place = f"messages.{index}.content.{position}.toolResult"
                yield f"The content field at {place} cannot be empty when status value is error."


@rule("cache-after-reasoning", "strands-agents/harness-sdk#1820; 0xPlaygrounds/rig#1673")
def _cache_after_reasoning(subject: Subject) -> Iterator[str]:
    for _, blocks in subject.converse_messages():
        if any("reasoningContent" in one and "cachePoint" in other for one, other in pairwise(blocks)):
            yield "Cache point cannot be inserted after reasoning block. Please remove the invalid cache point and try again."


@rule("cache-first-in-message", "strands-agents/harness-sdk#3677")
def _cache_first_in_message(subject: Subject) -> Iterator[str]:
    for index, (_, blocks) in enumerate(subject.converse_messages()):
        if blocks and "cachePoint" in blocks[0]:
            yield f"messages.{index}.content.0: a cache point needs content before it"


def to_anthropic(body: Json, model: str) -> Json:
    """Return a Converse request as the request of the Messages API that Claude gets."""
    tools = [
        {"name": t["toolSpec"]["name"], "input_schema": t["toolSpec"]["inputSchema"].get("json")}
        if "toolSpec" in t
        else t
        for t in (body.get("toolConfig") or {}).get("tools") or []
    ]
    inference = body.get("inferenceConfig") or {}
    optional = {
        "system": _with_marks(body.get("system") or []),
        "tools": _with_marks(tools),
        "temperature": inference.get("temperature"),
        "top_p": inference.get("topP"),
        **(body.get("additionalModelRequestFields") or {}),
    }
    messages = [
        {"role": message.get("role"), "content": _with_marks(message.get("content") or [])}
        for message in body.get("messages") or []
    ]
    required = {"model": model, "messages": messages, "max_tokens": inference.get("maxTokens", 4096)}
    return required | {name: value for name, value in optional.items() if value}


def _with_marks(blocks: list[Json]) -> list[Json]:
    """Translate blocks. A cache point becomes the mark of the block before it."""
    translated: list[Json] = []
    for block in blocks:
        if "cachePoint" not in block:
            translated.append(_block(block))
        elif translated:
            ttl = {"ttl": block["cachePoint"]["ttl"]} if "ttl" in block["cachePoint"] else {}
            translated[-1] = {**translated[-1], "cache_control": {"type": "ephemeral", **ttl}}
    return translated


def _block(block: Json) -> Json:
    if "text" in block:
        return {"type": "text", "text": block["text"]}
    if "toolUse" in block:
        call = block["toolUse"]
        return {"type": "tool_use", "id": call.get("toolUseId"), "name": call.get("name"), "input": call.get("input")}
    if "toolResult" in block:
        result = block["toolResult"]
        content = [_block(inner) for inner in result.get("content") or []]
        return {"type": "tool_result", "tool_use_id": result.get("toolUseId"), "content": content}
    if "image" in block:
        source = {"type": "base64", "media_type": f"image/{block['image']['format']}"}
        return {"type": "image", "source": source | {"data": block["image"]["source"].get("bytes", "")}}
    if "reasoningContent" in block:
        reasoning = block["reasoningContent"]
        if "redactedContent" in reasoning:
            return {"type": "redacted_thinking", "data": reasoning["redactedContent"]}
        text = reasoning.get("reasoningText") or {}
        return {"type": "thinking", "thinking": text.get("text"), "signature": text.get("signature")}
    return block


class StrictBedrock(StrictAnthropic):
    """POST /model/<model>/converse and /converse-stream, with Claude or Nova behind them."""

    book = RuleBook()
    book.rules = [
        *BOOK.rules,
        *(
            replace(each, flavours=frozenset({"bedrock"}))
            for each in strict_anthropic.BOOK.rules
            if each.name not in NOT_IN_CONVERSE
        ),
    ]
    content_type = "application/vnd.amazon.eventstream"

    def __init__(self, *script: Reply | Failure, flavour: str = "bedrock", **options: Any) -> None:
        self.flavour = flavour
        super().__init__(*script, **options)

    @property
    def options(self) -> Json:
        """Arguments of a litellm call that lead here (docs.litellm.ai, providers/bedrock)."""
        keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "aws_region_name": REGION}
        return {"aws_bedrock_runtime_endpoint": self.url, "num_retries": 0, "max_retries": 0, **keys}

    def model(self, name: str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0") -> str:
        return f"bedrock/{name}"

    def side_request(self, request: ProviderRequest) -> Response | None:
        """Refuse any path but the two of the Converse API."""
        if re.fullmatch(r"/model/[^/]+/converse(-stream)?", request.path):
            return None
        return Response(404, self.error(Failure(404, f"no such path: {request.path}")))

    def is_stream(self, request: ProviderRequest) -> bool:
        return request.path.endswith("/converse-stream")

    def inspect(self, request: ProviderRequest) -> Subject:
        body = to_anthropic(request.body, unquote(request.path.split("/")[2]))
        messages = [(str(m["role"]), list(blocks_of(m["content"]))) for m in body["messages"]]
        seen = replace(request, body=body)
        return Subject(self, seen, messages, join_turns(messages), request.body, request)

    def account(self, request: ProviderRequest, reply: Reply) -> Json:
        usage = super().account(self.inspect(request).request, reply)
        read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
        total = usage["input_tokens"] + read + written + usage["output_tokens"]
        return {
            "inputTokens": usage["input_tokens"],
            "outputTokens": usage["output_tokens"],
            "totalTokens": total,
            "cacheReadInputTokens": read,
            "cacheWriteInputTokens": written,
        }

    def _blocks(self, request: ProviderRequest, reply: Reply) -> list[Json]:
        blocks: list[Json] = []
        if reply.thinking and self._thinks(self.inspect(request).request):
            text = {"text": reply.thinking, "signature": self.sign(reply.thinking)}
            blocks.append({"reasoningContent": {"reasoningText": text}})
        if reply.text:
            blocks.append({"text": reply.text})
        for call in reply.calls:
            call_id = call.id or self.mint("tooluse_")
            blocks.append({"toolUse": {"toolUseId": call_id, "name": call.name, "input": call.arguments}})
        return blocks

    def whole(self, request: ProviderRequest, reply: Reply, usage: Json) -> Json:
        message = {"role": "assistant", "content": self._blocks(request, reply)}
        stop = self._stop(reply)
        return {"output": {"message": message}, "stopReason": stop, "usage": usage, "metrics": {"latencyMs": 1}}

    def stream(self, request: ProviderRequest, reply: Reply, usage: Json) -> Iterator[str | bytes]:
        yield encode_event("messageStart", {"role": "assistant"})
        for index, block in enumerate(self._blocks(request, reply)):
            if "toolUse" in block:
                start = {"toolUse": {name: block["toolUse"][name] for name in ("toolUseId", "name")}}
                yield encode_event("contentBlockStart", {"start": start, "contentBlockIndex": index})
            for delta in _deltas(block):
                yield encode_event("contentBlockDelta", {"delta": delta, "contentBlockIndex": index})
            if reply.is_cut and "text" in block:
                return
            yield encode_event("contentBlockStop", {"contentBlockIndex": index})
        yield encode_event("messageStop", {"stopReason": self._stop(reply)})
        yield encode_event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})

    def error(self, failure: Failure) -> Json:
        return {"message": failure.message}


def _deltas(block: Json) -> Iterator[Json]:
    if "text" in block:
        yield from ({"text": part} for part in fragments(block["text"]))
    elif "toolUse" in block:
        yield from ({"toolUse": {"input": part}} for part in fragments(dump(block["toolUse"]["input"])))
    else:
        text = block["reasoningContent"]["reasoningText"]
        yield from ({"reasoningContent": {"text": part}} for part in fragments(text["text"]))
        yield {"reasoningContent": {"signature": text["signature"]}}


def encode_event(kind: str, payload: Json) -> bytes:
    """Encode an event of `application/vnd.amazon.eventstream` (smithy.io, Amazon Event Stream specification)."""
    names = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for name, value in names.items()
    )
    body = dump(payload).encode()
    prelude = struct.pack(">II", 12 + len(headers) + len(body) + 4, len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack(">I", binascii.crc32(message))
