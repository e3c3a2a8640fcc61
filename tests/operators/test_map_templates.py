"""Prompt templates: what they can say, what is refused before anything runs, and what rendering may take."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mnesis.errors import ConfigurationError
from mnesis.operators.llm_map import LLMMap
from mnesis.operators.template import MAX_PROMPT_CHARACTERS, Template, TemplateError, TooLargeError
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
        ("{{ item['__class__'] }}", "sandbox"),
        ("{{ item|attr('__class__') }}", "sandbox"),
        ("{{ item }}{{ cycler.__init__.__globals__.os.popen('id').read() }}", "sandbox"),
        ("{{ item }}{{ ''.__class__ }}", "sandbox"),
        ("{{ item }}{{ lipsum(9) }}", "lipsum"),
        ("{{" + "(" * 100_000 + "item", "deep"),
        ("{{ item }}" + "{% if item %}" * 5_000 + "{% endif %}" * 5_000, "deep"),
        ("x" * 1_000_001 + "{{ item }}", "characters"),
        (None, "text"),
        (3, "text"),
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


DOUBLED = 40
BOMBS = [
    "{{ item * 10 ** 9 }}",
    "{{ 'a' * 10 ** 9 ~ item }}",
    "{{ [0] * 10 ** 9 }}{{ item }}",
    "{% for a in range(10 ** 9) %}{{ item }}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}{{ item }}",
    "{% for a in range(100000) %}{{ 'a' * 1000 }}{% endfor %}{{ item }}",
    "{{ item|center(10 ** 9) }}",
    "{{ item.ljust(10 ** 9) }}",
    "{{ item.zfill(10 ** 10) }}",
    "{{ item|indent(10 ** 9, true) }}",
    "{{ item|batch(10 ** 9, 'x')|list }}",
    "{{ '%1000000000d'|format(1) }}{{ item }}",
    "{{ '%*d'|format(10 ** 9, 1) }}{{ item }}",
    "{{ '%1000000000d' % 1 }}{{ item }}",
    "{{ '{:1000000000}'.format(1) }}{{ item }}",
    "{{ '{0:{1}}'.format(1, 10 ** 9) }}{{ item }}",
    "{{ (1).to_bytes(10 ** 9, 'big') }}{{ item }}",
    "{{ 7 ** (10 ** 9) }}{{ item }}",
    "{{ ('a' * 1000000).replace('a', 'a' * 1000000) }}{{ item }}",
    "{{ ('a' * 1000000)|replace('a', 'a' * 1000000) }}{{ item }}",
    "{{ (['a'] * 100000)|join('a' * 1000000) }}{{ item }}",
    "{{ range(100000)|map('center', 100000)|join }}{{ item }}",
    "{% set x = item %}" + "{% set x = x ~ x %}" * DOUBLED + "{{ x }}",
    "{% set x = item %}" + "{% set x = x + x %}" * DOUBLED + "{{ x }}",
    "{% set x = item %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * DOUBLED + "{{ x }}",
    "{% set x = [item] %}" + "{% set x = [x, x] %}" * DOUBLED + "{{ x }}",
    "{% set x = [item] %}" + "{% set x = [x, x] %}" * DOUBLED + "{{ x|tojson }}",
    "{% set x = [item] %}" + "{% set x = [x, x] %}" * DOUBLED + "{{ x ~ 1 }}",
    "{% set x, y = [], [] %}" + "{% set x = [x, x] %}{% set y = [y, y] %}" * DOUBLED + "{{ x == y }}{{ item }}",
    "{% set x, y = (), () %}" + "{% set x = (x, x) %}{% set y = (y, y) %}" * DOUBLED + "{{ x == y }}{{ item }}",
    "{% set x, y = {}, {} %}"
    + "{% set x = {1: x, 2: x} %}{% set y = {1: y, 2: y} %}" * DOUBLED
    + "{{ x == y ~ item }}",
    "{{ ('a' * 1000000).join(range(100000)|map('string')) }}{{ item }}",
    "{{ range(100000)|map('string')|join('a' * 1000000) }}{{ item }}",
    "{{ ('a' * 1000000).translate({97: 'b' * 1000000}) }}{{ item }}",
    "{{ (item * 3000000).encode('punycode') }}",
    "{{ (item * 3000000)|wordwrap(1) }}",
    "{{ ([[0]] * 300000)|sum(start=[]) }}{{ item }}",
    "{{ (item * 3000000)|groupby(1) }}",
    "{% set n = ('f' * 9000000)|int(base=16) %}{{ n // (n // 2 ** 90000) }}{{ item }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}{{ item }}",
    "{% for x in [1, 2] recursive %}{% if loop.depth < 40 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}{{ item }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_templates_that_would_take_all_time_or_memory_are_stopped(source: str) -> None:
    template, started = Template(source), time.process_time()
    with pytest.raises(TooLargeError):
        template.render("abc")
    assert time.process_time() - started < 30


def test_computing_without_end_is_stopped_whatever_each_step_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnesis.operators.template.MAX_SECONDS", 0.05)
    loop = "{% set x = 'a' * 9000000 %}{% for i in range(100000) %}{% if 'b' in x %}{% endif %}{% endfor %}{{ item }}"
    filters = "{% set x = item * 3000000 %}" + "{% set y = x|upper %}" * 3_000 + "{{ y }}"
    for source in (loop, filters):
        with pytest.raises(TooLargeError, match="seconds"):
            Template(source).render("abc")


def test_a_prompt_has_a_longest_length() -> None:
    item = "a" * (MAX_PROMPT_CHARACTERS // 2 + 1)
    with pytest.raises(TemplateError, match="longer"):
        Template("{{ item }}{{ item }}").render(item)
    assert len(Template("{{ item }}").render(item)) == len(item)


@pytest.mark.parametrize(
    "source", ["{{ item.a.b }}", "{{ 1 / item }}", "{{ item() }}", "{{ item|int + 'a' }}", "{{ item[9][9] }}"]
)
def test_what_does_not_suit_the_data_is_one_kind_of_error(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source).render(0)
