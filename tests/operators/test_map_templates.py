"""Prompt templates: what they render, what is refused before anything runs, and what a model's template cannot do."""

from __future__ import annotations

from typing import Any

import pytest

from mnesis.errors import ConfigurationError
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.template import MAX_PROMPT_CHARS, SubstitutionTemplate, Template, TemplateError
from mnesis.testing import ScriptedLLM


@pytest.mark.parametrize(
    ("source", "item", "prompt"),
    [
        ("Sum up: {{ item }}", "a text", "Sum up: a text"),
        ("{{ item.name|upper }} ({{ item['age'] }})", {"name": "bo", "age": 3}, "BO (3)"),
        ("{{ item._id }}", {"_id": 7}, "7"),
        ("{% for x in item %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}", ["a", "b"], "1/2:a 2/2:b "),
        ("{% set t %}<{{ item }}>{% endset %}{{ t ~ 1 ~ t }}", "x", "<x>1<x>"),
        ("{{ item|tojson }}\n", {"a": [1]}, '{"a": [1]}\n'),
        ("{{ '%03d|%s'|format(item, 'y') }} {{ '{:.2f}'.format(item) }} {{ 10 ** 3 + item }}", 5, "005|y 5.00 1005"),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(item) }}{{ range(3)|join(',') }}", 1, "[1]0,1,2"),
        ("{% for k, v in item.items() %}{{ k }}={{ v }};{% endfor %}", {"a": 1, "b": 2}, "a=1;b=2;"),
        ("{% if item is mapping %}map{% else %}{{ item or 'none' }}{% endif %}", None, "none"),
    ],
)
def test_templates_say_what_jinja_says(source: str, item: Any, prompt: str) -> None:
    assert Template(source).render(item) == prompt


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("no variable", "does not use item"),
        ("{% set item = 1 %}{{ item }}", "does not use item"),
        ("{{ item }} {{ other }} {{ third }}", "other, third"),
        ("one\n{{ item", "line 2"),
        ("{{ item|nope }}", "nope"),
        ("{% include '/etc/passwd' %}{{ item }}", "load"),
        ("{% import 'x' as x %}{{ item }}", "load"),
        ("{% extends 'x' %}{{ item }}", "load"),
        ("{{ item.__class__.__mro__ }}", "sandbox"),
        ("{{ item }}{{ cycler.__init__.__globals__.os.popen('id').read() }}", "sandbox"),
        ("{{ item }}{{ ''.__class__ }}", "sandbox"),
        ("{{ item }}{{ lipsum(9) }}", "lipsum"),
        ("{{" + "(" * 100_000 + "item", "deep"),
        ("{{ item }}" + "{% if item %}" * 5_000 + "{% endif %}" * 5_000, "deep"),
        ("x" * 1_000_001 + "{{ item }}", "characters"),
        (None, "string"),
        (3, "string"),
    ],
)
async def test_templates_that_cannot_work_are_refused_before_any_call(source: Any, reason: str) -> None:
    llm = ScriptedLLM()
    with pytest.raises(ConfigurationError, match=reason):
        LLMMap(llm=llm).run([1], source, {"type": "object"})
    assert llm.requests == []


@pytest.mark.parametrize(
    "source",
    [
        "{{ item['__class__'] }}",
        "{{ item|attr('__class__') }}",
        "{{ item['__cla' ~ 'ss__'] }}",
        "{{ item|attr('__cla' ~ 'ss__') }}",
        "{{ [item]|map(attribute='__cla' ~ 'ss__')|join }}",
        "{{ ('{0.__cla' ~ 'ss__}').format(item) }}",
        "{{ (item.format).__func__ }}",
    ],
)
def test_ways_out_that_are_put_together_while_rendering_lead_nowhere(source: str) -> None:
    with pytest.raises((TemplateError, ConfigurationError)):
        Template(source).render("text")


def test_a_prompt_has_a_longest_length() -> None:
    item = "a" * (MAX_PROMPT_CHARS // 2 + 1)
    with pytest.raises(TemplateError, match="longer"):
        Template("{{ item }}{{ item }}").render(item)
    with pytest.raises(TemplateError, match="longer"):
        SubstitutionTemplate("{{ item }}{{ item }}").render(item)
    assert len(Template("{{ item }}").render(item)) == len(item)


@pytest.mark.parametrize(
    "source", ["{{ item.a.b }}", "{{ 1 / item }}", "{{ item() }}", "{{ item|int + 'a' }}", "{{ item[9][9] }}"]
)
def test_what_does_not_suit_the_data_is_one_kind_of_error(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source).render(0)


def test_items_cannot_be_changed_by_a_template() -> None:
    item = [1]
    with pytest.raises(TemplateError, match="SecurityError"):
        Template("{{ item.append(2) }}").render(item)
    assert item == [1]


@pytest.mark.parametrize(
    ("source", "item", "prompt"),
    [
        ("Sum up: {{ item }}", "a text", "Sum up: a text"),
        ("{{item.name}} ({{ item.age }})", {"name": "bo", "age": 3}, "bo (3)"),
        ("{{ item.list.1.x }}", {"list": [0, {"x": None}]}, "None"),
        ("{{ item }} costs {5}", "{{ item }}", "{{ item }} costs {5}"),
        ("{{ item }}", {"a": [1]}, "{'a': [1]}"),
    ],
)
def test_a_models_template_replaces_paths(source: str, item: Any, prompt: str) -> None:
    assert SubstitutionTemplate(source).render(item) == prompt


@pytest.mark.parametrize(
    "source",
    [
        "no variable", "{{ other }}", "{{ item", "{{ item|upper }}", "{{ item }}{{ 7 * 7 }}", "{{ item.a() }}",
        "{{ item['a'] }}", "{% for x in item %}{{ x }}{% endfor %}{{ item }}", "{{ item }}{{ range(9) }}", "", None,
        "{{ item }}" + "x" * 1_000_000,
    ],
)  # fmt: skip
def test_a_models_template_with_any_other_syntax_is_refused(source: Any) -> None:
    with pytest.raises(ConfigurationError):
        SubstitutionTemplate(source)


@pytest.mark.parametrize("path", ["__class__", "items", "b", "a.b", "list.9", "list.x", "list.append", "text.upper"])
def test_a_models_template_reaches_data_only(path: str) -> None:
    item = {"a": 1, "list": [1], "text": "x"}
    with pytest.raises(TemplateError, match="does not have a value"):
        SubstitutionTemplate(f"{{{{ item.{path} }}}}").render(item)
