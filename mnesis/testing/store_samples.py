# tests assert
"""Sample values of the conformance suites: every kind of part, hostile texts, and short ways to make messages and summaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mnesis.models.context import Cover, Prune
from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolPart,
    ToolResultPart,
    ToolStatus,
    text_message,
)
from mnesis.models.results import CompactionResult
from mnesis.models.session import SessionRecord
from mnesis.models.summary import Summary
from mnesis.store.base import Append, Compaction, Store

HOSTILE_TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff tail",
    "\ud83d\ude00",
    "\U0001f600",
    "\\ud83d",
    '"quoted" \\ and \n\r\t\u2028\u2029',
    "'; DROP TABLE messages; --",
    "%_*?[",
    "\u202eright to left\u202c",
    "👩\u200d👩\u200d👧",
    "\ufeff\ufffe\uffff",
    '[{"type":"text","text":"not a part"}]',
)
EVERY_PART = (
    TextPart(text="text", provider={"signature": "s"}),
    ReasoningPart(text="because", provider={"nested": [1, 2.5, None, True, {"deep": []}]}),
    ToolPart(tool_name="read", tool_call_id="call_1", input={"path": "/home/ü", "n": 10**30}),
    ToolPart(
        tool_name="read",
        tool_call_id="call_2",
        raw_input="{not json",
        error_message="failed",
        status=ToolStatus(state="error", started_at=1, completed_at=2),
    ),
    ToolPart(tool_name="x", tool_call_id="call_3", output="", status=ToolStatus(state="completed")),
    ToolResultPart(tool_call_id="call_1", tool_name="read", output="content", is_error=True),
    ToolResultPart(
        tool_call_id="call_2",
        output="text\n\n[image image/png]",
        output_parts=(
            TextPart(text="text", provider={"k": [1]}),
            ImagePart(data="aGk="),
            DataPart(kind="k", data={"a": 1}),
        ),
    ),
    ToolPart(
        tool_name="shoot",
        tool_call_id="call_4",
        output="[file a.pdf]",
        output_parts=(FilePart(name="a.pdf", data="aGk="),),
    ),
    ImagePart(url="https://example.org/a.png", detail="low"),
    ImagePart(data="aGk=", media_type="image/gif"),
    FilePart(name="a.txt", text="hello", media_type="text/x-thing"),
    FileRefPart(content_id="c", path="/a", file_type="py", token_count=9, exploration_summary="a file"),
    DataPart(kind="lc.block", data={"lc": 1, "type": "constructor", "": {"\x00": "\ud800"}}, text="block"),
)


@contextmanager
def expect_error(*errors: type[Exception]) -> Iterator[None]:
    """Assert that the block raises one of `errors`."""
    try:
        yield
    except errors:
        return
    raise AssertionError(f"nothing was raised; expected one of {[error.__name__ for error in errors]}")


def make_message(role: Role, text: str = "words", *, tokens: int = 10, **fields: Any) -> Message:
    """Create a message as stores expect it, with every field set except `seq`."""
    return text_message(role, text, token_count=tokens, created_at=fields.pop("created_at", 1_000), **fields)


def make_turn(number: int = 0, *, tokens: int = 10) -> Append:
    """Create an append of a question and its answer that ends a turn."""
    messages = [
        make_message("user", f"question {number}", tokens=tokens),
        make_message("assistant", f"answer {number}", tokens=tokens),
    ]
    return Append(messages, ends_turn=True)


def make_leaf(id: str, first_seq: int, last_seq: int, *, count: int | None = None, tokens: int = 5) -> Summary:
    """Create a summary of messages."""
    message_count = last_seq - first_seq + 1 if count is None else count
    return Summary(
        id=id,
        kind="leaf",
        depth=0,
        level=1,
        text=f"summary {id} \ud800",
        token_count=tokens,
        first_seq=first_seq,
        last_seq=last_seq,
        message_count=message_count,
        source_tokens=10 * message_count,
        file_ids=("file_1",),
        model_id="m",
        created_at=5,
    )


def make_condensed(id: str, children: Sequence[Summary], *, tokens: int = 4) -> Summary:
    """Create a summary of summaries."""
    return make_leaf(id, children[0].first_seq, children[-1].last_seq, tokens=tokens).model_copy(
        update={
            "kind": "condensed",
            "depth": 1 + max(child.depth for child in children),
            "child_ids": tuple(child.id for child in children),
            "message_count": sum(child.message_count for child in children),
        }
    )


def make_compaction(
    read: Sequence[Cover], covers: Sequence[Cover], summaries: Sequence[Summary] = (), prunes: Sequence[Prune] = ()
) -> Compaction:
    """Create a compaction as a store receives it."""
    result = CompactionResult(session_id="s", summary_ids=tuple(summary.id for summary in summaries), trigger="soft")
    return Compaction(tuple(read), tuple(covers), tuple(summaries), tuple(prunes), result)


async def store_conversation(store: Store, turns: int, session_id: str = "s") -> list[Message]:
    """Store a session of `turns` turns, each of two messages of 10 tokens, and return its log."""
    await store.create_session(SessionRecord(id=session_id, model="m"))
    for number in range(turns):
        await store.append(session_id, make_turn(number))
    return await store.messages(session_id)
