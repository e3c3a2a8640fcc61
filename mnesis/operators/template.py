"""Prompt templates over one variable, `item`, in two levels of trust.

`Template` is written by a developer: Jinja in its sandbox. `SubstitutionTemplate` is written by a model: paths such as
`{{ item.name }}` are replaced, and nothing is evaluated. Both are checked when they are created, and both limit the
length of prompts. Data is never a template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mnesis.errors import ConfigurationError, MnesisError

if TYPE_CHECKING:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEMPLATE_CHARS = 1_000_000
MAX_PROMPT_CHARS = 10_000_000

_PLACEHOLDER = re.compile(r"\{\{\s*item((?:\.\w+)*)\s*\}\}")


class TemplateError(MnesisError, ValueError):
    """A template that cannot be rendered for this item."""


class Template:
    """A Jinja template written by a developer.

    It runs in Jinja's sandbox: it cannot load other templates, change the item or reach Python's internals. Raises
    `ConfigurationError` when created from an invalid template.
    """

    def __init__(self, source: str) -> None:
        self.source = _check_source(source)
        self._compiled = _compile(source)

    def render(self, item: Any) -> str:
        """Render the prompt for an item.

        Raises `TemplateError` if the item does not suit the template.
        """
        from jinja2.exceptions import TemplateError as JinjaError

        try:
            return _join(self._compiled.generate({"item": item}))
        except TemplateError:
            raise
        except (
            JinjaError,
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            # The exceptions that filters and operators raise for data of another shape.
            raise TemplateError(f"{type(error).__name__}: {error!s:.500}") from error


class SubstitutionTemplate:
    """A template written by a model, in which paths are replaced by values.

    Paths are `{{ item }}`, `{{ item.name }}` and `{{ item.list.0 }}`. Nothing is evaluated. Raises
    `ConfigurationError` when created from a text that has none of these, or any other Jinja syntax.
    """

    def __init__(self, source: str) -> None:
        self.source = _check_source(source)
        # Literal texts at even positions, paths such as ".name" at odd ones.
        self._pieces = _PLACEHOLDER.split(source)
        for text in self._pieces[::2]:
            if unsupported := re.search(r"\{[{%].{0,80}", text):
                raise ConfigurationError(
                    f"the template contains {unsupported[0]!r}; only {{{{ item }}}} and {{{{ item.name }}}} are replaced here"
                )
        if len(self._pieces) == 1:
            raise _no_item()

    def render(self, item: Any) -> str:
        """Render the prompt for an item.

        Raises `TemplateError` if the item lacks a value that the template names.
        """
        return _join(str(_look_up(item, piece)) if number % 2 else piece for number, piece in enumerate(self._pieces))


PromptTemplate = Template | SubstitutionTemplate


def as_template(template: str | PromptTemplate) -> PromptTemplate:
    """Return a template unchanged, and a text as a developer's `Template`."""
    if isinstance(template, Template | SubstitutionTemplate):
        return template
    return Template(template)


def _look_up(item: Any, path: str) -> Any:
    value = item
    for name in path.split(".")[1:]:
        try:
            value = value[int(name)] if isinstance(value, list) else dict(value)[name]
        except (LookupError, TypeError, ValueError) as error:
            raise TemplateError(f"the item does not have a value at item{path}") from error
    return value


def _join(pieces: Iterable[str]) -> str:
    parts, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_PROMPT_CHARS:
            raise TemplateError(f"the prompt is longer than {MAX_PROMPT_CHARS} characters")
        parts.append(piece)
    return "".join(parts)


def _check_source(source: object) -> str:
    if not isinstance(source, str):
        raise ConfigurationError(
            f"a prompt template must be a string such as 'Summarize: {{{{ item }}}}', not {source!r:.100}"
        )
    if len(source) > MAX_TEMPLATE_CHARS:
        raise ConfigurationError(f"the template has {len(source)} characters; the limit is {MAX_TEMPLATE_CHARS}")
    return source


def _no_item() -> ConfigurationError:
    return ConfigurationError("the template does not use item; write {{ item }} or {{ item.name }} where it belongs")


def _compile(source: str) -> jinja2.Template:
    from jinja2 import meta
    from jinja2.exceptions import TemplateSyntaxError

    environment = _environment()
    try:
        tree = environment.parse(source)
        for problem in _forbidden_nodes(tree):
            raise ConfigurationError(problem)
        names = meta.find_undeclared_variables(tree) - set(environment.globals)
        if "item" not in names:
            raise _no_item()
        if unknown := ", ".join(sorted(names - {"item"})):
            raise ConfigurationError(f"the template uses unknown variables: {unknown}; the only variable is item")
        return environment.from_string(tree)
    except TemplateSyntaxError as error:
        raise ConfigurationError(f"the template has an error in line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError, SyntaxError, OverflowError) as error:
        raise ConfigurationError(f"the template is nested too deeply: {type(error).__name__}") from error


def _forbidden_nodes(tree: jinja2.nodes.Template) -> Iterator[str]:
    """Raise early for expressions that the sandbox would refuse for every item."""
    from jinja2 import nodes

    for loader in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        yield f"line {loader.lineno}: a template cannot load other templates (include, import, extends)"
    for attribute in tree.find_all(nodes.Getattr):
        if attribute.attr.startswith("__") and attribute.attr.endswith("__"):
            yield f"line {attribute.lineno}: the sandbox does not allow {attribute.attr!r}; templates read data only"


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, cache_size=0
    )
    environment.globals = {name: environment.globals[name] for name in ("range", "dict", "namespace")}
    return environment
