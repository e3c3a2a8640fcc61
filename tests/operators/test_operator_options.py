"""Keyword options: names are checked, synonyms are accepted, every option is described."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

from mnesis import AgenticMap, LLMMap, delegate, delegate_all
from mnesis.errors import ConfigurationError
from mnesis.operators import agentic_map_tool, delegate_all_tool, delegate_tool, llm_map_tool, options
from mnesis.testing import ScriptedLLM

OK = {"type": "object"}
LLM = ScriptedLLM("{}")


@pytest.mark.parametrize(
    ("call", "name", "suggestion"),
    [
        (lambda given: LLMMap(llm=LLM).run([1], "{{ item }}", OK, **given), "timeout_second", "timeout_seconds"),
        (lambda given: AgenticMap(llm=LLM).run([1], "{{ item }}", **given), "max_turn", "max_turns"),
        (lambda given: delegate_tool(**given), "readonly", "read_only"),
        (lambda given: delegate_all_tool(**given), "models", "model"),
        (lambda given: llm_map_tool(LLMMap(llm=LLM), **given), "concurency", "concurrency"),
        (lambda given: agentic_map_tool(AgenticMap(), **given), "runid", "run_id"),
    ],
)
def test_an_unknown_option_is_refused_with_a_suggestion(call: Any, name: str, suggestion: str) -> None:
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{name}'; did you mean '{suggestion}'"):
        call({name: 1})


async def test_unknown_options_of_coroutines_are_refused_too() -> None:
    wrong: dict[str, Any] = {"max_turn": 1}
    calls = (
        delegate("x", **wrong),
        delegate_all(["x"], **wrong),
        AgenticMap(llm=LLM).run_all([1], "{{ item }}", **wrong),
    )
    for call in calls:
        with pytest.raises(TypeError, match="max_turns"):
            await call


def test_an_option_that_resembles_nothing_is_refused_with_the_known_names() -> None:
    wrong: dict[str, Any] = {"xyzzy": 1}
    with pytest.raises(TypeError, match=r"expected one of: concurrency, .*temperature"):
        LLMMap(llm=LLM).run([1], "{{ item }}", OK, **wrong)


@pytest.mark.parametrize("name", ["order", "output_path", "output_schema", "parent"])
def test_options_that_a_tool_sets_itself_are_refused(name: str) -> None:
    given: dict[str, Any] = {name: None}
    with pytest.raises(TypeError, match=f"agentic_map_tool\\(\\) sets '{name}' itself"):
        agentic_map_tool(AgenticMap(), **given)


@pytest.mark.parametrize(("synonym", "name"), options.SYNONYMS.items())
def test_an_option_and_its_synonym_exclude_each_other(synonym: str, name: str) -> None:
    kind: Any = options.LLMMapOptions if synonym == "timeout_secs" else options.AgenticMapOptions
    assert options.resolve_options("f", kind, {synonym: 1}) == {name: 1}
    assert options.resolve_options("f", kind, {synonym: None, name: 1}) == {name: 1}
    with pytest.raises(ConfigurationError, match=f"{name} and {synonym} are the same option"):
        options.resolve_options("f", kind, {synonym: 1, name: 1})


def test_every_option_has_a_type_and_a_description() -> None:
    classes = [node for node in ast.parse(inspect.getsource(options)).body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 9
    for each in classes:
        fields = each.body[1:]
        for field, text in zip(fields[::2], fields[1::2], strict=True):
            assert isinstance(field, ast.AnnAssign)
            assert isinstance(text, ast.Expr)
            assert isinstance(text.value, ast.Constant)
