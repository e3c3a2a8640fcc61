from __future__ import annotations

import pytest

pytest.importorskip("pydantic_ai")

from mnesis.testing.adapter_suite import AdapterSuite
from tests.support.drivers.pydantic_ai_driver import PydanticAIDriver

# Histories of earlier versions of Pydantic AI contain these parts.
pytestmark = pytest.mark.filterwarnings("ignore:.*RetryPromptPart.*")


class TestPydanticAIAdapter(AdapterSuite):
    driver_class = PydanticAIDriver
