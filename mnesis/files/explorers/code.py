"""Explorer of source code other than Python: by grammar if tree-sitter is installed, otherwise by patterns."""

from __future__ import annotations

from importlib.util import find_spec

from mnesis.files.explorers.code_patterns import outline_by_patterns
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.outline import MAX_DECLARATIONS, Declaration, Outline, write_outline
from mnesis.files.explorers.report import Report
from mnesis.files.explorers.sandbox import ParserFailedError, run_in_sandbox
from mnesis.files.explorers.source import Source

MAX_PARSED_BYTES = 1 << 20
MAX_PATTERN_BYTES = 4 << 20
MAX_PARSE_SECONDS = 5.0

_GRAMMARS = {
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "go": ("tree_sitter_go", "language"),
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "tsx": ("tree_sitter_typescript", "language_tsx"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
}


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    write_outline(source, report, kind.label, build_outline(source, kind.file_type))
    return kind


def build_outline(source: Source, language: str) -> Outline:
    """Build an outline by grammar, or by patterns with a note that gives the reason."""
    try:
        return _parse_with_grammar(source, language)
    except ParserFailedError as reason:
        outline = outline_by_patterns(language, source.read_text(MAX_PATTERN_BYTES))
        cut = f", the first {MAX_PATTERN_BYTES:,} bytes" if source.size_bytes > MAX_PATTERN_BYTES else ""
        outline.notes.append(f"Read by patterns{cut}: {reason}")
        return outline


def _parse_with_grammar(source: Source, language: str) -> Outline:
    """Raises `ParserFailedError`."""
    module, function = _GRAMMARS[language]
    if source.size_bytes > MAX_PARSED_BYTES:
        raise ParserFailedError(f"it has more than {MAX_PARSED_BYTES:,} bytes")
    if find_spec("tree_sitter") is None or find_spec(module) is None:
        raise ParserFailedError("there is no grammar; pip install 'mnesis-context[files]'")
    arguments = (source.codec, str(len(source.byte_order_mark)), module, function, str(MAX_DECLARATIONS))
    answer = run_in_sandbox("tree_reader.py", source, *arguments, max_seconds=MAX_PARSE_SECONDS)
    if answer["has_error"] and not answer["declarations"]:
        raise ParserFailedError("with its syntax errors the grammar finds no declaration")
    notes = ["The code has syntax errors; the rest was read"] if answer["has_error"] else []
    return Outline(answer["imports"], [Declaration(*one) for one in answer["declarations"]], notes)
