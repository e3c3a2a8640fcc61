"""Pydantic AI's history processors work with `MnesisHistory` as without it, in either order.

The processors are those of its own `tests/test_history_processor.py`, which is in no distribution: they keep, filter, rewrite, add,
reorder and merge messages, with and without the run's context.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")

from pydantic_ai import Agent, RunContext, capture_run_messages
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models.function import FunctionModel

from mnesis import Engine, concurrency
from pydantic_ai_mnesis import MnesisHistory

Messages = list[ModelMessage]


def request(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(content=text)])


def response(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(content=text)])


def keep_all(messages: Messages) -> Messages:
    return messages


def keep_newest_and_add_prompt(messages: Messages) -> Messages:
    return [*messages[-1:], ModelRequest(parts=[SystemPromptPart(content="Processed answer")])]


def keep_requests(messages: Messages) -> Messages:
    return [message for message in messages if isinstance(message, ModelRequest)]


async def keep_requests_later(messages: Messages) -> Messages:
    return keep_requests(messages)


def rewrite_prompts(prefix: str) -> Callable[[Messages], Messages]:
    def rewrite(messages: Messages) -> Messages:
        return [
            ModelRequest(parts=[UserPromptPart(content=f"{prefix} {part.content}") for part in message.parts])
            if isinstance(message, ModelRequest)
            else message
            for message in messages
        ]

    return rewrite


def keep_two_with_context(ctx: RunContext[Any], messages: Messages) -> Messages:
    assert ctx.prompt == "New question"
    return messages[-2:]


def change_in_place(messages: Messages) -> Messages:
    messages[0].parts[0].content = "changed"  # type: ignore[union-attr]  # a prompt
    messages.insert(1, request("inserted"))
    return messages


def insert_in_a_copy(messages: Messages) -> Messages:
    return [*messages[:2], request("inserted"), *messages[2:]]


def reverse_history(messages: Messages) -> Messages:
    return [*messages[:-1][::-1], messages[-1]]


def copy_messages(messages: Messages) -> Messages:
    return [replace(message, parts=list(message.parts)) for message in messages]  # type: ignore[type-var, arg-type]  # both kinds


def merge_requests(messages: Messages) -> Messages:
    return [ModelRequest(parts=[part for message in keep_requests(messages) for part in message.parts])]  # type: ignore[misc]  # parts of requests


PROCESSORS: dict[str, list[Any]] = {
    "keep all": [keep_all],
    "newest": [keep_newest_and_add_prompt],
    "requests": [keep_requests],
    "async": [keep_requests_later],
    "in sequence": [rewrite_prompts("[FIRST]"), rewrite_prompts("[SECOND]")],
    "context": [keep_two_with_context],
    "in place": [change_in_place],
    "inserted": [insert_in_a_copy],
    "reverse": [reverse_history],
    "copy": [copy_messages],
    "merge": [merge_requests],
}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    shared = Engine(":memory:")
    yield shared
    concurrency.run(shared.close())


async def run_agent(capabilities: list[Any], is_stream: bool) -> list[list[tuple[str, list[tuple[str, str]]]]]:
    """Return what the model received, all messages and the new ones of the result, and the captured ones."""
    received: Messages = []

    def answer(messages: Messages, info: Any) -> ModelResponse:
        received[:] = messages
        return response("Provider response")

    async def stream(messages: Messages, info: Any) -> AsyncIterator[str]:
        received[:] = messages
        yield "Provider response"

    agent = Agent(FunctionModel(answer, stream_function=stream), capabilities=capabilities)
    history = [request("Question 1"), response("Answer 1"), request("Question 2"), response("Answer 2")]
    result: Any
    with capture_run_messages() as captured:
        if is_stream:
            async with agent.run_stream("New question", message_history=history) as result:
                async for _ in result.stream_text():
                    pass
        else:
            result = await agent.run("New question", message_history=history)
    groups = (received, result.all_messages(), result.new_messages(), captured)
    return [
        [(message.kind, [(part.part_kind, str(part.content)) for part in message.parts]) for message in group]  # type: ignore[union-attr]
        for group in groups
    ]


@pytest.mark.parametrize("is_stream", [False, True], ids=["run", "stream"])
@pytest.mark.parametrize("name", PROCESSORS)
async def test_history_processors_see_and_send_the_same_as_without_mnesis(
    name: str, is_stream: bool, engine: Engine
) -> None:
    processors = [ProcessHistory(processor) for processor in PROCESSORS[name]]
    expected = await run_agent(processors, is_stream)
    for capabilities in ([*processors, MnesisHistory(engine=engine)], [MnesisHistory(engine=engine), *processors]):
        assert await run_agent(capabilities, is_stream) == expected
