"""Detection of file types: by the first bytes, then by the name, then by the form of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from mnesis.files.explorers.source import Source


@dataclass(frozen=True, slots=True)
class Kind:
    """A file type: `file_type` is its short name, `label` its name in a sentence, `module` the explorer that reads it."""

    file_type: str
    label: str
    module: str
    is_prose: bool = False


KINDS = {
    kind.file_type: kind
    for kind in (
        Kind("binary", "binary data", "binary"),
        Kind("c", "C source", "code"),
        Kind("cpp", "C++ source", "code"),
        Kind("csv", "CSV", "table"),
        Kind("empty", "an empty file", "binary"),
        Kind("go", "Go source", "code"),
        Kind("html", "HTML", "html", is_prose=True),
        Kind("java", "Java source", "code"),
        Kind("javascript", "JavaScript source", "code"),
        Kind("json", "JSON", "json_document"),
        Kind("jsonl", "JSON Lines", "json_lines"),
        Kind("log", "a log", "text"),
        Kind("markdown", "Markdown", "markdown", is_prose=True),
        Kind("pdf", "PDF", "pdf", is_prose=True),
        Kind("python", "Python source", "python"),
        Kind("rust", "Rust source", "code"),
        Kind("sqlite", "an SQLite database", "sqlite"),
        Kind("tar", "a tar archive", "archive"),
        Kind("text", "plain text", "text", is_prose=True),
        Kind("toml", "TOML", "toml"),
        Kind("tsv", "TSV", "table"),
        Kind("tsx", "TypeScript source with JSX", "code"),
        Kind("typescript", "TypeScript source", "code"),
        Kind("xml", "XML", "xml"),
        Kind("yaml", "YAML", "yaml"),
        Kind("zip", "a zip archive", "archive"),
    )
}

_SUFFIXES = {
    "c": "c h",
    "cpp": "cc cpp cxx c++ hh hpp hxx ipp",
    "csv": "csv",
    "go": "go",
    "html": "html htm xhtml",
    "java": "java",
    "javascript": "js mjs cjs jsx",
    "json": "json geojson ipynb webmanifest",
    "jsonl": "jsonl ndjson jsonlines",
    "markdown": "md markdown mdx",
    "python": "py pyi pyw",
    "rust": "rs",
    "toml": "toml",
    "tsv": "tsv tab",
    "tsx": "tsx",
    "typescript": "ts mts cts",
    "xml": "xml svg xsd xsl xslt rss atom plist kml gpx",
    "yaml": "yaml yml",
}
_BY_SUFFIX = {f".{suffix}": kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
_SHEBANG = {"python": "python", "node": "javascript", "deno": "typescript"}
_MARKDOWN_LINE = re.compile(r"#{1,6} \S|```|\[[^\]\n]{1,80}\]\(")
_YAML_LINE = re.compile(r"(?:- )?[A-Za-z_][\w.-]{0,60}:(?: |$)|- \S|---$|#")


def detect_kind(source: Source, name: str, *, as_plain: bool = False) -> Kind:
    """Detect the type of a file. With `as_plain`, it is only classified as text or bytes."""
    if as_plain:
        return KINDS["text" if source.encoding else "binary"]
    if not source.size_bytes:
        return KINDS["empty"]
    return KINDS[_type_by_magic(source) or (_text_type(source, name) if source.encoding else "binary")]


def _type_by_magic(source: Source) -> str | None:
    head = source.head
    if head.startswith(b"SQLite format 3\0"):
        return "sqlite"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    return "pdf" if head[:1024].lstrip(b"\0\t\r\n \xef\xbb\xbf").startswith(b"%PDF-") else None


def _text_type(source: Source, name: str) -> str:
    suffix = PurePath(name.strip().lower()).suffix
    return _BY_SUFFIX.get(suffix) or sniff(source.read_text(1 << 15))


def sniff(text: str) -> str:
    """Return the type of text by its beginning, if the name does not determine it."""
    body = text.lstrip()
    first_line = body[:500].split("\n", 1)[0]
    if body.startswith("#!"):
        return next((kind for word, kind in _SHEBANG.items() if word in first_line), "text")
    if body.startswith("<"):
        return _markup_type(body[:1000].lower())
    if body.startswith(("{", "[")) and (json_type := _json_type(body)):
        return json_type
    return _type_by_lines([line for line in text.splitlines()[:50] if line.strip()])


def _markup_type(head: str) -> str:
    if head.startswith("<?xml"):
        return "xml"
    return "html" if "<!doctype html" in head or re.search(r"<(?:html|head|body|div|p)\b", head) else "text"


def _json_type(body: str) -> str | None:
    lines = [line.strip() for line in body.splitlines()[:20] if line.strip()]
    whole = [line for line in lines if line[0] + line[-1] in ("{}", "[]")]
    if len(lines) > 1 and len(whole) >= len(lines) - 1 and re.match(r'\{\s*"', lines[0]):
        return "jsonl"
    return (
        "json"
        if re.match(r'\{\s*(?:"|\}|$)|\[\s*(?:["{\[\]\d\-tfn]|$)', body[:2000]) and not _looks_like_log(body)
        else None
    )


def _looks_like_log(body: str) -> bool:
    """Return whether text such as `[2026-01-01 …] …` or `[info] …` is a log, although it begins like JSON."""
    return bool(re.match(r"\[[^\]\[{}\"\n]{1,60}\][ \t]*[^\s,\]]", body))


def _type_by_lines(lines: list[str]) -> str:
    if delimiter := _find_delimiter(lines):
        return "tsv" if delimiter == "\t" else "csv"
    marked = sum(1 for line in lines if _MARKDOWN_LINE.match(line))
    if marked >= 3 and any(line.startswith("#") for line in lines):
        return "markdown"
    if len(lines) > 2 and lines[0] == "---" and all(_YAML_LINE.match(line.lstrip()) for line in lines[:10]):
        return "yaml"
    return "text"


def _find_delimiter(lines: list[str]) -> str | None:
    """Return a delimiter that splits three or more lines into the same number of short fields, or None."""
    if len(lines) < 3:
        return None
    lines = lines[:-1] or lines
    for delimiter in "\t,;|":
        counts = {line.count(delimiter) for line in lines}
        is_even = len(counts) == 1 and counts.pop() >= (2 if delimiter in ",;" else 1)
        if is_even and not any(re.search(r"[,;]\s", line) for line in lines[:3]):
            return delimiter
    return None
