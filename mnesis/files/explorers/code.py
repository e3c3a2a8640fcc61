"""Source code other than Python: by its grammar where tree-sitter is installed, else by patterns, and says which."""

from __future__ import annotations

from importlib.util import find_spec

from mnesis.files.explorers.code_patterns import by_patterns
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.outline import MAX_DECLARATIONS, Declaration, Outline, write
from mnesis.files.explorers.report import Report
from mnesis.files.explorers.sandbox import NoAnswerError, ask
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
    write(source, report, kind.label, outline_of(source, kind.file_type))
    return kind


def outline_of(source: Source, language: str) -> Outline:
    """By the grammar, or by patterns with a note that says why."""
    try:
        return _by_grammar(source, language)
    except NoAnswerError as reason:
        outline = by_patterns(language, source.text(MAX_PATTERN_BYTES))
        cut = f", the first {MAX_PATTERN_BYTES:,} bytes" if source.size > MAX_PATTERN_BYTES else ""
        outline.notes.append(f"Read by patterns{cut}: {reason}")
        return outline


def _by_grammar(source: Source, language: str) -> Outline:
    """Raises NoAnswerError."""
    module, function = _GRAMMARS[language]
    if source.size > MAX_PARSED_BYTES:
        raise NoAnswerError(f"it has more than {MAX_PARSED_BYTES:,} bytes")
    if find_spec("tree_sitter") is None or find_spec(module) is None:
        raise NoAnswerError("there is no grammar; pip install 'mnesis[files]'")
    arguments = (source.codec, str(len(source.mark)), module, function, str(MAX_DECLARATIONS))
    found = ask("tree_reader.py", source, *arguments, max_seconds=MAX_PARSE_SECONDS)
    if found["has_error"] and not found["declarations"]:
        raise NoAnswerError("with its syntax errors the grammar finds no declaration")
    notes = ["The code has syntax errors; the rest was read"] if found["has_error"] else []
    return Outline(found["imports"], [Declaration(*one) for one in found["declarations"]], notes)
