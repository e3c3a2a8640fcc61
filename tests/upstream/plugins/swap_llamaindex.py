"""A pytest plugin: the memories of LlamaIndex's tests, chat engines and agents are memories of mnesis."""

from __future__ import annotations

import sys
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

from llama_index.core.memory import ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory
from llama_index.memory.mnesis import MnesisMemory
from llama_index.memory.mnesis.keywords import REPLACEMENTS

from mnesis import Engine


class SwappedMemory(MnesisMemory):
    """A memory in a database of its own, with the keywords that a program removes when it changes the constructor."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{name: value for name, value in fields.items() if name not in REPLACEMENTS})
        if not self.database:
            self._attach(Engine(":memory:"), owns_engine=True)

    @classmethod
    def from_defaults(cls, *arguments: Any, **keywords: Any) -> MnesisMemory:
        """Return a memory in memory."""
        names = {"summarizer_llm": "llm", "token_limit_full_text": "token_limit"}
        kept = {names.get(name, name): value for name, value in keywords.items() if name not in REPLACEMENTS}
        return super().from_defaults(*arguments, **{"engine": Engine(":memory:"), **kept})


SWAPPED = (ChatMemoryBuffer, ChatSummaryMemoryBuffer, Memory)


def _swap(value: object) -> object:
    return SwappedMemory if any(value is each for each in SWAPPED) else value


def _functions(module: ModuleType) -> list[FunctionType]:
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    members = [member for each in classes for member in vars(each).values()]
    return [function for each in members if isinstance(function := getattr(each, "__func__", each), FunctionType)]


# Chat engines and agents import the classes, and have them as defaults of parameters.
for name in ("agent.workflow", "chat_engine"):
    import_module(f"llama_index.core.{name}")
for module in [each for name, each in sys.modules.items() if name.startswith("llama_index.core")]:
    for name, value in list(vars(module).items()):
        if _swap(value) is not value and not name.startswith("_"):
            setattr(module, name, SwappedMemory)
    for function in _functions(module):
        if function.__defaults__:
            function.__defaults__ = tuple(_swap(default) for default in function.__defaults__)
