"""`typing.get_type_hints` works on every public function and method, as frameworks need it that build tools from signatures."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

PACKAGES = (
    "mnesis",
    "mnesis.events",
    "mnesis.mcp",
    "mnesis.telemetry",
    "mnesis.sync",
    "mnesis.testing",
    "langchain_mnesis",
    "llama_index.memory.mnesis",
    "agents_mnesis",
    "pydantic_ai_mnesis",
)
OURS = ("mnesis", "langchain_mnesis", "llama_index.memory.mnesis", "agents_mnesis", "pydantic_ai_mnesis")


def public_functions(package: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions of a package, and the methods and properties of its classes."""
    module = import_module(package)
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    for name in names:
        thing = getattr(module, name)
        if inspect.isfunction(thing) and thing.__module__.startswith(OURS):
            yield name, thing
        elif inspect.isclass(thing) and thing.__module__.startswith(OURS):
            for member, value in inspect.getmembers_static(thing):
                function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
                is_public = member == "__init__" or not member.startswith("_")
                if is_public and inspect.isfunction(function) and function.__module__.startswith(OURS):
                    yield f"{name}.{member}", function


@pytest.mark.parametrize("package", PACKAGES)
def test_hints_of_every_public_function_can_be_read(package: str) -> None:
    failed = {}
    for name, function in public_functions(package):
        try:
            typing.get_type_hints(function)
        except Exception as error:
            failed[name] = repr(error)
    assert failed == {}


def test_hints_are_the_classes_also_before_a_first_session() -> None:
    code = """
import typing
from mnesis import MnesisSession
hints = typing.get_type_hints(MnesisSession.messages)
from mnesis import Message
assert hints["return"] == list[Message], hints
hints = typing.get_type_hints(MnesisSession.budget.fget)
from mnesis import Budget
assert hints["return"] is Budget, hints
"""
    subprocess.run([sys.executable, "-c", code], check=True)
