"""Amazon Bedrock's Converse API on loopback: signed requests, its own refusals, and those of Claude behind it.

A request is checked by the rules of the Converse API, which are in `converse_rules`. For Claude it is translated and checked by
the rules of `strict_anthropic` as well: Bedrock passes the refusals of the model on. The prompt cache is that of
`strict_anthropic`. The flavours: bedrock (Claude) and nova.

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

import binascii
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from tests.support.providers import strict_anthropic
from tests.support.providers.anthropic_subject import join_turns
from tests.support.providers.converse_rules import ACCESS_KEY, BOOK, REGION, SECRET_KEY, Subject
from tests.support.providers.converse_translation import to_anthropic
from tests.support.providers.strict_anthropic import StrictAnthropic
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

# The rules of the Messages API that need its own form of a request, or that the Converse API replaces.
NOT_IN_CONVERSE = {"required-field", "unknown-field", "system-role", "first-user", "roles-alternate", "cache-automatic"}
NOT_IN_CONVERSE |= {"tools-missing", "cache-mark-nested", "cache-mark-on-empty-text", "thinking-tool-choice"}


class StrictBedrock(StrictAnthropic):
    """POST /model/<model>/converse and /converse-stream, with Claude or Nova behind them."""

    book = RuleBook(
        [
            *BOOK.rules,
            *(
                replace(each, flavours=frozenset({"bedrock"}))
                for each in strict_anthropic.BOOK.rules
                if each.name not in NOT_IN_CONVERSE
            ),
        ]
    )
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
