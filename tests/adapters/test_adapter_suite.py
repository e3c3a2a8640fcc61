"""The conformance suite of adapters, for the four adapters of this repository."""

from __future__ import annotations

import pytest

pytest.importorskip("agents")
pytest.importorskip("langchain_core")
pytest.importorskip("llama_index.core")
pytest.importorskip("pydantic_ai")

from mnesis.testing.adapter_suite import AdapterSuite
from tests.support.drivers.agents_driver import AgentsDriver
from tests.support.drivers.langchain_driver import LangChainDriver
from tests.support.drivers.llamaindex_driver import LlamaIndexDriver
from tests.support.drivers.pydantic_ai_driver import PydanticAIDriver

# Histories of earlier versions of Pydantic AI contain these parts.
pytestmark = pytest.mark.filterwarnings("ignore:.*RetryPromptPart.*")


class TestLangChain(AdapterSuite):
    driver_class = LangChainDriver


class TestLlamaIndex(AdapterSuite):
    driver_class = LlamaIndexDriver


class TestAgentsSdk(AdapterSuite):
    driver_class = AgentsDriver


class TestPydanticAI(AdapterSuite):
    driver_class = PydanticAIDriver
