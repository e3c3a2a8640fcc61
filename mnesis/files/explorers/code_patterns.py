"""Outlines of source code by patterns, line by line, so approximate. Pure functions, no I/O."""

from __future__ import annotations

import re

from mnesis.files.explorers.outline import MAX_DECLARATIONS, Declaration, Outline

_MODIFIERS = (
    r"(?:(?:public|private|protected|internal|static|final|abstract|synchronized|native|default|sealed|strictfp)\s+)*"
)
_RUST_HEAD = r"(?:pub(?:\([\w: ]{1,40}\))?\s+)?(?:default\s+)?"
_JS_HEAD = r"(?:export\s+)?(?:default\s+)?(?:declare\s+)?"
_C_TYPE = r"(?:[\w:<>,*&~\[\]]{1,200}[ \t*&]{1,20}){1,8}"

# Each pattern matches a declaration at the beginning of a line, after its indent, and captures its name.
_DECLARATION_PATTERNS = {
    "python": [r"(?:class|(?:async[ \t]+)?def)[ \t]+(?P<name>\w+)[^\n]{0,300}"],
    "javascript": [
        _JS_HEAD + r"(?:async\s+)?function\b\s*\*?\s*(?P<name>[\w$]+)[^\n{]{0,300}",
        _JS_HEAD + r"(?:abstract\s+)?(?:class|interface|enum|namespace|const\s+enum)\s+(?P<name>[\w$.]+)[^\n{]{0,300}",
        _JS_HEAD + r"type\s+(?P<name>[\w$]+)[^\n=]{0,200}=[^\n]{0,200}",
        _JS_HEAD
        + r"(?:const|let|var)\s+(?P<name>[\w$]+)[^\n=]{0,200}=\s*(?:async\s+)?(?:function\b|\([^\n]{0,300}=>|[\w$]+\s*=>)",
        r"(?:(?:public|private|protected|static|async|readonly|override|abstract|get|set)\s+)*(?:\*\s*)?"
        r"(?P<name>#?[\w$]+)\s*(?:<[^\n>]{1,100}>)?\([^\n]{0,300}\)[^\n{;=]{0,100}\{",
        r"(?:(?:public|private|protected|static|abstract|readonly)\s+)*(?P<name>[\w$]+)\??\s*(?:<[^\n>]{1,100}>)?\([^\n)]{0,300}\)\s*:\s*[^\n;={]{1,200};",
    ],
    "java": [
        _MODIFIERS + r"(?:class|interface|enum|record|@interface)\s+(?P<name>\w+)[^\n{]{0,300}",
        _MODIFIERS
        + r"(?:<[^\n>]{1,100}>\s*)?(?:[\w<>\[\].?,&]{1,200}\s+){0,4}(?P<name>\w+)\s*\([^\n;{]{0,300}\)[^\n;{=]{0,200}[{;]",
    ],
    "go": [
        r"func\s+(?:\([^\n)]{0,200}\)\s*)?(?P<name>\w+)[^\n{]{0,300}",
        r"type\s+(?P<name>\w+)[^\n{]{0,200}",
    ],
    "rust": [
        _RUST_HEAD + r'(?:(?:const|async|unsafe|extern(?:\s+"[^"\n]{0,20}")?)\s+)*fn\s+(?P<name>\w+)[^\n{]{0,300}',
        _RUST_HEAD + r"(?:unsafe\s+)?(?:struct|enum|union|trait|mod|type)\s+(?P<name>\w+)[^\n{;]{0,200}",
        r"(?:unsafe\s+)?impl\b(?:<[^\n]{0,100}?>)?\s+(?:[^\n{]{1,200}?\s+for\s+)?(?P<name>[^\n{]{1,200}?)\s*\{",
        r"macro_rules!\s*(?P<name>\w+)",
    ],
    "cpp": [
        r"(?:template\s*<[^\n]{0,200}>\s*)?(?:typedef\s+)?(?:struct|class|union|enum(?:\s+class)?|namespace)\s+(?P<name>[\w:]+)[^\n;{=()]{0,200}\{",
        r"(?:template\s*<[^\n]{0,200}>\s*)?"
        + _C_TYPE
        + r"(?P<name>[\w:~]+|operator[^\n(]{1,10})\s*\([^\n;{]{0,300}\)[^\n;{=]{0,100}(?:[;{]|=\s*(?:0|default|delete)|$)",
        r"(?:explicit\s+|virtual\s+)*(?P<name>~?\w+)\s*\([^\n;{]{0,300}\)\s*(?::[^\n]{0,200})?(?:[;{]|=\s*(?:0|default|delete))",
    ],
}
_IMPORT_PATTERNS = {
    "python": r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import|import[ \t]+([\w.]+))",
    "javascript": r"""^[ \t]*(?:import|export)\b[^\n;'"]{0,500}['"]([^'"\n]{1,200})['"]|\brequire\(\s*['"]([^'"\n]{1,200})['"]""",
    "java": r"^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.*]+)",
    "go": r'^(?:import[ \t]+|[ \t]+)(?:[\w.]+[ \t]+)?"([^"\n]{1,200})"[ \t]*$',
    "rust": r"^[ \t]*(?:pub[ \t]+)?use[ \t]+([^\n;]{1,200})",
    "cpp": r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"\n]{1,200})[>"]',
}
_SAME_PATTERNS = {"typescript": "javascript", "tsx": "javascript", "c": "cpp"}
_KEYWORDS = frozenset(
    {"if", "for", "while", "switch", "catch", "return", "else", "do", "new", "throw", "try", "sizeof", "defined"}
    | {"function", "await", "yield", "super", "this", "assert"}
)
_COMMENT = re.compile(
    r""""(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'|`(?:[^`\\]|\\.)*+`|(?P<comment>/\*(?:[^*]|\*(?!/))*+(?:\*/)?|//[^\n]*+)"""
)


def outline_by_patterns(language: str, text: str) -> Outline:
    """Return imports and declarations. Declarations that span lines are cut after the first."""
    language = _SAME_PATTERNS.get(language, language)
    imports = [
        next(filter(None, match.groups())) for match in re.finditer(_IMPORT_PATTERNS[language], text, re.MULTILINE)
    ]
    code = text if language == "python" else _COMMENT.sub(_remove_comment, text)
    patterns = [re.compile(pattern) for pattern in _DECLARATION_PATTERNS[language]]
    declarations: list[Declaration] = []
    indents: list[int] = []
    for line in code.split("\n"):
        if len(declarations) >= MAX_DECLARATIONS:
            break
        body = line.lstrip()
        match = next(filter(None, (pattern.match(body[:1000]) for pattern in patterns)), None)
        if match and _is_declaration(match):
            depth = _depth(indents, len(line) - len(body))
            declarations.append(Declaration(depth, match["name"].strip(), match.group().rstrip(" {;:")))
    return Outline(list(dict.fromkeys(imports)), declarations, [])


def _is_declaration(match: re.Match[str]) -> bool:
    first = re.split(r"[\s(]", match.group(), maxsplit=1)[0]
    return match["name"] not in _KEYWORDS and first not in _KEYWORDS - {"function"}


def _remove_comment(match: re.Match[str]) -> str:
    comment = match["comment"]
    return match.group() if comment is None else "\n" * comment.count("\n")


def _depth(indents: list[int], indent: int) -> int:
    while indents and indents[-1] >= indent:
        indents.pop()
    indents.append(indent)
    return len(indents) - 1
