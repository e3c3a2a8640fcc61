"""A scripted model for the OpenAI Agents SDK, which records and validates what it is asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from agents import Model, ModelResponse, Usage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from openai.types.responses.response_reasoning_item import ResponseReasoningItem, Summary

Answer = Callable[[list[dict[str, Any]]], list[Any]]


def text(value: str, id: str = "msg_1") -> ResponseOutputMessage:
    """Return a model's message."""
    content = ResponseOutputText(text=value, type="output_text", annotations=[])
    return ResponseOutputMessage(id=id, type="message", role="assistant", content=[content], status="completed")


def call(name: str, call_id: str, **arguments: Any) -> ResponseFunctionToolCall:
    """Return a model's call of a function."""
    return ResponseFunctionToolCall(
        id=f"fc_{call_id}", call_id=call_id, type="function_call", name=name, arguments=json.dumps(arguments)
    )


def reasoning(value: str, id: str = "rs_1") -> ResponseReasoningItem:
    """Return a model's reasoning with its encrypted form."""
    summary = [Summary(text=value, type="summary_text")]
    return ResponseReasoningItem(id=id, type="reasoning", summary=summary, encrypted_content="gAAAA" + value)


class ScriptedModel(Model):
    """Answers with what a function returns for the items of a request."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[list[dict[str, Any]]] = []

    async def get_response(
        self, system_instructions: str | None, input: Any, *rest: Any, **named: Any
    ) -> ModelResponse:
        """Record the items and answer."""
        items = [{"role": "user", "content": input}] if isinstance(input, str) else [dict(item) for item in input]
        check_items(items)
        self.asked.append(items)
        return ModelResponse(output=self._answer(items), usage=Usage(requests=1), response_id=None)

    def stream_response(self, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        """Not used by these tests."""
        raise NotImplementedError


def check_items(items: list[dict[str, Any]]) -> None:
    """Raise unless every call has one output, every output a call before it, and reasoning something after it.

    The Responses API answers 400 otherwise: "No tool output found for function call", "No tool call found for function call
    output", "Item 'rs_…' of type 'reasoning' was provided without its required following item".
    """
    pending: set[str] = set()
    answered: set[str] = set()
    for position, item in enumerate(items):
        kind = item.get("type")
        if kind == "function_call":
            assert item["call_id"] not in pending | answered, item
            pending.add(item["call_id"])
        elif kind == "function_call_output":
            assert item["call_id"] in pending, item
            pending.discard(item["call_id"])
            answered.add(item["call_id"])
        elif kind == "reasoning":
            following = items[position + 1] if position + 1 < len(items) else {}
            assert following.get("type") in ("reasoning", "function_call", "message"), items
    assert not pending, items
