"""The strict provider servers accept what the real APIs accept, refuse what they refuse, and cache as they cache."""

from __future__ import annotations

import base64
import importlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.providers import strict_anthropic, strict_chat_completions, strict_gemini
from tests.support.providers.strict_anthropic import StrictAnthropic, input_cost
from tests.support.providers.strict_chat_completions import ROUTES, StrictChatCompletions
from tests.support.providers.strict_gemini import StrictGemini
from tests.support.providers.strict_server import Failure, Reply, Rule, StrictServer, ToolCall

Json = dict[str, Any]
MODULES = (strict_chat_completions, strict_anthropic, strict_gemini)

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather of a city.", "parameters": WEATHER}}
PARIS, ROME = ToolCall("weather", {"city": "Paris"}), ToolCall("weather", {"city": "Rome"})
CHAT_MODELS = {
    "openai": "gpt-4o",
    "azure": "gpt-4o",
    "openrouter": "anthropic/claude-sonnet-4.5",
    "xai": "grok-4",
    "deepseek": "deepseek-reasoner",
    "moonshot": "kimi-k2-thinking",
    "mistral": "mistral-large-latest",
    "alternating": "gemma-3-12b-it",
    "ollama": "qwen3:8b",
}


@pytest.fixture(autouse=True)
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The real client, without its retries and its network."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    module = importlib.import_module("litellm")
    monkeypatch.setattr(module, "suppress_debug_info", True)
    monkeypatch.setattr(module, "num_retries", 0)
    return module


@pytest.fixture
def register() -> Iterator[Callable[[StrictServer], Any]]:
    """Close each server that a test opens."""
    servers: list[StrictServer] = []

    def remember(server: StrictServer) -> StrictServer:
        servers.append(server)
        return server

    yield remember
    for server in servers:
        server.close()


def post(server: StrictServer, path: str, body: Json, headers: Json | None = None) -> tuple[int, Json]:
    """Send a request without any client's help."""
    fields = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), fields)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


# ---- One fault for each rule -------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """A request that breaks exactly one rule. `build` gets the server, for faults that need its signatures."""

    rule: str
    build: Callable[[Any], Json]
    flavour: str = "openai"
    model: str = ""
    options: Json = field(default_factory=dict)


def chat(*messages: Json, flavour: str = "openai", **fields: Any) -> Callable[[Any], Json]:
    model = CHAT_MODELS[flavour]
    return lambda server: {"model": model, "messages": list(messages), "stream": False, **fields}


def user(text: Any = "Hello") -> Json:
    return {"role": "user", "content": text}


def assistant(text: Any = "Hi", **fields: Any) -> Json:
    return {"role": "assistant", "content": text, **fields}


def calls(*ids: str, arguments: Any = "{}", **fields: Any) -> Json:
    function = {"name": "weather", "arguments": arguments}
    return assistant(
        "One moment.", tool_calls=[{"id": i, "type": "function", "function": function} for i in ids], **fields
    )


def result(call_id: str, text: str = "Sunny") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def tools(**function: Any) -> list[Json]:
    return [{"type": "function", "function": {**TOOL["function"], **function}}]


