"""Fakes and conformance suites for the tests of code that uses mnesis."""

from mnesis.testing.events import EventRecorder
from mnesis.testing.llm import FailAfter, ScriptedLLM

__all__ = ["EventRecorder", "FailAfter", "ScriptedLLM"]
