"""mnesis: a lossless context engine for LLM conversations.

Every message is stored verbatim in an append-only log. The model receives a compact view of the log that always fits its
window. Everything the view leaves out can be found and read again. Start with `MnesisSession`; `Engine` is what several
sessions share.

Importing the package loads no other module: `__init__.pyi` lists each public name with its module, for type checkers
and for `__getattr__`, which imports a name at its first use.
"""

import os
from importlib import import_module, util
from typing import Any


def _read_stub() -> dict[str, str]:
    """Return the module of each public name, from the lines `from module import name as name` of the stub."""
    with open(os.path.join(os.path.dirname(__file__), "__init__.pyi"), encoding="utf-8") as stub:
        lines = [line.split() for line in stub]
    return {words[3]: words[1] for words in lines if len(words) == 6 and words[0] == "from"}


_MODULES = _read_stub()
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    elif not name.startswith("_") and util.find_spec(f"mnesis.{name}") is not None:
        value = import_module(f"mnesis.{name}")
    else:
        raise AttributeError(f"module 'mnesis' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mnesis-context")
    except PackageNotFoundError:
        return "0+unknown"