ID = "abcdefghi"
CHAT_FAULTS = [
    Fault("unknown-message-field", chat(user(), assistant(thinking_blocks=[]), user())),
    Fault("extra-forbidden", chat(user(), assistant(reasoning_content="Hm."), user(), flavour="mistral"), "mistral"),
    Fault("cache-control", chat(user([{"type": "text", "text": "Hi", "cache_control": {}}]), model="gpt-5-mini")),
    Fault("content-null", chat(user(None))),
    Fault("content-missing", chat(user(), calls(ID) | {"content": None}, result(ID), flavour="xai"), "xai"),
    Fault("assistant-empty", chat(user(), assistant(""), user(), flavour="moonshot"), "moonshot"),
    Fault("mistral-assistant-empty", chat(user(), assistant(""), user(), flavour="mistral"), "mistral"),
    Fault("content-string", chat(user([{"type": "text", "text": "Hi"}]), flavour="ollama"), "ollama"),
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


def text(value: str, **fields: Any) -> Json:
    return {"type": "text", "text": value, **fields}


def tool_use(call_id: str = "toolu_1", **fields: Any) -> Json:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": {}, **fields}


def tool_result(call_id: str = "toolu_1", content: Any = "Sunny", **fields: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def claude(*messages: Json, **fields: Any) -> Callable[[Any], Json]:
    return lambda server: {"model": "claude-sonnet-4-5", "max_tokens": 4096, "messages": list(messages), **fields}


def mark(ttl: str | None = None) -> Json:
    return {"cache_control": {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})}


THINKING = {"type": "enabled", "budget_tokens": 2048}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()


def picture(media_type: str) -> Json:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": PNG}}


def thinking_block(server: Any) -> Json:
    return dict(server.thinking_block("Hm."))


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


def turn(role: str, *parts: Json) -> Json:
    return {"role": role, "parts": list(parts)}


def gemini(*contents: Json, **fields: Any) -> Callable[[Any], Json]:
    return lambda server: {"contents": list(contents), **fields}


ASK = turn("user", {"text": "Weather?"})
CALL = {"functionCall": {"name": "weather", "args": {}}}
RESPONSE = {"functionResponse": {"name": "weather", "response": {"sky": "blue"}}}
OLD = "gemini-2.5-flash"
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


def open_chat(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    path = "/api/chat" if fault.flavour == "ollama" else "/v1/chat/completions"
    return StrictChatCompletions(fault.flavour, **rules), path


def open_anthropic(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    return StrictAnthropic(**rules), "/v1/messages"


def open_gemini(fault: Fault, **rules: Any) -> tuple[StrictServer, str]:
    path = f"/v1beta/models/{fault.model or 'gemini-3-pro-preview'}:generateContent"
    return StrictGemini(**rules), path


CASES = [(open_chat, fault) for fault in CHAT_FAULTS]
CASES += [(open_anthropic, fault) for fault in ANTHROPIC_FAULTS]
CASES += [(open_gemini, fault) for fault in GEMINI_FAULTS]


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
    assert status == (422 if fault.rule == "extra-forbidden" else 400)
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
    lists = (CHAT_FAULTS, ANTHROPIC_FAULTS, GEMINI_FAULTS)
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


# ---- Valid conversations with the real client --------------------------------------------------------------------------


def assistant_message(message: Any) -> Json:
    """Build the assistant message that a faithful client sends back."""
    back: Json = {"role": "assistant", "content": message.content or ""}
    if message.tool_calls:
        back["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
            for c in message.tool_calls
        ]
    fields = getattr(message, "provider_specific_fields", None) or {}
    for name in ("reasoning_content", "thinking_blocks"):
        if value := getattr(message, name, None):
            back[name] = value
    if details := getattr(message, "reasoning_details", None) or fields.get("reasoning_details"):
        back["reasoning_details"] = details
    return back


def tool_messages(message: Any) -> list[Json]:
    return [{**result(call.id), "name": call.function.name} for call in message.tool_calls]


async def complete(litellm: Any, server: Any, model: str, messages: list[Json], **options: Any) -> Any:
    arguments = {"model": server.model(model), "messages": messages, "tools": [TOOL], **server.options, **options}
    return await litellm.acompletion(**arguments)


async def gather(litellm: Any, stream: Any) -> Any:
    chunks = [chunk async for chunk in stream]
    return litellm.stream_chunk_builder(chunks)


def keep_own_fields(flavour: str, message: Json) -> Json:
    """Drop what the flavour does not accept in the history, as a client for that provider does."""
    own = {"deepseek": "reasoning_content", "moonshot": "reasoning_content", "openrouter": "reasoning_details"}
    foreign = {"reasoning_content", "thinking_blocks", "reasoning_details"} - {own.get(flavour, "")}
    return {name: value for name, value in message.items() if name not in foreign}


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("flavour", sorted(ROUTES))
async def test_a_tool_loop_through_litellm_is_accepted(
    flavour: str, streams: bool, litellm: Any, register: Any
) -> None:
    script = Reply("Looking.", thinking="I need both cities.", calls=(PARIS, ROME)), Reply("Sunny in both.")
    server = register(StrictChatCompletions(flavour, *script))
    messages = [{"role": "system", "content": "Be brief."}, user("Weather in Paris and Rome?")]
    for _ in script:
        reply = await complete(litellm, server, CHAT_MODELS[flavour], messages, stream=streams)
        message = (await gather(litellm, reply) if streams else reply).choices[0].message
        messages.append(keep_own_fields(flavour, assistant_message(message)))
        if message.tool_calls:
            assert [json.loads(c.function.arguments) for c in message.tool_calls] == [PARIS.arguments, ROME.arguments]
            answers = tool_messages(message)
            messages += (
                answers if flavour == "mistral" else [{k: v for k, v in a.items() if k != "name"} for a in answers]
            )
    assert message.content == "Sunny in both."
    assert not server.rejections
    assert len(server.requests) == 2


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_thinking_tool_loop_with_claude_is_accepted(streams: bool, litellm: Any, register: Any) -> None:
    script = Reply("Looking.", thinking="I need both.", calls=(PARIS, ROME)), Reply("Sunny.", thinking="Both sunny.")
    server = register(StrictAnthropic(*script))
    messages = [{"role": "system", "content": "Be brief."}, user("Weather in Paris and Rome?")]
    options = {"thinking": THINKING, "max_tokens": 4096, "stream": streams}
    for _ in script:
        reply = await complete(litellm, server, "claude-sonnet-4-5", messages, **options)
        message = (await gather(litellm, reply) if streams else reply).choices[0].message
        messages += [assistant_message(message), *(tool_messages(message) if message.tool_calls else [])]
    assert message.content == "Sunny."
    assert message.thinking_blocks[0]["signature"] == server.sign("Both sunny.")
    assert not server.rejections


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_a_tool_loop_with_gemini_3_is_accepted(streams: bool, litellm: Any, register: Any) -> None:
    script = Reply("", thinking="I need both.", calls=(PARIS, ROME)), Reply("Sunny.")
    server = register(StrictGemini(*script))
    messages = [{"role": "system", "content": "Be brief."}, user("Weather in Paris and Rome?")]
    for _ in script:
        reply = await complete(litellm, server, "gemini-3-pro-preview", messages, stream=streams)
        message = (await gather(litellm, reply) if streams else reply).choices[0].message
        messages += [message.model_dump(exclude_none=True), *(tool_messages(message) if message.tool_calls else [])]
    assert message.content == "Sunny."
    assert not server.rejections
    signed = [
        part
        for content in server.requests[1].body["contents"]
        for part in content["parts"]
        if "thoughtSignature" in part
    ]
    assert server.accepts_signature(signed[0]["thoughtSignature"])


async def test_errors_reach_the_client_as_its_typed_errors(litellm: Any, register: Any) -> None:
    openai = register(StrictChatCompletions("openai", Failure(429, "Slow down."), Failure(400, "No.")))
    for kind in (litellm.RateLimitError, litellm.BadRequestError):
        with pytest.raises(kind):
            await complete(litellm, openai, "gpt-4o", [user()])
    anthropic = register(StrictAnthropic(Failure(529, "Overloaded"), Failure(429, "Slow down.", {"retry-after": "7"})))
    for kind in (litellm.InternalServerError, litellm.RateLimitError):
        with pytest.raises(kind):
            await complete(litellm, anthropic, "claude-sonnet-4-5", [user()])
    google = register(StrictGemini(Failure(503, "Unavailable")))
    with pytest.raises(litellm.ServiceUnavailableError):
        await complete(litellm, google, "gemini-3-pro-preview", [user()])


def test_a_cut_stream_has_text_but_no_end(register: Any) -> None:
    reply = Reply("Half.", calls=(PARIS,), is_cut=True)
    for server, path, body, end in (
        (StrictChatCompletions("openai", reply), "/v1/chat/completions", chat(user(), stream=True), "[DONE]"),
        (StrictChatCompletions("ollama", reply), "/api/chat", chat(user(), stream=True), '"done":true'),
        (StrictAnthropic(reply), "/v1/messages", claude(user(), stream=True), "message_stop"),
        (StrictGemini(reply), "/v1beta/models/gemini-3-pro-preview:streamGenerateContent", gemini(ASK), "finishReason"),
    ):
        register(server)
        request = urllib.request.Request(server.url + path, json.dumps(body(server)).encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            received = response.read().decode()
        assert "Half." in received
        assert end not in received


def test_openrouter_wants_its_reasoning_details_back_unchanged(register: Any) -> None:
    server = register(
        StrictChatCompletions(
            "openrouter", Reply("", thinking="Hm.", calls=(PARIS,)), enable=["reasoning-details-missing"]
        )
    )
    path, first = "/api/v1/chat/completions", chat(user(), flavour="openrouter")(server)
    message = post(server, path, first)[1]["choices"][0]["message"]
    tail = [result(message["tool_calls"][0]["id"])]
    assert post(server, path, first | {"messages": [user(), message, *tail]})[0] == 200
    bare = {name: value for name, value in message.items() if name != "reasoning_details"}
    assert post(server, path, first | {"messages": [user(), bare, *tail]})[0] == 400
    changed = message | {"reasoning_details": [{**message["reasoning_details"][0], "text": "Aha."}]}
    assert post(server, path, first | {"messages": [user(), changed, *tail]})[0] == 400
    assert [r.rule for r in server.rejections] == ["reasoning-details-missing", "reasoning-details-changed"]


def test_ids_of_one_provider_are_refused_by_another(register: Any) -> None:
    """The ids that Kimi mints break Claude's pattern, and OpenAI's break Mistral's."""
    kimi = register(StrictChatCompletions("moonshot", Reply("", thinking="Hm.", calls=(PARIS,))))
    body = chat(user(), flavour="moonshot")(kimi)
    call_id = post(kimi, "/v1/chat/completions", body)[1]["choices"][0]["message"]["tool_calls"][0]["id"]
    anthropic = register(StrictAnthropic())
    post(
        anthropic,
        "/v1/messages",
        claude(user(), assistant([tool_use(call_id)]), user([tool_result(call_id)]))(anthropic),
    )
    assert [rejection.rule for rejection in anthropic.rejections] == ["tool-use-id"]


@pytest.mark.parametrize(
    ("flavour", "fields"),
    [
        ("deepseek", {"model": "deepseek-chat"}),
        ("deepseek", {"thinking": {"type": "disabled"}}),
        ("moonshot", {"model": "kimi-k2-0905-preview"}),
    ],
)
def test_reasoning_is_required_back_from_thinking_requests_only(flavour: str, fields: Json, register: Any) -> None:
    server = register(StrictChatCompletions(flavour))
    body = chat(user(), calls(ID), result(ID), flavour=flavour)(server) | fields
    assert post(server, "/v1/chat/completions", body)[0] == 200
    body = chat(user(), calls(ID, reasoning_content=""), result(ID), flavour=flavour)(server)
    assert post(server, "/v1/chat/completions", body)[0] == 200


def test_a_rule_can_be_enabled_for_another_flavour_and_disabled(register: Any) -> None:
    body = chat(user(), calls(ID), user(), flavour="xai")
    for options, status in (({}, 200), ({"enable": ["call-without-result"]}, 400)):
        server = register(StrictChatCompletions("xai", **options))
        assert post(server, "/v1/chat/completions", body(server))[0] == status


def test_openai_checks_cache_marks_of_other_models_on_request(register: Any) -> None:
    body = chat(user([{"type": "text", "text": "Hi", "cache_control": {}}]))
    for is_strict, status in ((False, 200), (True, 400)):
        server = register(StrictChatCompletions("openai", is_strict_about_cache_control=is_strict))
        assert post(server, "/v1/chat/completions", body(server))[0] == status


def test_other_paths_are_not_found(register: Any) -> None:
    for server in (StrictChatCompletions("openai"), StrictAnthropic(), StrictGemini()):
        assert post(register(server), "/v1/embeddings", {})[0] == 404


# ---- Anthropic: joining and caching ------------------------------------------------------------------------------------


def ask(server: StrictAnthropic, *messages: Json, **fields: Any) -> Json:
    status, body = post(server, "/v1/messages", claude(*messages, **fields)(server))
    assert status == 200, body
    return body["usage"]  # type: ignore[no-any-return]


def long_text(name: str, tokens: int = 1100) -> str:
    return (name * 4 * tokens)[: 4 * tokens]


SYSTEM = [text(long_text("s"), **mark())]


def test_neighbouring_messages_of_one_role_are_joined(register: Any) -> None:
    server = register(StrictAnthropic())
    ask(server, user("One."), user("Two."), assistant("Three."), assistant("Four."), user("Five."))
    ask(
        server,
        user(),
        assistant([tool_use("toolu_1")]),
        assistant([tool_use("toolu_2")]),
        user([tool_result("toolu_1")]),
        user([tool_result("toolu_2")]),
    )


def test_a_system_message_in_the_conversation_depends_on_the_model(register: Any) -> None:
    server = register(StrictAnthropic())
    messages = [user(), {"role": "system", "content": "Be brief."}]
    ask(server, *messages, model="claude-opus-5")
    assert post(server, "/v1/messages", claude(*messages)(server))[0] == 400


def test_the_second_request_reads_what_the_first_one_wrote(register: Any) -> None:
    server = register(StrictAnthropic())
    first, second = (ask(server, user(), system=SYSTEM) for _ in range(2))
    assert first["cache_creation_input_tokens"] > 1024
    assert first["cache_read_input_tokens"] == 0
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert second["cache_creation_input_tokens"] == 0
    assert first["input_tokens"] == second["input_tokens"]


def test_a_change_before_the_mark_misses_and_one_after_it_hits(register: Any) -> None:
    server = register(StrictAnthropic())
    written = ask(server, user("One."), system=SYSTEM)["cache_creation_input_tokens"]
    assert ask(server, user("Two."), system=SYSTEM)["cache_read_input_tokens"] == written
    assert ask(server, user("One."), system=SYSTEM, tools=[anthropic_tool()])["cache_read_input_tokens"] == 0
    assert ask(server, user("One."), system=SYSTEM, model="claude-sonnet-4-6")["cache_read_input_tokens"] == 0


def anthropic_tool() -> Json:
    return {"name": "weather", "description": "Weather of a city.", "input_schema": WEATHER}


def test_thinking_settings_invalidate_the_messages_but_not_the_system(register: Any) -> None:
    server = register(StrictAnthropic())
    marked = user([text(long_text("m"), **mark())])
    first = ask(server, marked, system=SYSTEM)
    second = ask(server, marked, system=SYSTEM, thinking=THINKING)
    assert 0 < second["cache_read_input_tokens"] < first["cache_creation_input_tokens"]


def test_a_prompt_below_the_minimum_is_not_cached(register: Any) -> None:
    server = register(StrictAnthropic())
    for model, tokens, is_cached in (
        ("claude-sonnet-4-5", 1000, False),
        ("claude-sonnet-4-5", 1100, True),
        ("claude-3-5-haiku-20241022", 1100, False),
        ("claude-opus-4-5", 4000, False),
        ("claude-haiku-4-5", 4200, True),
        ("claude-opus-5", 600, True),
    ):
        system = [text(long_text(model, tokens), **mark())]
        usage = ask(server, user(), system=system, model=model)
        assert bool(usage["cache_creation_input_tokens"]) == is_cached, (model, tokens)


def test_an_entry_expires_after_five_minutes_without_a_read(register: Any) -> None:
    server = register(StrictAnthropic())
    ask(server, user(), system=SYSTEM)
    for wait, hits in ((299, True), (299, True), (301, False)):
        server.clock.advance(wait)
        assert bool(ask(server, user(), system=SYSTEM)["cache_read_input_tokens"]) == hits


def test_an_entry_of_an_hour_lives_an_hour_and_is_reported_apart(register: Any) -> None:
    server = register(StrictAnthropic())
    system = [text(long_text("s"), **mark("1h"))]
    tail = user([text(long_text("t"), **mark())])
    usage = ask(server, tail, system=system)["cache_creation"]
    assert usage["ephemeral_1h_input_tokens"] > 1024
    assert usage["ephemeral_5m_input_tokens"] > 1024
    server.clock.advance(3500)
    assert ask(server, tail, system=system)["cache_read_input_tokens"] == usage["ephemeral_1h_input_tokens"]
    server.clock.advance(3601)
    assert ask(server, tail, system=system)["cache_read_input_tokens"] == 0


def mark_last(*turns: Json) -> list[Json]:
    """Mark the last block of the last message."""
    *earlier, last = turns
    blocks = last["content"] if isinstance(last["content"], list) else [text(last["content"])]
    return [*earlier, {**last, "content": [*blocks[:-1], blocks[-1] | mark()]}]


@pytest.mark.parametrize(("new_blocks", "hits"), [(19, True), (20, False)])
def test_a_mark_looks_back_over_twenty_positions(new_blocks: int, hits: bool, register: Any) -> None:
    server = register(StrictAnthropic())
    start = user(long_text("m"))
    ask(server, *mark_last(start))
    more = [assistant([text("Hi")]), user([text(f"Block {number}.") for number in range(new_blocks - 1)])]
    assert bool(ask(server, *mark_last(start, *more))["cache_read_input_tokens"]) == hits


def test_a_run_of_parallel_calls_counts_as_one_position(register: Any) -> None:
    server = register(StrictAnthropic())
    start, ids = user(long_text("m")), [f"toolu_{number}" for number in range(30)]
    ask(server, *mark_last(start))
    loop = [assistant([tool_use(call_id) for call_id in ids]), user([tool_result(call_id) for call_id in ids])]
    assert ask(server, *mark_last(start, *loop))["cache_read_input_tokens"] > 1024


def test_the_automatic_mark_moves_with_the_conversation(register: Any) -> None:
    server = register(StrictAnthropic())
    first = ask(server, user(long_text("m")), **mark())
    second = ask(server, user(long_text("m")), assistant(), user("More."), **mark())
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert second["input_tokens"] == 0


@pytest.mark.parametrize(("model", "keeps"), [("claude-sonnet-4-5", False), ("claude-sonnet-4-6", True)])
def test_older_models_drop_earlier_thinking_and_miss_their_cache(model: str, keeps: bool, register: Any) -> None:
    server = register(StrictAnthropic())
    loop = [
        user("Weather?"),
        assistant([thinking_block(server), tool_use()]),
        user([tool_result(content=long_text("r"))]),
    ]
    options = {"model": model, "thinking": THINKING}
    written = ask(server, *mark_last(*loop), **options)["cache_creation_input_tokens"]
    usage = ask(server, *mark_last(*loop, assistant("Sunny."), user("Thanks.")), **options)
    assert usage["cache_read_input_tokens"] == (written if keeps else 0)


def test_with_the_rule_off_a_loop_without_thinking_switches_it_off(register: Any) -> None:
    reply = Reply("Sunny.", thinking="Hm.")
    server = register(StrictAnthropic(reply, reply, disable=["thinking-first"]))
    body = claude(user(), assistant([tool_use()]), user([tool_result()]), thinking=THINKING)(server)
    assert [block["type"] for block in post(server, "/v1/messages", body)[1]["content"]] == ["text"]
    body = claude(user(), thinking=THINKING)(server)
    assert [block["type"] for block in post(server, "/v1/messages", body)[1]["content"]] == ["thinking", "text"]


def test_writes_cost_a_premium_and_reads_a_tenth() -> None:
    written = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 10}
    usage = {"input_tokens": 1, "cache_read_input_tokens": 1000, "cache_creation": written}
    assert input_cost(usage, 1.0) == pytest.approx(1 + 100 + 125 + 20)


async def test_litellm_reports_the_cache_figures_and_their_price(litellm: Any, register: Any) -> None:
    server = register(StrictAnthropic())
    messages = [{"role": "system", "content": [text(long_text("s"), **mark())]}, user()]
    for _ in range(2):
        reply = await litellm.acompletion(
            model=server.model("claude-sonnet-4-5"), messages=messages, max_tokens=64, **server.options
        )
        usage, reported = reply.usage, server.usages[-1]
        assert usage.cache_read_input_tokens == reported["cache_read_input_tokens"]
        assert usage.cache_creation_input_tokens == reported["cache_creation_input_tokens"]
        price = input_cost(reported, 3e-6) + reported["output_tokens"] * 15e-6
        assert litellm.completion_cost(reply) == pytest.approx(price)
    assert usage.cache_read_input_tokens > 1024


# ---- The other caches --------------------------------------------------------------------------------------------------


def usage_of(server: StrictServer, path: str, *messages: Json, **fields: Any) -> Json:
    status, body = post(server, path, {"model": "gpt-4o", "messages": list(messages), **fields})
    assert status == 200, body
    return body["usage"]  # type: ignore[no-any-return]


def test_openai_caches_prefixes_in_steps_of_128_tokens(register: Any) -> None:
    server, path = register(StrictChatCompletions("openai")), "/v1/chat/completions"
    start = user(long_text("m", 1500))
    assert usage_of(server, path, start)["prompt_tokens_details"]["cached_tokens"] == 0
    tokens = usage_of(server, path, start, assistant(), user("More."))["prompt_tokens_details"]["cached_tokens"]
    assert tokens >= 1408
    assert (tokens - 1024) % 128 == 0
    assert usage_of(server, path, user(long_text("n", 1500)))["prompt_tokens_details"]["cached_tokens"] == 0
    server.clock.advance(301)
    assert usage_of(server, path, start)["prompt_tokens_details"]["cached_tokens"] == 0


def test_openai_caches_nothing_below_1024_tokens(register: Any) -> None:
    server, path = register(StrictChatCompletions("openai")), "/v1/chat/completions"
    usages = [usage_of(server, path, user(long_text("m", 900))) for _ in range(2)]
    assert [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages] == [0, 0]


def test_deepseek_hits_whole_units_only(register: Any) -> None:
    server, path = register(StrictChatCompletions("deepseek", *[Reply("OK.")] * 9)), "/v1/chat/completions"
    system = {"role": "system", "content": long_text("s")}
    first = usage_of(server, path, system, user("One."))
    assert (first["prompt_cache_hit_tokens"], first["prompt_cache_miss_tokens"]) == (0, first["prompt_tokens"])
    grown = usage_of(server, path, system, user("One."), {"role": "assistant", "content": "OK."}, user("Two."))
    assert grown["prompt_cache_hit_tokens"] > first["prompt_tokens"]  # the prompt and the reply
    assert (
        usage_of(server, path, system, user("Something else."))["prompt_cache_hit_tokens"] == 0
    )  # parts within a unit
    assert (
        usage_of(server, path, system, user("A third."))["prompt_cache_hit_tokens"] > 1000
    )  # the common prefix, stored before


async def test_litellm_reports_deepseek_hits_as_cached_tokens(litellm: Any, register: Any) -> None:
    server = register(StrictChatCompletions("deepseek"))
    for _ in range(2):
        reply = await complete(litellm, server, "deepseek-chat", [user(long_text("m"))])
    assert reply.usage.prompt_tokens_details.cached_tokens > 1000


def test_gemini_caches_implicitly_above_the_minimum_of_the_model(register: Any) -> None:
    server = register(StrictGemini())
    for model, tokens, is_cached in (
        (OLD, 1900, False),
        (OLD, 2200, True),
        ("gemini-3-pro-preview", 3900, False),
        ("gemini-3-pro-preview", 4300, True),
    ):
        body = gemini(turn("user", {"text": long_text(str(tokens), tokens)}))(server)
        usages = [post(server, f"/v1beta/models/{model}:generateContent", body)[1]["usageMetadata"] for _ in range(2)]
        assert "cachedContentTokenCount" not in usages[0]
        assert ("cachedContentTokenCount" in usages[1]) == is_cached, (model, tokens)


def test_gemini_accepts_the_documented_placeholder_signatures(register: Any) -> None:
    server, path = register(StrictGemini()), "/v1beta/models/gemini-3-pro-preview:generateContent"
    encoded = base64.b64encode(b"skip_thought_signature_validator").decode()
    for signature in ("context_engineering_is_the_way_to_go", encoded):
        signed = turn("model", CALL | {"thoughtSignature": signature}, CALL)
        assert post(server, path, gemini(ASK, signed, turn("user", RESPONSE, RESPONSE))(server))[0] == 200


def test_gemini_needs_signatures_in_the_current_turn_only(register: Any) -> None:
    server, path = register(StrictGemini()), "/v1beta/models/gemini-3-pro-preview:generateContent"
    past = [ASK, turn("model", CALL), turn("user", RESPONSE), turn("model", {"text": "Blue."})]
    assert post(server, path, gemini(*past, ASK)(server))[0] == 200
