"""Fakes for the tests of whoever builds on mnesis."""

from mnesis.testing.events import EventRecorder
from mnesis.testing.llm import FailAfter, ScriptedLLM

__all__ = ["EventRecorder", "FailAfter", "ScriptedLLM"]
