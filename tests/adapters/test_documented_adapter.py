"""The adapter of docs/adapters.md keeps the promises of an adapter."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnesis.testing.adapter_suite import AdapterSuite
from tests.docs.pages import python_blocks

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
# The other adapters run these with processes and cancellations, which depend on the session pool alone.
PROMISES = sorted(
    name
    for name in vars(AdapterSuite)
    if name.startswith("test_") and "process" not in name and "cancelled" not in name
)


@pytest.fixture(scope="module")
def documented_suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[AdapterSuite]]:
    """The test class of the page. Its module can be imported, so that its adapter can be pickled."""
    path = tmp_path_factory.mktemp("page") / "documented_adapter.py"
    adapter, driver = (block.text for block in python_blocks(PAGE)[:2])
    path.write_text(adapter.replace("asyncio.run(main())", "") + "\n" + driver, "utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    yield module.TestMyMemory
    del sys.modules[path.stem]


@pytest.mark.parametrize("name", PROMISES)
async def test_the_documented_adapter_keeps_its_promises(
    name: str, documented_suite: type[AdapterSuite], tmp_path: Path
) -> None:
    promise: Any = getattr(documented_suite(), name)
    await promise(tmp_path)
