"""Every message comes back as it was put in."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.samples import sampled

pytest.importorskip("llama_index.core", minversion="0.14.14")  # older ones have fewer types of blocks

from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    CitableBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.memory.mnesis import MnesisMemory
from llama_index.memory.mnesis.messages import digest, from_record, to_record, with_token_counts

from mnesis import concurrency
from mnesis.errors import InvalidMessageError
from mnesis.models.message import ImagePart, ReasoningPart, ToolPart
from mnesis.store.codec import decode_message
from tests.support.llamaindex_fakes import assistant, calls, old_calls, result, user
from tests.support.llamaindex_messages import BLOCKS, PNG, WAV
from tests.support.stored import stored_at_first


def round_trip(message: ChatMessage) -> ChatMessage:
    """Through the bytes a store keeps."""
    record = to_record(message)
    (back,) = from_record(decode_message("s", 1, stored_at_first(record)))
    return back


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.block_type)
@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_every_block_type_comes_back_equal(block: Any, role: str) -> None:
    message = ChatMessage(role=role, blocks=[block], additional_kwargs={"tool_call_id": "c1"})
    assert round_trip(message) == message


@pytest.mark.parametrize("role", list(MessageRole))
@pytest.mark.parametrize("content", [None, "", "text", []], ids=repr)
def test_every_role_and_empty_content_comes_back_equal(role: MessageRole, content: Any) -> None:
    message = ChatMessage(role=role, content=content)
    back = round_trip(message)
    assert back == message
    assert back.content == message.content
    assert isinstance(back.role, MessageRole)


texts = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
any_message = st.builds(
    ChatMessage,
    role=st.sampled_from(list(MessageRole)),
    blocks=st.lists(
        st.sampled_from(BLOCKS)
        | st.builds(TextBlock, text=texts)
        | st.builds(
            ToolCallBlock,
            tool_call_id=st.none() | texts,
            tool_name=texts,
            tool_kwargs=texts | st.dictionaries(texts, json_values, max_size=3),
        ),
        max_size=4,
    ),
    additional_kwargs=st.dictionaries(texts.filter(lambda name: name != "images"), json_values, max_size=3)
    | st.builds(lambda value: {"tool_calls": value}, json_values),
)


@settings(max_examples=sampled(150), deadline=None)
@given(any_message)
def test_any_message_comes_back_equal_and_carries_nothing_more(message: ChatMessage) -> None:
    back = round_trip(message)
    assert back == message
    assert back.model_dump() == message.model_dump()
    assert digest(back) == digest(message)


def test_other_content_has_another_digest() -> None:
    said = [
        user("a"),
        user("b"),
        assistant("a"),
        ChatMessage(role="user", content="a", additional_kwargs={"x": 1}),
        ChatMessage(role="user", blocks=[TextBlock(text="a"), TextBlock(text="")]),
        ChatMessage(role="user", blocks=[ImageBlock(image=PNG)]),
        ChatMessage(role="user", blocks=[ImageBlock(image=PNG + b"\0")]),
        ChatMessage(role="developer", content="a"),
        ChatMessage(role="system", content="a"),
    ]
    assert len({digest(message) for message in said}) == len(said)


FILE_BLOCKS: list[Callable[..., Any]] = [ImageBlock, AudioBlock, VideoBlock, DocumentBlock]
FIELDS = {"image": "image", "audio": "audio", "video": "video", "document": "data"}


def resolved(block: Any) -> bytes:
    content: bytes = getattr(block, f"resolve_{block.block_type}")().read()
    return content


@pytest.mark.parametrize("made", FILE_BLOCKS)
def test_media_given_as_a_file_object_are_kept(made: Callable[..., Any]) -> None:
    field = FIELDS[made.model_fields["block_type"].default]  # type: ignore[attr-defined]  # pydantic models
    source = io.BytesIO(PNG)
    source.seek(5)
    back = round_trip(ChatMessage(role="user", blocks=[made(**{field: source})]))
    assert resolved(back.blocks[0]) == PNG
    assert source.tell() == 5


@pytest.mark.parametrize("made", FILE_BLOCKS)
def test_a_file_that_is_deleted_later_is_replaced_by_its_copy(made: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    message = ChatMessage(role="user", blocks=[made(path=path)])
    record = decode_message("s", 1, stored_at_first(to_record(message)))
    assert from_record(record) == [message]
    path.unlink()
    (back,) = from_record(record)
    block: Any = back.blocks[0]
    assert resolved(block) == PNG
    assert block.path is None


def test_a_deleted_file_inside_a_citable_block_is_replaced_too(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    block = CitableBlock(title="t", source="s", content=[ImageBlock(path=path)])
    record = to_record(ChatMessage(role="user", blocks=[block]))
    path.unlink()
    inner: Any = from_record(record)[0].blocks[0].content[0]  # type: ignore[union-attr]  # a CitableBlock
    assert inner.image == ImageBlock(image=PNG).image


def test_a_message_stays_readable_if_its_uncopied_file_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_index.memory.mnesis.blocks.MAX_COPIED_BYTES", 10)
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    record = to_record(ChatMessage(role="user", blocks=[TextBlock(text="see"), ImageBlock(path=path)]))
    path.unlink()
    (back,) = from_record(record)
    assert back.content == "see"
    assert str(back.blocks[1].path) == str(path)  # type: ignore[union-attr]  # an ImageBlock


def test_bytes_assigned_after_validation_are_kept() -> None:
    block = ImageBlock(image=PNG)
    block.image = b"\xff\xfe raw"
    back: Any = round_trip(ChatMessage(role="user", blocks=[block])).blocks[0]
    assert back.resolve_image().read() == b"\xff\xfe raw"


def test_legacy_images_become_blocks_and_nothing_else() -> None:
    import base64

    from llama_index.core.schema import ImageDocument

    image = ImageDocument(image=base64.b64encode(PNG).decode())
    message = ChatMessage(role="user", content="see", additional_kwargs={"images": [image]})
    back = round_trip(message)
    assert back.blocks == message.blocks
    assert back.additional_kwargs == {}


class Strange:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_kwargs_that_json_cannot_represent_are_described() -> None:
    given = {"o": object(), "s": Strange(), "b": b"\xff", "t": (1, 2), "n": math.nan, "l": "\ud800", "d": {1: "one"}}
    back = round_trip(ChatMessage(role="user", content="x", additional_kwargs=given)).additional_kwargs
    assert back["o"].startswith("[not serialisable: <object")
    assert back["s"] == "[not serialisable: Strange]"
    assert (back["t"], back["n"], back["l"], back["d"]) == ([1, 2], None, "\ud800", {"1": "one"})
    json.dumps(back)


def test_kwargs_without_end_are_refused_by_name(memory: MnesisMemory) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(InvalidMessageError, match="additional_kwargs"):
        memory.put(ChatMessage(role="user", content="x", additional_kwargs=loop))
    assert memory.get_all() == []


def test_what_is_no_chat_message_is_refused(memory: MnesisMemory) -> None:
    with pytest.raises(InvalidMessageError, match="ChatMessage"):
        memory.put("hello")  # type: ignore[arg-type]  # what a user might try
    assert memory.get_all() == []


def test_thinking_calls_and_media_are_counted() -> None:
    def tokens(message: ChatMessage) -> int:
        return with_token_counts(to_record(message), lambda text: len(text.split())).token_count

    bare = tokens(assistant(""))
    assert tokens(ChatMessage(role="assistant", blocks=[ThinkingBlock(content="word " * 50)])) >= bare + 50
    assert tokens(calls("1", q="word " * 50)) >= bare + 50
    assert tokens(old_calls("1", q="word " * 50)) >= bare + 50
    for block, at_least in ((ImageBlock(image=PNG), 256), (AudioBlock(audio=WAV), 256), (VideoBlock(video=WAV), 256)):
        assert tokens(ChatMessage(role="user", blocks=[block])) >= at_least


def test_both_dialects_of_tool_calls_are_understood() -> None:
    selection = {"tool_id": "c", "tool_name": "look", "tool_kwargs": {"q": "x"}}
    anthropic = {"id": "d", "name": "look", "input": {"q": "x"}, "type": "tool_use"}
    others = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": [selection, anthropic]})
    for message in (calls("c", "d", q="x"), old_calls("c", "d", q="x"), others):
        found = [part for part in to_record(message).parts if isinstance(part, ToolPart)]
        assert [(part.tool_call_id, part.tool_name, part.input) for part in found] == [
            ("c", "look", {"q": "x"}),
            ("d", "look", {"q": "x"}),
        ]


def test_a_call_that_stands_in_both_dialects_is_one_call() -> None:
    both = calls("c", q="x")
    both.additional_kwargs = old_calls("c").additional_kwargs
    assert len(to_record(both).tool_calls) == 1
    assert round_trip(both) == both


def test_other_apis_read_text_thinking_images_and_results() -> None:
    record = to_record(
        ChatMessage(
            role="assistant",
            blocks=[ThinkingBlock(content="hm", additional_information={"signature": "s"}), TextBlock(text="so")],
        )
    )
    assert record.text_content() == "so"
    assert record.parts[0] == ReasoningPart(
        text="hm", provider={"type": "thinking", "thinking": "hm", "signature": "s"}
    )
    picture = to_record(ChatMessage(role="user", blocks=[ImageBlock(image=PNG)])).parts[0]
    assert isinstance(picture, ImagePart)
    assert picture.media_type == "image/png"
    assert to_record(result("c9", "42")).tool_results[0].output == "42"


def test_returned_messages_are_the_callers_own(memory: MnesisMemory) -> None:
    kwargs = {"deep": {"list": [1]}}
    memory.put(ChatMessage(role="user", content="hello", additional_kwargs=kwargs))
    memory.put(calls("c", q={"deep": [1]}))
    before = [message.model_dump() for message in memory.get_all()]
    for got in (memory.get, memory.get_all, memory.history):
        for message in got():
            message.additional_kwargs.setdefault("deep", {}).setdefault("list", []).append(2)
            message.additional_kwargs["cache_control"] = True
            for block in message.blocks:
                if isinstance(block, TextBlock):
                    block.text = "changed"
                if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict):
                    block.tool_kwargs.get("q", {}).get("deep", []).append(2)
            message.blocks.append(TextBlock(text="more"))
        assert [message.model_dump() for message in got()][:1] == before[:1]
    kwargs["deep"]["list"].append(3)
    assert [message.model_dump() for message in memory.get_all()] == before


def test_messages_of_other_apis_come_back_as_llama_index_messages(memory: MnesisMemory) -> None:
    from mnesis.models.message import TextPart, ToolStatus

    async def recorded() -> None:
        session = await memory.asession()
        call = ToolPart(
            tool_name="look", tool_call_id="1", input={"q": 1}, output="it", status=ToolStatus(state="completed")
        )
        await session.record("hi", [TextPart(text="let me see"), call])

    concurrency.run(recorded())
    asked, called, answered = memory.get()
    assert (asked.role, asked.content) == (MessageRole.USER, "hi")
    assert called.blocks[1] == ToolCallBlock(tool_call_id="1", tool_name="look", tool_kwargs={"q": 1})
    assert (answered.role, answered.content, answered.additional_kwargs) == (
        MessageRole.TOOL,
        "it",
        {"tool_call_id": "1"},
    )
