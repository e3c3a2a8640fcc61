"""Explorer of Python source: by syntax tree, or by patterns if it is too large or does not parse."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator

from mnesis.files.explorers.code_patterns import outline_by_patterns
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.outline import MAX_DECLARATIONS, Declaration, Outline, write_outline
from mnesis.files.explorers.report import Report, clean_line
from mnesis.files.explorers.source import Source

MAX_PARSED_BYTES = 400_000
"""A syntax tree takes about 250 times the size of its source, and the parser holds the GIL while it runs."""
MAX_PATTERN_BYTES = 4 << 20

_FILE_NAME = "<explored python file>"
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]+")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    write_outline(source, report, kind.label, _build_outline(source))
    return kind


def _build_outline(source: Source) -> Outline:
    if source.size_bytes > MAX_PARSED_BYTES:
        return _outline_by_patterns(source, f"Too large to parse (over {MAX_PARSED_BYTES:,} bytes)")
    try:
        return _outline_from_tree(_parse(source.read_text(MAX_PARSED_BYTES)))
    # ValueError: null bytes. MemoryError: the parser fails on deep nesting. RecursionError: the compiler does.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as failure:
        return _outline_by_patterns(
            source, f"Does not parse ({clean_line(f'{type(failure).__name__}: {failure}', 120)})"
        )


def _outline_by_patterns(source: Source, reason: str) -> Outline:
    outline = outline_by_patterns("python", source.read_text(MAX_PATTERN_BYTES))
    cut = f", the first {MAX_PATTERN_BYTES:,} bytes" if source.size_bytes > MAX_PATTERN_BYTES else ""
    outline.notes.append(f"{reason}: read by patterns{cut}")
    return outline


def _parse(text: str) -> ast.Module:
    # The parser warns about invalid escapes in the user's code. Adding the filter again has no effect; a context manager
    # that restores the filters would not be thread-safe.
    warnings.filterwarnings("ignore", module=re.escape(_FILE_NAME))
    return ast.parse(text, _FILE_NAME)


def _outline_from_tree(module: ast.Module) -> Outline:
    return Outline(
        imports=_imports(module),
        declarations=list(_declarations(module.body, 0))[:MAX_DECLARATIONS],
        notes=[],
        docstring=_first_doc_line(module),
        constants=tuple(_constants(module)),
    )


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a block and of nested `if`, `try` and `with` blocks."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.TryStar | ast.With):
            handlers = getattr(node, "handlers", ())
            yield from _statements([*node.body, *(each for handler in handlers for each in handler.body)])
            yield from _statements([*getattr(node, "orelse", ()), *getattr(node, "finalbody", ())])


def _imports(module: ast.Module) -> list[str]:
    names: list[str] = []
    for node in _statements(module.body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            names += [dots + node.module] if node.module else [dots + alias.name for alias in node.names]
    return list(dict.fromkeys(names))


def _constants(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and _CONSTANT.fullmatch(target.id):
                yield target.id


def _declarations(body: list[ast.stmt], depth: int) -> Iterator[Declaration]:
    for node in _statements(body):
        if isinstance(node, ast.ClassDef):
            yield Declaration(depth, node.name, _declaration_text(node, f"class {node.name}{_bases(node)}"))
            yield from _declarations(node.body, depth + 1)
        elif isinstance(node, _Function):
            yield Declaration(depth, node.name, _declaration_text(node, _signature(node)))


def _declaration_text(node: ast.ClassDef | _Function, text: str) -> str:
    decorators = "".join(f"@{clean_line(ast.unparse(one), 40)} " for one in node.decorator_list[:3])
    doc = _first_doc_line(node)
    return f"{decorators}{clean_line(text, 140)}{f' — {doc}' if doc else ''}"


def _bases(node: ast.ClassDef) -> str:
    bases = [ast.unparse(one) for one in [*node.bases, *node.keywords]]
    return f"({', '.join(bases)})" if bases else ""


def _signature(node: _Function) -> str:
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{word} {node.name}({ast.unparse(node.args)}){returns}"


def _first_doc_line(node: ast.Module | ast.ClassDef | _Function) -> str:
    doc = ast.get_docstring(node, clean=False) or ""
    return (
        clean_line(doc.strip().split("\n\n", 1)[0], 100)
        if isinstance(node, ast.Module)
        else clean_line(doc.strip().split("\n", 1)[0], 80)
    )
