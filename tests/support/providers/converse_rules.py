"""Rules of the Converse API: the signature, the API's model, and the checks that the model does not contain.

The model is part of botocore.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.support.providers import anthropic_subject
from tests.support.providers.strict_server import Json, ProviderRequest, RuleBook

BOOK = RuleBook()
rule = BOOK.rule

REGION, ACCESS_KEY, SECRET_KEY = "us-east-1", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@dataclass
class Subject(anthropic_subject.Subject):
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
