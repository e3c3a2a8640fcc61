"""What a message counts: everything that is sent of it, and nothing that is not."""

from __future__ import annotations

from typing import Any

import pytest

from mnesis.models.message import (
    DataPart,
    FilePart,
    FileRefPart,
    ImagePart,
    Message,
    MessagePart,
    ReasoningPart,
    TextPart,
    ToolPart,
    ToolResultPart,
    ToolStatus,
    text_message,
)
from mnesis.tokens.estimator import (
    FILE_OVERHEAD_TOKENS,
    FILE_REF_OVERHEAD_TOKENS,
    MESSAGE_OVERHEAD_TOKENS,
    MIN_BASE64_FILE_TOKENS,
    TOOL_OVERHEAD_TOKENS,
    TokenEstimator,
    message_tokens,
)
from mnesis.tokens.images import UNKNOWN_MODEL_IMAGE_TOKENS

CALL: dict[str, Any] = {"tool_name": "grep", "tool_call_id": "c1", "input": {"q": "é"}}
CALL_TOKENS = len("grep") + len('{"q":"é"}') + TOOL_OVERHEAD_TOKENS


def _counted(*parts: MessagePart) -> tuple[int, int]:
    total, tool_output = message_tokens(Message(id="m", role="assistant", parts=parts), len)
    return total - MESSAGE_OVERHEAD_TOKENS, tool_output


@pytest.mark.parametrize(
    ("part", "total", "tool_output"),
    [
        (TextPart(text="hello"), 5, 0),
        (DataPart(kind="x", data={"much": "more"}, text="abc"), 3, 0),
        (ReasoningPart(text="thinking"), 0, 0),
        (ReasoningPart(text="thinking", provider={"signature": "s"}), 8, 0),
        (ToolPart(**CALL), CALL_TOKENS, 0),
        (ToolPart(**CALL, raw_input='{"q": bro'), len("grep") + 9 + TOOL_OVERHEAD_TOKENS, 0),
        (ToolPart(**CALL, output="12345"), CALL_TOKENS + 5 + TOOL_OVERHEAD_TOKENS, 5 + TOOL_OVERHEAD_TOKENS),
        (ToolPart(**CALL, error_message="no"), CALL_TOKENS + 2 + TOOL_OVERHEAD_TOKENS, 2 + TOOL_OVERHEAD_TOKENS),
        (
            ToolPart(**CALL, status=ToolStatus(state="completed")),
            CALL_TOKENS + TOOL_OVERHEAD_TOKENS,
            TOOL_OVERHEAD_TOKENS,
        ),
        (ToolResultPart(tool_call_id="c1", output="12345"), 5 + TOOL_OVERHEAD_TOKENS, 5 + TOOL_OVERHEAD_TOKENS),
        (ImagePart(url="https://example.org/a.png"), UNKNOWN_MODEL_IMAGE_TOKENS, 0),
        (ImagePart(data="A" * 1_000_000), UNKNOWN_MODEL_IMAGE_TOKENS, 0),
        (FilePart(name="a.txt", text="12345"), 5 + 5 + FILE_OVERHEAD_TOKENS, 0),
        (FilePart(name="a.pdf", data="A" * 60), 5 + MIN_BASE64_FILE_TOKENS + FILE_OVERHEAD_TOKENS, 0),
        (FilePart(name="a.pdf", data="A" * 60_000), 5 + 10_000 + FILE_OVERHEAD_TOKENS, 0),
        (
            FileRefPart(content_id="id", path="p/q", file_type="py", exploration_summary="s", token_count=9_999),
            2 + 3 + 2 + 1 + FILE_REF_OVERHEAD_TOKENS,
            0,
        ),
    ],
)
def test_a_part_counts_what_is_sent_of_it(part: MessagePart, total: int, tool_output: int) -> None:
    assert _counted(part) == (total, tool_output)


def test_parts_add_up_and_tool_outputs_are_told_apart() -> None:
    parts = (TextPart(text="look"), ToolPart(**CALL, output="x" * 100), ToolResultPart(tool_call_id="d", output="yy"))
    total, tool_output = _counted(*parts)
    assert total == sum(_counted(part)[0] for part in parts)
    assert tool_output == 100 + 2 + 2 * TOOL_OVERHEAD_TOKENS


def test_an_estimator_counts_a_message_with_the_models_tokenizer() -> None:
    message = text_message("user", "How many tokens may this be?")
    estimator = TokenEstimator()
    assert estimator.estimate_message(message, "gpt-4o") == MESSAGE_OVERHEAD_TOKENS + estimator.estimate(
        message.text_content(), "gpt-4o"
    )


def test_arguments_that_json_cannot_hold_are_counted_all_the_same() -> None:
    part = ToolPart(tool_name="t", tool_call_id="c", input={"when": object(), "bad": "\ud800"})
    assert TokenEstimator().estimate_message(Message(id="m", role="assistant", parts=(part,))) > TOOL_OVERHEAD_TOKENS
