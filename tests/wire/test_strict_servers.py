"""The strict provider servers accept what the real APIs accept, refuse what they refuse, and cache as they cache."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.providers import (
    strict_anthropic,
    strict_bedrock,
    strict_chat_completions,
    strict_gemini,
    strict_responses,
    strict_vertex,
)
from tests.support.providers.strict_anthropic import StrictAnthropic
from tests.support.providers.strict_bedrock import StrictBedrock
from tests.support.providers.strict_chat_completions import StrictChatCompletions
from tests.support.providers.strict_gemini import StrictGemini
from tests.support.providers.strict_responses import StrictResponses
from tests.support.providers.strict_server import Reply, Rule, StrictServer, ToolCall
from tests.support.providers.strict_vertex import LOCATION, PROJECT, StrictVertexAnthropic
from tests.support.strict_calls import ID, calls, result
from tests.support.strict_requests import (
    ASK,
    CALL,
    OLD,
    POINT,
    RESPONSE,
    THINKING,
    Json,
    assistant,
    chat,
    claude,
    converse,
    converse_calls,
    converse_result,
    gemini,
    mark,
    post,
    says,
    text,
    thinking_block,
    tool_result,
    tool_use,
    tools,
    turn,
    user,
)

pytestmark = pytest.mark.usefixtures("litellm")

MODULES = (strict_chat_completions, strict_anthropic, strict_gemini, strict_bedrock, strict_vertex, strict_responses)


PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})


# ---- One fault for each rule -------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """A request that breaks exactly one rule. `build` gets the server, for faults that need its signatures."""

    rule: str
    build: Callable[[Any], Json]
    flavour: str = "openai"
    model: str = ""
    options: Json = field(default_factory=dict)


CHAT_FAULTS = [
    Fault("unknown-message-field", chat(user(), assistant(thinking_blocks=[]), user())),
    Fault("extra-forbidden", chat(user(), assistant(reasoning_content="Hm."), user(), flavour="mistral"), "mistral"),
    Fault("cache-control", chat(user([{"type": "text", "text": "Hi", "cache_control": {}}]), model="gpt-5-mini")),
    Fault("content-null", chat(user(None))),
    Fault("content-missing", chat(user(), calls(ID) | {"content": None}, result(ID), flavour="xai"), "xai"),
    Fault("assistant-empty", chat(user(), assistant(""), user(), flavour="moonshot"), "moonshot"),
    Fault("mistral-assistant-empty", chat(user(), assistant(""), user(), flavour="mistral"), "mistral"),
    Fault("content-string", chat(user([{"type": "text", "text": "Hi"}]), flavour="ollama"), "ollama"),
    Fault("text-only", chat(user([{"type": "image_url", "image_url": {}}]), flavour="deepseek"), "deepseek"),
    Fault("name-pattern", chat(user() | {"name": "J. R."})),
    Fault("tool-without-call", chat(user(), result(ID))),
    Fault("call-without-result", chat(user(), calls(ID), user())),
    Fault("tool-result-duplicate", chat(user(), calls(ID), result(ID), result(ID))),
    Fault("call-id-duplicate", chat(user(), calls(ID, ID), result(ID), flavour="mistral"), "mistral"),
    Fault("call-id-length", chat(user(), calls("c" * 41), result("c" * 41))),
    Fault("mistral-call-id", chat(user(), calls("call_1"), result("call_1"), flavour="mistral"), "mistral"),
    Fault("mistral-role-order", chat(user(), calls(ID), result(ID), user(), flavour="mistral"), "mistral"),
    Fault("mistral-last-role", chat(user(), assistant(), flavour="mistral"), "mistral"),
    Fault("roles-alternate", chat(user("Summary"), user(), flavour="alternating"), "alternating"),
    Fault("arguments-json", chat(user(), calls(ID, arguments='{"a'), result(ID), flavour="alternating"), "alternating"),
    Fault("arguments-object", chat(user(), calls(ID), result(ID), flavour="ollama"), "ollama"),
    Fault("reasoning-missing", chat(user(), calls(ID), result(ID), flavour="deepseek"), "deepseek"),
    Fault("reasoning-missing", chat(user(), calls(ID), result(ID), flavour="moonshot"), "moonshot"),
    Fault(
        "reasoning-details-changed",
        chat(
            user(),
            assistant(reasoning_details=[{"type": "reasoning.text", "text": "Hm."}]),
            user(),
            flavour="openrouter",
        ),
        "openrouter",
    ),
    Fault("tool-name-pattern", chat(user(), tools=tools(name="get weather"))),
    Fault("tool-schema", chat(user(), tools=tools(parameters={"type": "object"}))),
    Fault("tools-empty", chat(user(), tools=[])),
    Fault("max-tokens", chat(user(), model="o3", max_tokens=100)),
    Fault("temperature", chat(user(), model="gpt-5", temperature=0)),
]


PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()


def picture(media_type: str) -> Json:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": PNG}}


ANTHROPIC_FAULTS = [
    Fault("required-field", lambda server: {"model": "claude-sonnet-4-5", "messages": [user()]}),
    Fault("unknown-field", claude(user([text("Hi", index=0)]))),
    Fault("unknown-field", claude(user() | {"name": "Ann"})),
    Fault("system-role", claude({"role": "system", "content": "Be brief."}, user())),
    Fault("system-role", claude(user(), {"role": "system", "content": "Be brief."})),
    Fault("first-user", claude(assistant(), user())),
    Fault("roles-alternate", claude(user(), user())),
    Fault("cache-marks-max", claude(user([text("Hi", **mark()) for _ in range(5)]))),
    Fault(
        "cache-mark-on-thinking",
        lambda server: claude(user(), assistant([thinking_block(server) | mark(), text("Hi")]), user())(server),
    ),
    Fault("cache-mark-on-empty-text", claude(user(), system=[text("", **mark())])),
    Fault(
        "cache-mark-nested",
        claude(user(), assistant([tool_use()]), user([tool_result(content=[text("Sunny", **mark())])])),
    ),
    Fault("cache-ttl-order", claude(user([text("Hi", **mark("1h"))]), system=[text("Be brief.", **mark())])),
    Fault("cache-automatic", claude(user([text("Hi", **mark()) for _ in range(4)]), **mark())),
    Fault(
        "thinking-signature",
        claude(user(), assistant([{"type": "thinking", "thinking": "Hm.", "signature": "of another maker"}]), user()),
    ),
    Fault("thinking-first", claude(user(), assistant([tool_use()]), user([tool_result()]), thinking=THINKING)),
    Fault(
        "thinking-order",
        lambda server: claude(user(), assistant([text("Hi"), thinking_block(server)]), user(), thinking=THINKING)(
            server
        ),
    ),
    Fault("thinking-budget", claude(user(), thinking={**THINKING, "budget_tokens": 4096})),
    Fault("thinking-budget", claude(user(), thinking={**THINKING, "budget_tokens": 512})),
    Fault("thinking-temperature", claude(user(), thinking=THINKING, temperature=0.5)),
    Fault("thinking-tool-choice", claude(user(), thinking=THINKING, tool_choice={"type": "any"})),
    Fault("model-parameters", claude(user(), model="claude-opus-4-8", temperature=1)),
    Fault("prefill", claude(user(), assistant("It is"), model="claude-sonnet-4-6")),
    Fault("tool-result-missing", claude(user(), assistant([tool_use()]), user())),
    Fault("tool-result-unexpected", claude(user([tool_result()]))),
    Fault("tool-result-first", claude(user(), assistant([tool_use()]), user([text("Look:"), tool_result()]))),
    Fault("tool-result-duplicate", claude(user(), assistant([tool_use()]), user([tool_result(), tool_result()]))),
    Fault("tool-use-duplicate", claude(user(), assistant([tool_use(), tool_use()]), user([tool_result()]))),
    Fault(
        "tool-use-id",
        claude(user(), assistant([tool_use("functions.weather:0")]), user([tool_result("functions.weather:0")])),
    ),
    Fault("tools-missing", claude(user(), assistant([tool_use()]), user([tool_result()]))),
    Fault("empty-message", claude(user([]), user())),
    Fault("empty-text", claude(user([text(""), text("Hi")]))),
    Fault("blank-text", claude(user(" \n"))),
    Fault("trailing-space", claude(user(), assistant("It is "))),
    Fault("image-type", claude(user([picture("image/jpeg")]))),
    Fault("image-type", claude(user([picture("image/tiff")]))),
]


CONST = [
    {"functionDeclarations": [{"name": "weather", "parameters": {"type": "object", "properties": {"a": {"const": 1}}}}]}
]


GEMINI_FAULTS = [
    Fault("unknown-field", gemini(ASK, frequency_penalty=0)),
    Fault("unknown-field", gemini(turn("user", {"text": "Hi", "id": "1"}))),
    Fault(
        "unknown-field",
        gemini(ASK, turn("model", {"functionCall": {"name": "weather", "id": "1"}}), turn("user", RESPONSE)),
        model=OLD,
    ),
    Fault("schema-const", gemini(ASK, tools=CONST)),
    Fault("parts-empty", gemini(turn("user"))),
    Fault("part-without-data", gemini(ASK, turn("model", {"text": ""}), ASK)),
    Fault("call-turn", gemini(turn("model", CALL), turn("user", RESPONSE)), model=OLD),
    Fault("response-turn", gemini(turn("user", RESPONSE)), model=OLD),
    Fault("response-count", gemini(ASK, turn("model", CALL, CALL), turn("user", RESPONSE)), model=OLD),
    Fault("signature-missing", gemini(ASK, turn("model", CALL), turn("user", RESPONSE))),
    Fault(
        "signature-foreign",
        gemini(ASK, turn("model", CALL | {"thoughtSignature": "Zm9yZWlnbg=="}), turn("user", RESPONSE)),
    ),
    Fault("last-role", gemini(ASK, turn("model", {"text": "Sunny"})), model=OLD),
]


BEDROCK_FAULTS = [
    Fault("signature", converse(says("user", {"text": "Hi"}))),
    Fault("api-model", converse(says("user", {"text": "Hi", "image": {"format": "png", "source": {}}}))),
    Fault("api-model", converse(says("user", {"text": "Hi"}), temperature=0)),
    Fault("first-user", converse(says("assistant", {"text": "Hi"}), says("user", {"text": "Hi"}))),
    Fault("roles-alternate", converse(says("user", {"text": "Hi"}), says("user", {"text": "Hi"}))),
    Fault("content-empty", converse(says("user"), says("assistant", {"text": "Hi"}), says("user"))),
    Fault("text-blank", converse(says("user", {"text": " "}))),
    Fault("tool-config", lambda server: {"messages": [*converse_calls(), says("user", converse_result())]}),
    Fault("results-missing", converse(*converse_calls(), says("user", {"text": "Well?"}))),
    Fault("results-unexpected", converse(says("user", converse_result()))),
    Fault(
        "error-without-content", converse(*converse_calls(), says("user", converse_result(content=[], status="error")))
    ),
    Fault(
        "cache-after-reasoning", converse(says("user", {"reasoningContent": {"reasoningText": {"text": "Hm."}}}, POINT))
    ),
    Fault("cache-first-in-message", converse(says("user", POINT, {"text": "Hi"}))),
]


VERTEX_BODY = {"max_tokens": 100, "messages": [user()], "anthropic_version": "vertex-2023-10-16"}
VERTEX_FAULTS = [
    Fault("token", lambda server: VERTEX_BODY),
    Fault("vertex-version", lambda server: {**VERTEX_BODY, "anthropic_version": "2023-06-01"}),
    Fault("model-in-body", lambda server: {**VERTEX_BODY, "model": "claude-sonnet-4-5"}),
]
RS_CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
RS_OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "Sunny"}
RESPONSES_FAULTS = [
    Fault("unknown-field", lambda server: {"input": [user() | {"reasoning_items": []}]}),
    Fault("reasoning-orphan", lambda server: {"input": [issued_reasoning(server), user()]}),
    Fault("reasoning-unknown", lambda server: {"input": [{"type": "reasoning", "id": "rs_x"}, assistant(), user()]}),
    Fault("output-missing", lambda server: {"input": [user(), RS_CALL]}),
    Fault("output-without-call", lambda server: {"input": [user(), RS_OUTPUT]}),
]
STATUSES = {"extra-forbidden": 422, "signature": 403, "token": 401}


def open_chat(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    path = "/api/chat" if fault.flavour == "ollama" else "/v1/chat/completions"
    return StrictChatCompletions(fault.flavour, **rules), path


def open_anthropic(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    return StrictAnthropic(**rules), "/v1/messages"


def open_gemini(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    path = f"/v1beta/models/{fault.model or 'gemini-3-pro-preview'}:generateContent"
    return StrictGemini(**rules), path


def open_bedrock(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    return StrictBedrock(flavour="nova", **without_keys(rules, "signature")), "/model/amazon.nova-pro-v1:0/converse"


def issued_reasoning(server: Any) -> Json:
    server.issued["rs_1"] = "encrypted"
    return {"type": "reasoning", "id": "rs_1", "summary": []}


def open_responses(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    return StrictResponses("responses", **rules), "/v1/responses"


def open_vertex(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    place = f"/v1/projects/{PROJECT}/locations/{LOCATION}"
    path = f"{place}/publishers/anthropic/models/claude-sonnet-4-5:rawPredict"
    return StrictVertexAnthropic(**without_keys(rules, "token")), path


def without_keys(rules: Json, access_rule: str) -> Json:
    """Return rules for requests without keys: access is not checked, unless it is the subject."""
    return (
        rules
        if rules.get("enable") == [access_rule]
        else {**rules, "disable": [access_rule, *rules.get("disable", ())]}
    )


CASES = [(open_chat, fault) for fault in CHAT_FAULTS]


CASES += [(open_anthropic, fault) for fault in ANTHROPIC_FAULTS]


CASES += [(open_gemini, fault) for fault in GEMINI_FAULTS]


CASES += [(open_bedrock, fault) for fault in BEDROCK_FAULTS]


CASES += [(open_vertex, fault) for fault in VERTEX_FAULTS]


CASES += [(open_responses, fault) for fault in RESPONSES_FAULTS]


def texts_in(value: Any) -> list[str]:
    """Return every string in a JSON value."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts_in(inner)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(("open_server", "fault"), CASES, ids=lambda value: getattr(value, "rule", ""))
