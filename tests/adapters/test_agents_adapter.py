from __future__ import annotations

import pytest

pytest.importorskip("agents")

from mnesis.testing.adapter_suite import AdapterSuite
from tests.support.drivers.agents_driver import AgentsDriver


class TestAgentsSdkAdapter(AdapterSuite):
    driver_class = AgentsDriver
