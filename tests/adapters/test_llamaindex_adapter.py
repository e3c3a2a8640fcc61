from __future__ import annotations

import pytest

pytest.importorskip("llama_index.core")

from mnesis.testing.adapter_suite import AdapterSuite
from tests.support.drivers.llamaindex_driver import LlamaIndexDriver


class TestLlamaIndexAdapter(AdapterSuite):
    driver_class = LlamaIndexDriver
