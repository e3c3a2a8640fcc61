from __future__ import annotations

import pytest

pytest.importorskip("langchain_core")

from mnesis.testing.adapter_suite import AdapterSuite
from tests.support.drivers.langchain_driver import LangChainDriver


class TestLangChainAdapter(AdapterSuite):
    driver_class = LangChainDriver
