"""The keyless model calls the tools a message names."""

from __future__ import annotations

from typing import Any

from mnesis.llm.base import LLMRequest
from mnesis.llm.mock import MockLLM

FIELDS = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "unit": {"type": "string", "enum": ["C", "F"]},
    "tags": {"type": "array"},
    "dry": {"type": "boolean"},
    "more": {"type": "object"},
}


def tool(name: str, *required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": FIELDS, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def asking(*messages: tuple[str, str], **fields: Any) -> LLMRequest:
    return LLMRequest(model="m", messages=[{"role": role, "content": text} for role, text in messages], **fields)


async def test_a_tool_that_is_named_is_called_with_what_is_quoted() -> None:
    request = asking(("user", "Ask weather for 'Lisbon' over 3 days."), tools=[tool("weather", "city", "days")])
    reply = await MockLLM().complete(request)
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")
    assert [(call.tool_name, call.input) for call in reply.tool_calls] == [("weather", {"city": "Lisbon", "days": 3})]


async def test_required_arguments_that_nothing_names_get_values_of_their_type() -> None:
    request = asking(("user", "weather"), tools=[tool("weather", *FIELDS)])
    (call,) = (await MockLLM().complete(request)).tool_calls
    assert call.input == {"city": "", "days": 1, "unit": "C", "tags": [], "dry": False, "more": {}}


async def test_several_tools_are_called_in_the_order_they_are_named() -> None:
    request = asking(("user", "first b, then a"), tools=[tool("a"), tool("b"), tool("c")])
    calls = (await MockLLM().complete(request)).tool_calls
    assert [call.tool_name for call in calls] == ["b", "a"]
    assert len({call.tool_call_id for call in calls}) == 2


async def test_a_name_inside_another_word_is_no_mention() -> None:
    reply = await MockLLM().complete(asking(("user", "the weatherman"), tools=[tool("weather")]))
    assert not reply.tool_calls


async def test_once_a_tool_gave_its_result_the_answer_shows_it() -> None:
    messages = asking(("user", "Ask weather."), ("assistant", ""), ("tool", "24 degrees"), tools=[tool("weather")])
    reply = await MockLLM().complete(messages)
    assert not reply.tool_calls
    assert "A tool gave: 24 degrees" in reply.text


async def test_a_summary_never_calls_tools() -> None:
    request = asking(("user", "Ask weather."), tools=[tool("weather")], purpose="summary")
    assert not (await MockLLM().complete(request)).tool_calls


async def test_a_stream_ends_with_the_calls() -> None:
    pieces = [p async for p in MockLLM().stream(asking(("user", "Ask weather."), tools=[tool("weather")]))]
    assert [call.tool_name for call in pieces[-1].tool_calls] == ["weather"]  # type: ignore[union-attr]  # the reply
    assert len(pieces) == 1


async def test_a_reference_to_a_file_is_no_wish_for_the_tools_it_names() -> None:
    text = "Look.\n[File a.csv: id 1]\nread it with weather\n[End of what is known of file 12ab]"
    assert not (await MockLLM().complete(asking(("user", text), tools=[tool("weather")]))).tool_calls
    calls = (await MockLLM().complete(asking(("user", f"{text} Ask weather."), tools=[tool("weather")]))).tool_calls
    assert len(calls) == 1
