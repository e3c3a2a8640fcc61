"""What a type checker sees in code that uses mnesis."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import get_args

import pytest
from pydantic import BaseModel

from mnesis import config

GROUPS = [
    kind
    for kind in vars(config).values()
    if isinstance(kind, type)
    and issubclass(kind, BaseModel)
    and kind.__module__ == config.__name__
    and kind.model_fields
]


def parts(kind: type[BaseModel]) -> list[str]:
    """Return the fields of a group of settings that are groups themselves, so that a dict is accepted."""
    fields = kind.model_fields.items()
    return [name for name, field in fields if {field.annotation, *get_args(field.annotation)} & set(GROUPS)]


@pytest.mark.parametrize("kind", [kind for kind in GROUPS if parts(kind)], ids=lambda kind: kind.__name__)
def test_type_checkers_see_every_group_of_settings(kind: type[BaseModel]) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    (stub,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    assert [argument.arg for argument in stub.args.kwonlyargs] == list(kind.model_fields)
    for argument in stub.args.kwonlyargs:
        if argument.arg in parts(kind):
            assert "Mapping[str, Any]" in ast.unparse(argument.annotation or ast.Constant(None))