def test_a_fault_is_refused_by_its_rule_and_by_no_other(open_server: Any, fault: Fault, register: Any) -> None:
    server, path = open_server(fault, enable=[fault.rule])
    status, body = post(register(server), path, fault.build(server))
    assert [rejection.rule for rejection in server.rejections] == [fault.rule], body
    assert server.rejections[0].message in texts_in(body)
    assert status == STATUSES.get(fault.rule, 400)
    assert not server.requests
    without, path = open_server(fault, disable=[fault.rule])
    assert post(register(without), path, fault.build(without))[0] == 200, without.rejections


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
def test_the_module_table_lists_each_rule_with_its_source(module: Any) -> None:
    rows = [row(rule) for rule in module.BOOK.rules]
    table = [line for line in module.__doc__.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert table == rows


def row(rule: Rule) -> str:
    flavours = "off" if not rule.is_default else "all" if rule.flavours is None else ", ".join(sorted(rule.flavours))
    return f"| {rule.name} | {flavours} | {rule.source} |"


def test_each_rule_has_a_fault_and_a_flavour_for_rules_by_default() -> None:
    lists = (CHAT_FAULTS, ANTHROPIC_FAULTS, GEMINI_FAULTS, BEDROCK_FAULTS, VERTEX_FAULTS, RESPONSES_FAULTS)
    for module, faults in zip(MODULES, lists, strict=True):
        missing = {rule.name for rule in module.BOOK.rules} - {fault.rule for fault in faults}
        assert missing <= {"reasoning-details-missing"}, missing  # tested below: it needs an earlier reply


def test_a_rejected_request_uses_no_answer_and_unknown_rules_raise(register: Any) -> None:
    server = register(StrictAnthropic(Reply("First.")))
    post(server, "/v1/messages", claude(assistant())(server))
    assert post(server, "/v1/messages", claude(user())(server))[1]["content"] == [text("First.")]
    with pytest.raises(ValueError, match="no such rules: \\['typo'\\]"):
        StrictAnthropic(enable=["typo"])
    with pytest.raises(ValueError, match="flavour must be one of"):
        StrictChatCompletions("gopher")
