"""Replies put together from what litellm hands over, shapes no server here sends."""

from __future__ import annotations

from types import SimpleNamespace as Shape
from typing import Any

from mnesis.llm.base import Delta
from mnesis.llm.litellm_replies import StreamedReply, parse_usage
from mnesis.models.usage import TokenUsage


def chunk(**delta: Any) -> Shape:
    full = {"content": None, "tool_calls": None, **delta}
    return Shape(choices=[Shape(delta=Shape(**full), finish_reason=None)])


def fragment(index: int | None, id: str | None, name: str | None, arguments: str | None, **fields: Any) -> Shape:
    return Shape(index=index, id=id, function=Shape(name=name, arguments=arguments), **fields)


def calls_of(*fragments: Shape) -> list[tuple[str, str, dict[str, Any]]]:
    reply = StreamedReply()
    for each in fragments:
        reply.add(chunk(tool_calls=[each]))
    return [(call.tool_call_id, call.tool_name, call.input) for call in reply.to_reply(None, 0.0, "m").tool_calls]


def test_calls_that_are_all_numbered_alike_are_told_apart_by_id() -> None:
    fragments = [fragment(0, "a", "f", '{"x":'), fragment(0, None, None, " 1}"), fragment(0, "b", "g", "{}")]
    assert calls_of(*fragments) == [("a", "f", {"x": 1}), ("b", "g", {})]


def test_an_id_that_is_repeated_with_each_fragment_is_one_call() -> None:
    assert calls_of(fragment(None, "a", "f", '{"x":'), fragment(None, "a", None, " 1}")) == [("a", "f", {"x": 1})]


def test_what_a_provider_wants_back_with_a_call_is_kept() -> None:
    reply = StreamedReply()
    signed = {"thought_signature": "SIG"}
    reply.add(chunk(tool_calls=[fragment(0, "a", "f", "", provider_specific_fields=signed)]))
    reply.add(chunk(tool_calls=[fragment(0, None, None, "{}")]))
    assert reply.to_reply(None, 0.0, "m").tool_calls[0].provider == signed


def test_thinking_is_joined_where_only_the_signature_comes_last() -> None:
    reply = StreamedReply()
    for text, signature in (("let me ", None), ("think", None), ("", "SIG")):
        reply.add(chunk(thinking_blocks=[{"type": "thinking", "thinking": text, "signature": signature}]))
    assert reply.to_reply(None, 0.0, "m").reasoning_blocks == (
        {"type": "thinking", "thinking": "let me think", "signature": "SIG"},
    )


def test_a_chunk_without_choices_brings_only_its_usage() -> None:
    reply, report = StreamedReply(), Shape(prompt_tokens=5)
    assert reply.add(Shape(choices=[], usage=report)) is None
    assert reply.add(chunk(content="x")) == Delta(text="x")
    assert reply.usage_report is report


def test_cache_counts_are_taken_out_of_the_input() -> None:
    report = Shape(prompt_tokens=100, completion_tokens=7, cache_creation_input_tokens=30, cache_read_input_tokens=60)
    assert parse_usage(report) == TokenUsage(input=10, output=7, cache_read=60, cache_write=30, total=107)
    assert parse_usage(None) is None
