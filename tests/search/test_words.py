"""What is indexed of a message and what a question looks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnesis.formats.text import message_text
from mnesis.models.message import FilePart, FileRefPart, ImagePart, Message, ToolPart, ToolResultPart, text_message
from mnesis.search.analysis import MAX_QUERY_TERMS, build_index_entry, query_terms, speaker, to_index_text


def looked_for(question: str) -> list[str]:
    return [forms[0] for forms in query_terms(question)]


def test_words_that_say_nothing_are_left_out() -> None:
    assert looked_for("What did the gardener say about the roses?") == ["gardener", "roses"]


def test_a_question_of_only_such_words_is_asked_as_it_is() -> None:
    assert looked_for("who are you") == ["who", "are", "you"]


def test_irregular_forms_are_looked_for_together() -> None:
    assert set(query_terms("went")[0]) == {"go", "went", "gone"}


@pytest.mark.parametrize("question", ["", "   ", "→→", "\x00", "!?()\"'*", "\n"])
def test_a_question_without_words_looks_for_nothing(question: str) -> None:
    assert query_terms(question) == ()


def test_a_huge_question_is_bounded() -> None:
    assert len(query_terms(" ".join(f"word{n}" for n in range(30_000)))) == MAX_QUERY_TERMS


@given(st.text())
def test_any_question_can_be_read(question: str) -> None:
    for forms in query_terms(question):
        assert all(form and '"' not in form and not form.isspace() for form in forms)


def test_scripts_without_spaces_are_looked_for_in_pairs() -> None:
    assert looked_for("東京都") == ["東京", "京都"]
    assert "東京 京都" in to_index_text("in 東京都 today")


def test_compound_identifiers_are_found_by_their_pieces() -> None:
    assert "get User Name" in to_index_text("call getUserName() now")


def test_a_message_is_read_with_its_calls_outputs_and_files_but_no_data() -> None:
    parts = (
        ToolPart(tool_name="read", tool_call_id="c", input={"path": "notes.md"}, output="the harbour plan"),
        ToolResultPart(tool_call_id="d", tool_name="list", output="three boats"),
        FileRefPart(content_id="f", path="/data/tides.csv", exploration_summary="a table of tides"),
        FilePart(name="letter.txt", text="dear captain"),
        ImagePart(data="QUJDREVGRw=="),
    )
    text = message_text(Message(id="m", role="assistant", parts=parts))
    for said in ("read", "notes.md", "harbour plan", "three boats", "tides.csv", "table of tides", "dear captain"):
        assert said in text
    assert "QUJD" not in text
    assert build_index_entry(Message(id="m", role="assistant", parts=parts)).tool_names == "list\nread"


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("Maria: hello", "maria"),
        ("Dr. O'Neil: well", "dr. o'neil"),
        ("hello: x", "hello"),
        ("a plain word", ""),
        ("", ""),
    ],
)
def test_the_speaker_is_the_name_before_a_colon(text: str, who: str) -> None:
    assert speaker(text_message("user", text)) == who
