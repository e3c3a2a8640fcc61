"""Types that annotations name, in modules that load them only when somebody evaluates the annotations."""

from __future__ import annotations

from typing import Any, ForwardRef


def declare_late_types(namespace: dict[str, Any], names: dict[str, str]) -> None:
    """Let `typing.get_type_hints` find `names`, a space-separated list for each module, in a module's `namespace`.

    Importing the classes for annotations alone would double the time of `from mnesis import MnesisSession`, and without
    a name `get_type_hints` raises a NameError. `get_type_hints` evaluates each `ForwardRef`:
    https://docs.python.org/3/library/typing.html#typing.ForwardRef
    """
    for module, classes in names.items():
        for name in classes.split():
            namespace[name] = ForwardRef(f"__import__('importlib').import_module({module!r}).{name}")
