"""Where inputs come from and where results go: iterables, JSONL files, and what is neither."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mnesis.engine import Engine
from mnesis.errors import ConfigurationError, LLMAuthenticationError, MissingFileError, UnsuitableFileError
from mnesis.operators.inputs import MAX_LINE_BYTES, InputSource
from mnesis.operators.llm_map import LLMMap
from mnesis.testing import ScriptedLLM
from tests.support.samples import sampled

OK = {"type": "object"}


class Person(BaseModel):
    name: str


@dataclass
class Place:
    name: str


async def texts(source: InputSource) -> list[str]:
    return [text async for batch in source.batches() for text in batch]


async def of(inputs: Any) -> list[Any]:
    """The inputs as results show them."""
    batch = await LLMMap(llm=ScriptedLLM("{}")).run_all(inputs, "{{ item }}", OK)
    return [result.input for result in batch.results]


async def test_any_iterable_will_do() -> None:
    async def coming() -> AsyncIterator[int]:
        for number in range(600):
            yield number

    assert await of(range(600)) == list(range(600))
    assert await of(number for number in range(600)) == list(range(600))
    assert await of(coming()) == list(range(600))
    assert await of(({"a": 1}, [2], None, "é\u0000\ud800")) == [{"a": 1}, [2], None, "é\u0000\ud800"]


async def test_models_and_dataclasses_are_their_fields() -> None:
    assert await of([Person(name="Bo"), Place("Oslo"), {"in": Person(name="Al")}]) == [
        {"name": "Bo"}, {"name": "Oslo"}, {"in": {"name": "Al"}},
    ]  # fmt: skip


@pytest.mark.parametrize("as_text", [True, False])
async def test_a_file_has_an_item_per_line(tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n"two"\r\n3')
    assert await of(str(path) if as_text else path) == [{"a": 1}, "two", 3]


@pytest.mark.parametrize("inputs", ["a text", b"bytes", {"a": 1}, 3, None])
def test_what_is_no_list_of_inputs_is_refused(inputs: Any) -> None:
    with pytest.raises(ConfigurationError, match="inputs"):
        LLMMap(llm=ScriptedLLM()).run(inputs, "{{ item }}", OK)


def test_what_is_no_file_to_read_is_refused(tmp_path: Path) -> None:
    mapper = LLMMap(llm=ScriptedLLM())
    os.mkfifo(tmp_path / "fifo.jsonl")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    with pytest.raises(MissingFileError, match="nothing"):
        mapper.run(tmp_path / "nothing.jsonl", "{{ item }}", OK)
    for path in (tmp_path / "fifo.jsonl", tmp_path / "loop.jsonl", tmp_path, Path("/dev/zero")):
        with pytest.raises(UnsuitableFileError):
            mapper.run(path, "{{ item }}", OK)


@pytest.mark.parametrize("line", [b"{", b"not json", b"\xff\xfe", b"[" * 100_000, b"NaN"])
async def test_a_broken_line_is_named_and_what_was_done_before_stays(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"1\n" * 300 + line + b"\n2\n")
    async with Engine(tmp_path / "work.db") as engine:
        mapper = LLMMap(engine=engine, llm=ScriptedLLM("{}"))
        with pytest.raises(UnsuitableFileError, match="line 301"):
            await mapper.run_all(path, "{{ item }}", OK, run_id="r")
        path.write_bytes(b"1\n" * 300 + b"5\n2\n")
        batch = await mapper.run_all(path, "{{ item }}", OK, run_id="r")
    assert [result.input for result in batch.results] == [1] * 300 + [5, 2]


async def test_an_endless_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        file.truncate(MAX_LINE_BYTES + 2)
    with pytest.raises(UnsuitableFileError, match="line 1"):
        await of(path)


async def test_an_input_that_is_no_json_is_named() -> None:
    with pytest.raises(ConfigurationError, match="input 1 "):
        await of([1, object()])


async def test_results_become_a_file_when_the_run_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("of an earlier run")
    llm = ScriptedLLM(lambda request: '{"é": 1}' if request.messages[1]["content"] != "1" else "no")
    running = LLMMap(llm=llm).run(range(3), "{{ item }}", OK, output_path=output, order="input", max_retries=0)
    async with aclosing(running):
        await anext(running)
        assert output.read_text() == "of an earlier run"
        assert [result.index async for result in running] == [1, 2]
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["index"], line["input"], line["success"]) for line in lines] == [
        (0, 0, True),
        (1, 1, False),
        (2, 2, True),
    ]
    assert lines[0]["output"] == {"é": 1}
    assert lines[1]["error_kind"] == "validation"
    assert output.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["out.jsonl"]


async def test_a_run_that_ends_early_leaves_no_file(tmp_path: Path) -> None:
    llm = ScriptedLLM(["{}", LLMAuthenticationError("no key")], repeat_last=True)
    with pytest.raises(LLMAuthenticationError):
        await LLMMap(llm=llm).run_all(range(9), "{{ item }}", OK, output_path=tmp_path / "out.jsonl", concurrency=1)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 250 + ".jsonl", "a\0.jsonl", "none/a.jsonl"])
async def test_a_file_that_cannot_be_written_is_refused_before_any_call(tmp_path: Path, name: str) -> None:
    llm = ScriptedLLM("{}")
    with pytest.raises(ConfigurationError, match="output_path"):
        await LLMMap(model="m", llm=llm).run_all([1], "{{ item }}", OK, output_path=tmp_path / name)
    assert (llm.requests, os.listdir(tmp_path)) == ([], [])


async def test_the_file_of_the_inputs_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("1\n")
    with pytest.raises(ConfigurationError, match="inputs come from"):
        LLMMap(llm=ScriptedLLM()).run(path, "{{ item }}", OK, output_path=path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values=st.lists(VALUES, max_size=20))
@settings(max_examples=sampled(30), deadline=None)
async def test_inputs_come_through_a_file_and_a_database_as_they_were(values: list[Any], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("round") / "in.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    assert [json.loads(text) for text in await texts(InputSource(path))] == values
    async with Engine(":memory:") as engine:
        batch = await LLMMap(engine=engine, llm=ScriptedLLM("{}")).run_all(path, "{{ item }}", OK)
    assert [result.input for result in batch.results] == values
