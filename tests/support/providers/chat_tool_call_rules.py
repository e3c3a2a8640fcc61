"""Rules of chat completions on tool calls: their results, ids and arguments, and the roles around them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.support.providers.chat_subject import MISTRAL_VALIDATOR, OPENAI, Subject
from tests.support.providers.strict_server import RuleBook

BOOK = RuleBook()
rule = BOOK.rule

MAX_CALL_ID_CHARS = 40
MISTRAL_ID = re.compile(r"[a-zA-Z0-9]{9}")


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
