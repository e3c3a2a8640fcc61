"""Imports and declarations of a source file, by its tree-sitter grammar. Run in `sandbox_child`.

It runs in a child process, because hostile code can make a generated parser take gigabytes. It does not import mnesis.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, BinaryIO

_MAX_DEPTH = 4
MAX_IMPORTS = 1_000
_TEXT_BYTES = 300

# Types of nodes that declare something, in the grammars of all these languages.
_DECLARATIONS = frozenset(
    """
    abstract_class_declaration abstract_method_signature alias_declaration annotation_type_declaration class_declaration
    class_specifier const_item constructor_declaration enum_declaration enum_item enum_specifier function_declaration
    function_definition function_item function_signature function_signature_item generator_function_declaration impl_item
    interface_declaration internal_module macro_definition method_declaration method_definition method_signature mod_item module
    namespace_definition record_declaration static_item struct_item struct_specifier trait_item type_alias
    type_alias_declaration type_definition type_item type_spec union_item union_specifier
    """.split()  # noqa: SIM905 - thirty words, one to a line, hide what follows
)
# Types of nodes that declare something only in some cases: prototypes, functions in variables and fields.
_MEMBERS = frozenset({"field_definition", "public_field_definition", "variable_declarator"})
_POSSIBLE_DECLARATIONS = frozenset({"declaration", "field_declaration"}) | _MEMBERS
_TRANSPARENT = frozenset(
    """
    ERROR ambient_declaration declaration_list enum_body_declarations export_statement expression_statement lexical_declaration
    linkage_specification preproc_else preproc_if preproc_ifdef template_declaration type_declaration variable_declaration
    """.split()  # noqa: SIM905 - thirty words, one to a line, hide what follows
)
_BODIES = frozenset(
    """
    annotation_type_body class_body declaration_list enum_body enum_body_declarations field_declaration_list interface_body
    object_type
    """.split()  # noqa: SIM905 - thirty words, one to a line, hide what follows
)
_IMPORTS = frozenset(
    {"extern_crate_declaration", "import_declaration", "import_statement", "preproc_include", "use_declaration"}
)
_STRUCTURES = frozenset({"struct_specifier", "union_specifier", "enum_specifier", "class_specifier"})
_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function"})


def answer(
    file: BinaryIO, codec: str, skip_bytes: str, module: str, function: str, max_declarations: str
) -> dict[str, object]:
    """Parse a file, without its byte order mark, in the language that `module.function()` returns."""
    tree_sitter = import_module("tree_sitter")
    parser = tree_sitter.Parser(tree_sitter.Language(getattr(import_module(module), function)()))
    code = file.read()[int(skip_bytes) :].decode(codec, "replace").encode("utf-8", "replace")
    root = parser.parse(code).root_node
    imports, declarations = _walk(root, code, int(max_declarations))
    return {"imports": imports[:MAX_IMPORTS], "declarations": declarations, "has_error": root.has_error}


def _walk(root: Any, code: bytes, max_declarations: int) -> tuple[list[str], list[tuple[int, str, str]]]:
    """Return the imports, and (depth, name, head) of the declarations."""
    imports: list[str] = []
    declarations: list[tuple[int, str, str]] = []
    todo = [(root, 0)]
    while todo and len(declarations) < max_declarations:
        node, depth = todo.pop()
        inside = node if node is root or node.type in _TRANSPARENT or node.type in _BODIES else None
        if node.type in _IMPORTS or (node.type == "export_statement" and node.child_by_field_name("source")):
            imports += _import_names(node, code)
        elif _is_declaration(node):
            declarations.append((depth, _name(node, code), _head(node, code)))
            inside, depth = _body(node), depth + 1
        if inside is not None and depth < _MAX_DEPTH:
            todo += [(child, depth) for child in reversed(inside.named_children)]
    return list(dict.fromkeys(imports)), declarations


def _is_declaration(node: Any) -> bool:
    if node.type not in _POSSIBLE_DECLARATIONS:
        # `struct point p;` uses a structure that is declared elsewhere.
        return node.type in _DECLARATIONS and (
            node.type not in _STRUCTURES or node.child_by_field_name("body") is not None
        )
    if node.type in _MEMBERS:
        value = node.child_by_field_name("value")
        return value is not None and value.type in _FUNCTIONS
    type_ = node.child_by_field_name("type")
    if type_ is not None and type_.type in _STRUCTURES and type_.child_by_field_name("body") is not None:
        return True
    return _function_declarator(node) is not None


def _function_declarator(node: Any) -> Any:
    """Return the part of a C declaration with the function name and parameters, below pointers and references."""
    for _ in range(8):
        node = node.child_by_field_name("declarator") or _get_referent(node)
        if node is None or node.type == "function_declarator":
            return node
    return None


def _get_referent(node: Any) -> Any:
    return node.named_children[0] if node.type == "reference_declarator" and node.named_children else None


def _body(node: Any) -> Any:
    body = node.child_by_field_name("body") or _typed_body(node)
    if body is None:
        return None
    return body if body.type in _BODIES or node.type in ("internal_module", "module") else None


def _typed_body(node: Any) -> Any:
    """Return the body of the type in a typedef or type specification."""
    type_ = (
        node.child_by_field_name("type")
        if node.type in ("field_declaration", "declaration", "type_definition", "type_spec")
        else None
    )
    return None if type_ is None else type_.child_by_field_name("body")


def _text(node: Any, code: bytes, end: int | None = None) -> str:
    return code[node.start_byte : min(node.end_byte if end is None else end, node.start_byte + _TEXT_BYTES)].decode(
        "utf-8", "replace"
    )


def _head(node: Any, code: bytes) -> str:
    """Return the text of a declaration up to its body."""
    value = node.child_by_field_name("value") if node.type in _MEMBERS else None
    body = (node if value is None else value).child_by_field_name("body") or _typed_body(node)
    text = (
        _text(node, code, None if body is None else body.start_byte)
        .strip()
        .rstrip("{;=")
        .rstrip()
        .removesuffix("=>")
        .rstrip()
    )
    if node.type == "type_definition" and body is not None:
        return f"{text} {_name(node, code)}"
    return f"type {text}" if node.type in ("type_alias", "type_spec") else text


def _name(node: Any, code: bytes) -> str:
    function = _function_declarator(node)
    named = node.child_by_field_name("name") if function is None else function.child_by_field_name("declarator")
    if named is None:
        field = {"field_definition": "property", "impl_item": "type"}.get(node.type, "declarator")
        named = node.child_by_field_name(field) or node
    return " ".join(_text(named, code).split())


def _import_names(node: Any, code: bytes) -> list[str]:
    named = (
        node.child_by_field_name("source") or node.child_by_field_name("path") or node.child_by_field_name("argument")
    )
    if named is not None:
        return [_text(named, code).strip("\"'<>")]
    specs = [child for child in node.named_children if child.type in ("import_spec", "import_spec_list")]
    specs = [
        spec for group in specs for spec in (group.named_children if group.type == "import_spec_list" else [group])
    ]
    if specs:
        paths = [spec.child_by_field_name("path") for spec in specs]
        return [_text(path, code).strip('"') for path in paths if path is not None]
    return [_text(child, code) for child in node.named_children if "identifier" in child.type][:1]
