"""Prompt templates: Jinja in its sandbox, checked before anything runs, bounded when it renders.

Templates may come from a model, so they are treated as hostile: no attribute that leads out of the sandbox, no file, and a
limit on the steps, the sizes in between and the length of what comes out. Data is never a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from mnesis.errors import ConfigurationError, MnesisError
from mnesis.operators.compute_limits import TooMuchError, check_time, limited, step

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEMPLATE_CHARACTERS = 1_000_000
MAX_PROMPT_CHARACTERS = 10_000_000
MAX_SIZE = 10_000_000
"""Characters and elements of a value while it is worked on."""
MAX_STEPS = 200_000
"""Rounds of loops and calls of functions while one prompt is made."""
MAX_SECONDS = 2.0
"""Computing time of one prompt."""
MAX_RANGE = 100_000
MAX_BITS = 100_000
MAX_WRAPPED = 100_000
"""Characters that are wrapped into lines: the time for that grows with the square of a word's length."""
MAX_ARGUMENT = 1_000_000
"""Largest number given to a filter or function: as a width or a count it decides how much memory is used."""

_WIDE_FORMAT = re.compile(r"\d{7}|%[^%a-zA-Z]*\*|\{[^{}]+\{")
"""A width of many digits, or one that comes as an argument."""
_DUNDER = re.compile(r"__\w+__")


class TemplateError(MnesisError, ValueError):
    """A template that cannot be rendered for this item."""


class TooLargeError(TemplateError):
    """A template that would take too many steps or too much memory."""


class Template:
    """A prompt template over one variable, `item`. Making it checks it and raises `ConfigurationError`."""

    def __init__(self, source: str) -> None:
        if not isinstance(source, str):
            raise ConfigurationError(
                f"a prompt template is a text such as 'Sum up: {{{{ item }}}}', not {source!r:.100}"
            )
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ConfigurationError(
                f"the template has {len(source)} characters; {MAX_TEMPLATE_CHARACTERS} is the most"
            )
        self.source = source
        self._compiled = _compiled(source)

    def render(self, item: Any) -> str:
        """The prompt for an item. Raises `TemplateError` with what is wrong, and in which line where that is known."""
        from jinja2.exceptions import TemplateError as JinjaError

        pieces, length = [], 0
        try:
            with limited(MAX_STEPS, MAX_SECONDS):
                for piece in self._compiled.generate({"item": item}):
                    length += len(piece)
                    if length > MAX_PROMPT_CHARACTERS:
                        raise TooLargeError(f"the prompt is longer than {MAX_PROMPT_CHARACTERS} characters")
                    pieces.append(piece)
        except TemplateError:
            raise
        except TooMuchError as error:
            raise TooLargeError(f"the template takes {error} for one prompt") from error
        except JinjaError as error:
            raise TemplateError(f"{type(error).__name__}: {error!s:.500}") from error
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            # What the functions and operators of a template can fail with on data they do not suit.
            raise TemplateError(f"{type(error).__name__}: {error!s:.500}") from error
        return "".join(pieces)


