"""What may be said, how it is stored and shown, and in which order."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from mnesis import (
    FilePart,
    FileRefPart,
    ImagePart,
    InvalidMessageError,
    ReasoningPart,
    TextPart,
    TokenUsage,
    ToolDefinitionError,
    ToolPart,
    ToolResultPart,
)
from mnesis.llm.base import LLMReply
from mnesis.models.message import MessagePart
from mnesis.testing import ScriptedLLM
from tests.session.support import roles
from tests.support.opened_session import opened

PIXEL = base64.b64encode(b"\x89PNG not really").decode()


async def test_a_turn_is_stored_with_what_the_provider_said_of_it(db: Path) -> None:
    usage = TokenUsage(input=100, output=20, cache_read=50, cache_write=5, total=175)
    reply = LLMReply(
        text="Because.",
        reasoning="Let me think.",
        usage=usage,
        cost=0.25,
        finish_reason="length",
        model="openai/gpt-4o-2",
    )
    async with opened(db, ScriptedLLM(reply)) as session:
        result = await session.send("Why?")
        assert (result.text, result.reasoning, result.finish_reason) == ("Because.", "Let me think.", "length")
        assert (result.tokens, result.cost) == (usage, 0.25)
        assert (session.token_usage, session.cost) == (usage, 0.25)
        question, answer = await session.messages()
        assert (question.id, answer.id) == (result.user_message_id, result.message_id)
        assert [type(part) for part in answer.parts] == [ReasoningPart, TextPart]
        assert answer.text_content() == "Because."
        assert (answer.tokens, answer.cost, answer.finish_reason) == (usage, 0.25, "length")
        assert (answer.model_id, answer.provider_id) == ("openai/gpt-4o-2", "openai")
        assert session.context_tokens == 100 + 50 + 5 + 20 - 4  # the reasoning is not sent back


async def test_a_provider_that_reports_no_usage_is_counted_for(db: Path) -> None:
    async with opened(db, ScriptedLLM("a good answer", usage=None)) as session:
        result = await session.send("a question")
        assert result.tokens.input > 0
        assert result.tokens.output > 0


async def test_a_report_of_nothing_is_counted_for(db: Path) -> None:
    async with opened(db, ScriptedLLM(LLMReply(text="a good answer", usage=TokenUsage()))) as session:
        result = await session.send("a question")
        assert result.tokens.effective_total() > 0
        assert session.context_tokens > 0


async def test_reasoning_is_not_sent_back_as_text(db: Path) -> None:
    model = ScriptedLLM([LLMReply(text="Because.", reasoning="secret thought"), "ok"])
    async with opened(db, model) as session:
        await session.send("Why?")
        await session.send("And then?")
    assert "secret thought" not in str(model.requests[1].messages)


async def test_signed_reasoning_goes_back_as_it_came(db: Path) -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": "abc"}
    model = ScriptedLLM([LLMReply(text="Because.", reasoning="hm", reasoning_blocks=(block,)), "ok"])
    async with opened(db, model) as session:
        await session.send("Why?")
        await session.send("And then?")
        anthropic = await session.context_for_next_turn(provider="anthropic")
    assert model.requests[1].messages[2]["thinking_blocks"] == [block]
    assert anthropic[1]["content"][0] == block


async def test_a_system_prompt_of_one_turn_holds_for_that_turn(db: Path) -> None:
    model = ScriptedLLM("ok")
    async with opened(db, model, system_prompt="Be kind.") as session:
        await session.send("one", system_prompt="Be brief.")
        await session.send("two", system_prompt="")
        await session.send("three")
    first = [request.messages[0] for request in model.requests]
    assert first[0] == {"role": "system", "content": "Be brief."}
    assert first[1] == {"role": "user", "content": "one"}
    assert first[2] == {"role": "system", "content": "Be kind."}


async def test_options_of_the_session_and_of_the_turn_reach_the_model(db: Path) -> None:
    from mnesis import MnesisConfig, SessionConfig

    model = ScriptedLLM("ok")
    config = MnesisConfig(session=SessionConfig(llm_options={"temperature": 0.1, "seed": 3}, request_timeout_seconds=7))
    async with opened(db, model, config=config) as session:
        await session.send("one", llm_options={"temperature": 0.9})
    assert model.requests[0].options == {"temperature": 0.9, "seed": 3}
    assert model.requests[0].timeout_seconds == 7
    assert model.requests[0].max_output_tokens == session.budget.max_output_tokens


IMAGE_URL = "https://images.example/cat.png"


DATA_URL = f"data:image/jpeg;base64,{PIXEL}"


GIVEN: list[tuple[Any, MessagePart]] = [
    (TextPart(text="x"), TextPart(text="x")),
    ("x", TextPart(text="x")),
    ({"type": "text", "text": "x"}, TextPart(text="x")),
    ({"type": "text", "text": "x", "citations": None}, TextPart(text="x")),
    (
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
        TextPart(text="x", provider={"cache_control": {"type": "ephemeral"}}),
    ),
    ({"type": "input_text", "text": "x"}, TextPart(text="x")),
    (ImagePart(url=IMAGE_URL), ImagePart(url=IMAGE_URL)),
    (ImagePart(data=PIXEL, media_type="image/gif"), ImagePart(data=PIXEL, media_type="image/gif")),
    ({"type": "image_url", "image_url": {"url": IMAGE_URL, "detail": "low"}}, ImagePart(url=IMAGE_URL, detail="low")),
    ({"type": "image_url", "image_url": IMAGE_URL}, ImagePart(url=IMAGE_URL)),
    ({"type": "image_url", "image_url": {"url": DATA_URL}}, ImagePart(url=DATA_URL, media_type="image/jpeg")),
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PIXEL}},
        ImagePart(data=PIXEL, media_type="image/webp"),
    ),
    ({"type": "image", "source": {"type": "url", "url": IMAGE_URL}}, ImagePart(url=IMAGE_URL)),
    (FilePart(name="a.txt", text="inside"), FilePart(name="a.txt", text="inside")),
    (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}},
        FilePart(name="a.pdf", data=PIXEL, media_type="application/pdf"),
    ),
    (
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL},
        },
        FilePart(name="a.pdf", data=PIXEL, media_type="application/pdf"),
    ),
    (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "inside"}},
        FilePart(name="document", text="inside"),
    ),
    (
        FileRefPart(content_id="file_1", path="a.log", token_count=9),
        FileRefPart(content_id="file_1", path="a.log", token_count=9),
    ),
]


@pytest.mark.parametrize(("given", "stored"), GIVEN)
async def test_a_part_may_be_given_in_each_of_its_forms(given: Any, stored: MessagePart, db: Path) -> None:
    async with opened(db) as session:
        for content in ([given], given):
            result = await session.send(content)
            assert (await session.message(result.user_message_id)).parts == (stored,)
        result = await session.record([given], "seen")
        assert (await session.message(result.user_message_id)).parts == (stored,)


async def test_text_and_images_reach_the_model_together(db: Path) -> None:
    model = ScriptedLLM("a cat")
    async with opened(db, model) as session:
        await session.send(["What is this?", ImagePart(data=PIXEL, media_type="image/jpeg")])
        blocks = (await session.context_for_next_turn(provider="anthropic"))[0]["content"]
    assert model.requests[0].messages[-1] == {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": DATA_URL}},
        ],
    }
    assert blocks[1]["source"] == {"type": "base64", "media_type": "image/jpeg", "data": PIXEL}


async def test_a_data_url_keeps_its_media_type_for_anthropic(db: Path) -> None:
    async with opened(db) as session:
        await session.record([{"type": "image_url", "image_url": {"url": DATA_URL}}, ImagePart(url=DATA_URL)], "seen")
        blocks = (await session.context_for_next_turn(provider="anthropic"))[0]["content"]
    assert [block["source"] for block in blocks] == [
        {"type": "base64", "media_type": "image/jpeg", "data": PIXEL},
        {"type": "base64", "media_type": "image/jpeg", "data": PIXEL},
    ]


async def test_a_reply_may_be_recorded_as_the_blocks_a_client_gave(db: Path) -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "abc"},
        {"type": "text", "text": "Let me look.", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}},
    ]
    async with opened(db) as session:
        await session.record("What colour?", blocks)
        await session.record([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "blue"}], "It is blue.")
        sent = await session.context_for_next_turn(provider="anthropic")
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant"]
    assert sent[1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "abc"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}},
    ]
    assert sent[2]["content"] == [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "blue"}]


@pytest.mark.parametrize(
    "outcome",
    [
        ToolResultPart(tool_call_id="c1", output="blue"),
        {"type": "tool_result", "tool_use_id": "c1", "content": "blue"},
        {"role": "tool", "tool_call_id": "c1", "content": "blue"},
    ],
)
async def test_a_recorded_reply_may_hold_its_calls_and_their_results(db: Path, outcome: Any) -> None:
    call = ToolPart(tool_name="look", tool_call_id="c1", input={"at": "sky"})
    async with opened(db) as session:
        await session.record("What colour?", [call, outcome, "It is blue."])
        sent = await session.context_for_next_turn()
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant"]
    assert sent[2] == {"role": "tool", "tool_call_id": "c1", "content": "blue"}
    assert sent[3]["content"] == "It is blue."


BAD = [
    "",
    [],
    None,
    123,
    b"bytes",
    [b"bytes"],
    ["text", None],
    {"a", "set"},
    object(),
    {},
    [{}],
    {"type": "nonsense"},
    {"type": "text"},
    {"type": "text", "text": None},
    {"type": "text", "text": 5},
    {"type": "image"},
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": {"url": None}},
    {"type": "image_url", "image_url": 5},
    {"type": "image", "source": {"type": "base64"}},
    {"type": "file"},
    {"type": "file", "file": {}},
    {"type": "tool_use", "name": "x"},
    {"type": "tool_result", "tool_use_id": None},
    {"type": "tool", "tool_name": "x", "tool_call_id": "c", "input": "not a dict"},
    ImagePart(),
    FilePart(),
]


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
async def test_content_that_cannot_be_understood_stores_nothing_at_all(content: Any, db: Path) -> None:
    model = ScriptedLLM("fine")
    async with opened(db, model) as session:
        with pytest.raises(InvalidMessageError):
            await session.send(content)
        with pytest.raises(InvalidMessageError):
            async for _ in session.stream(content):
                pass
        if content != "":
            with pytest.raises(InvalidMessageError):
                await session.record(content, "answer")
            with pytest.raises(InvalidMessageError):
                await session.record("question", content)
        assert await session.messages() == []
        assert model.requests == []
        await session.send("good")
        assert await roles(session) == "ua"


async def test_arguments_that_cannot_be_stored_exactly_store_nothing(db: Path) -> None:
    bad = ToolPart(tool_name="f", tool_call_id="c", input={"bad": object()}, output="x")
    async with opened(db, ScriptedLLM([LLMReply(tool_calls=(bad,)), "fine"])) as session:
        with pytest.raises(InvalidMessageError):
            await session.record("question", [bad])
        assert await session.messages() == []
        with pytest.raises(InvalidMessageError):
            await session.send("question")
        assert await roles(session) == "u"
        await session.send("again")
        assert await roles(session) == "uua"


@pytest.mark.parametrize(
    "tools", [["name"], [5], [int], [{}], [{"function": {}}], [{"name": "x"}], [lambda a, /: a], 5, {"name": "x"}]
)
async def test_a_tool_that_cannot_be_described_stores_nothing(tools: Any, db: Path) -> None:
    async with opened(db) as session:
        with pytest.raises((ToolDefinitionError, TypeError)):
            await session.send("go", tools=tools)
        assert await session.messages() == []