def _compiled(source: str) -> Any:
    from jinja2 import meta, nodes
    from jinja2.exceptions import TemplateSyntaxError

    environment = _environment()
    try:
        tree = environment.parse(source)
        _refuse_ways_out(tree, nodes)
        unknown = meta.find_undeclared_variables(tree) - set(environment.globals)
        if "item" not in unknown:
            raise ConfigurationError(
                "the template does not use item; write {{ item }} or {{ item.field }} where it belongs"
            )
        if unknown != {"item"}:
            names = ", ".join(sorted(unknown - {"item"}))
            raise ConfigurationError(f"the template uses unknown variables: {names}; the one there is, is item")
        return environment.from_string(_bounded_tree(tree))
    except TemplateSyntaxError as error:
        raise ConfigurationError(f"the template is wrong in line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError, SyntaxError, OverflowError) as error:
        raise ConfigurationError(f"the template is nested too deep: {type(error).__name__}") from error


def _refuse_ways_out(tree: nodes.Template, nodes: Any) -> None:
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise ConfigurationError(f"line {node.lineno}: a template cannot load others (include, import, extends)")
    for node in tree.find_all(nodes.Getattr):
        _refuse_name(node.attr, node.lineno)
    for node in tree.find_all((nodes.Getitem, nodes.Filter)):
        for constant in node.find_all(nodes.Const):
            _refuse_name(constant.value, constant.lineno)


def _refuse_name(name: object, line: int) -> None:
    if isinstance(name, str) and _DUNDER.search(name):
        raise ConfigurationError(f"line {line}: {name!r:.100} leads out of the sandbox; templates reach data only")


def _bounded_tree(tree: nodes.Template) -> nodes.Template:
    """The template with its loops counted and the values it puts together weighed."""
    from jinja2 import nodes
    from jinja2.visitor import NodeTransformer

    def through(name: str, node: Any) -> nodes.Filter:
        line = node.lineno if node is not None else 1
        return nodes.Filter(node, name, [], [], None, None, lineno=line, environment=tree.environment)

    class Bounds(NodeTransformer):
        def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the name that the visitor calls
            self.generic_visit(node)
            node.iter = through("_counted", node.iter)
            return node

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - as above
            self.generic_visit(node)
            return through("_joined", nodes.List(node.nodes, lineno=node.lineno, environment=tree.environment))

        def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Node:  # noqa: N802 - as above
            self.generic_visit(node)
            return through("_weighed", node)

        visit_Dict = visit_List  # noqa: N815 - as above

        def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 - as above
            self.generic_visit(node)
            return through("_weighed", node) if node.ctx == "load" else node

        def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802 - as above
            self.generic_visit(node)
            inner: Any = node.filter
            outer = through("_weighed", inner)
            outer.lineno = node.lineno
            node.filter = outer
            return node

    bounded: nodes.Template = Bounds().visit(tree)
    return bounded


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.runtime import Context
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"+", "*", "**", "%"})

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            _refuse_large_operation(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def call(self, context: Context, function: Any, /, *arguments: Any, **named: Any) -> Any:
            step()
            arguments = tuple(_tallied(value) for value in arguments)
            _refuse_large_call(function, [*arguments, *named.values()])
            return _weighed(super().call(context, function, *arguments, **named))

    environment = Environment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_weighed, cache_size=0
    )
    environment.filters = {name: _bounded(name, function) for name, function in environment.filters.items()}
    environment.filters |= {"_counted": _counted, "_joined": _joined, "_weighed": _weighed}
    environment.globals = {"range": _range, "dict": dict, "namespace": environment.globals["namespace"]}
    return environment


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        step()
        yield value


def _range(*bounds: int) -> range:
    """As `range`, of a bounded length."""
    made = range(*bounds)
    if len(made) > MAX_RANGE:
        raise TooLargeError(f"range({', '.join(map(str, bounds))}) has more than {MAX_RANGE} numbers")
    return made


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses to begin with what would be too large, and to hand on what became so."""

    @wraps(function)  # also takes over the marks that tell Jinja what to pass
    def bounded(*arguments: Any, **named: Any) -> Any:
        check_time()
        tallied = [_tallied(value) for value in arguments]
        _refuse_large_operands(name, [_weighed(value) for value in (*tallied, *named.values())])
        return _weighed(function(*tallied, **named))

    return bounded


def _tallied(values: Any) -> Any:
    """A generator's values as a list, as long as all of them together stay within bounds; anything else as it is."""
    if not isinstance(values, Iterator):
        return values
    kept, left = [], MAX_SIZE
    for value in values:
        left -= 10 + (len(value) if isinstance(value, str | bytes | list | tuple | dict) else 0)
        if left < 0:
            raise TooLargeError("a sequence too large to be worked on")
        kept.append(value)
    return kept


def _refuse_large_call(function: Any, arguments: list[Any]) -> None:
    method = getattr(function, "__wrapped__", function)  # the sandbox wraps str.format
    owner = getattr(method, "__self__", None)
    if isinstance(owner, str | bytes) and method.__name__ in _UNBOUNDED:
        raise TooLargeError(f"{method.__name__} is not for templates: its time or size has no bounds")
    operands = [owner, *arguments] if isinstance(owner, str | bytes | int) else arguments
    _refuse_large_operands(getattr(method, "__name__", ""), operands)


def _refuse_large_operands(name: str, operands: list[Any]) -> None:
    longest = max((len(operand) for operand in operands if isinstance(operand, str)), default=0)
    if name in _ELEMENTWISE and longest > MAX_SIZE // 10:
        raise TooLargeError(f"{name} of {longest} characters one by one: {MAX_SIZE // 10} is the most")
    if name not in _SIZED:
        return
    for operand in operands:
        _weighed(operand)
        if isinstance(operand, int | float) and abs(operand) > MAX_ARGUMENT and name not in _HARMLESS_NUMBERS:
            raise TooLargeError(f"{name} with {operand:.40g}: {MAX_ARGUMENT} is the most")
        if isinstance(operand, str) and name.startswith("format") and _WIDE_FORMAT.search(operand):
            raise TooLargeError(f"{name} with a width of more than six digits, or one that is computed")
    sizes = sorted(
        (len(operand) for operand in operands if isinstance(operand, str | bytes | list | tuple)), reverse=True
    )
    if name == "wordwrap" and sizes and sizes[0] > MAX_WRAPPED:
        raise TooLargeError(f"wordwrap of {sizes[0]} characters: {MAX_WRAPPED} is the most")
    if name == "sum" and len(sizes) > 1 and not isinstance(operands[-1], str):
        raise TooLargeError("sum of lists: only numbers are added up")
    if name in ("replace", "join") and len(sizes) > 1 and sizes[0] * sizes[1] > 10 * MAX_SIZE:
        raise TooLargeError(f"{name} of {sizes[0]} by {sizes[1]} characters or elements")


_SIZED = frozenset(
    [
        "batch",
        "center",
        "expandtabs",
        "format",
        "format_map",
        "indent",
        "join",
        "ljust",
        "replace",
        "rjust",
        "slice",
        "sum",
        "to_bytes",
        "truncate",
        "wordwrap",
        "zfill",
    ]
)
"""Filters and methods whose operands decide how much they make."""
_ELEMENTWISE = frozenset(
    [
        "batch",
        "groupby",
        "list",
        "map",
        "max",
        "min",
        "reject",
        "rejectattr",
        "select",
        "selectattr",
        "slice",
        "sort",
        "sum",
        "unique",
    ]
)
"""Filters that make a value of each character of a text."""
_UNBOUNDED = frozenset({"decode", "encode", "translate"})
"""Methods of texts that a prompt has no use for and that can take any time or size."""
_HARMLESS_NUMBERS = frozenset({"format", "format_map", "join", "replace", "sum"})
"""Those of them that write numbers as they are; a width that comes as a number is found in the format."""


def _refuse_large_operation(operator: str, left: Any, right: Any) -> None:
    sized = [len(value) for value in (left, right) if isinstance(value, str | bytes | list | tuple)]
    numbers = [abs(value) for value in (left, right) if isinstance(value, int)]
    too_large = (
        (operator == "+" and sum(sized) > MAX_SIZE)
        or (operator == "*" and sized and numbers and sized[0] * numbers[0] > MAX_SIZE)
        or (operator == "*" and sum(number.bit_length() for number in numbers) > MAX_BITS)
        or (operator == "**" and len(numbers) == 2 and numbers[0].bit_length() * numbers[1] > MAX_BITS)
        or (operator == "%" and isinstance(left, str) and (_WIDE_FORMAT.search(left) or "*" in left))
    )
    if too_large:
        raise TooLargeError(f"the result of {operator!r} would be too large")


def _joined(values: list[Any]) -> str:
    """What `~` does."""
    texts = [str(_weighed(value)) for value in values]
    if sum(map(len, texts)) > MAX_SIZE:
        raise TooLargeError(f"a text of more than {MAX_SIZE} characters")
    return "".join(texts)


def _weighed(value: Any) -> Any:
    """The value, if writing it out would stay within bounds; shared parts count each time, as they would in the text."""
    if isinstance(value, str | bytes):
        if len(value) > MAX_SIZE:
            raise TooLargeError(f"a text of {len(value)} characters")
        return value
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise TooLargeError(f"a number of {value.bit_length()} bits")
    if isinstance(value, list | tuple | dict):
        left, waiting = MAX_SIZE // 10, [value]
        while waiting:
            part = waiting.pop()
            left -= 1 + (len(part) // 10 if isinstance(part, str | bytes) else 0)
            if isinstance(part, list | tuple | dict):
                left -= len(part)
                waiting.extend(part.values() if isinstance(part, dict) else part)
            if left < 0:
                raise TooLargeError("a value too large to be written out")
    return value
