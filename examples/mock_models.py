"""LangChain and LlamaIndex models for the examples: real ones, or mocks that need no key with MNESIS_MOCK_LLM=1."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

MOCK = os.environ.get("MNESIS_MOCK_LLM") == "1"


def model_name(default: str) -> str:
    """Return the model given on the command line, or the default."""
    return sys.argv[1] if len(sys.argv) > 1 else default


def langchain_model(script: Sequence[Any]) -> Any:
    """Return a LangChain chat model. The mock replies with the texts or messages in `script`, in order."""
    if not MOCK:
        from langchain.chat_models import init_chat_model

        return init_chat_model(model_name("anthropic:claude-opus-4-6"))
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    class ScriptedModel(GenericFakeChatModel):
        messages: Iterator[Any]

        def bind_tools(self, tools: Any, **kwargs: Any) -> "ScriptedModel":
            return self

    return ScriptedModel(messages=iter([AIMessage(each) if isinstance(each, str) else each for each in script]))


def llamaindex_model(script: Sequence[Any]) -> Any:
    """Return a LlamaIndex function-calling model. The mock replies with the texts or messages in `script`, in order."""
    if not MOCK:
        from llama_index.llms.openai import OpenAI  # pip install llama-index-llms-openai

        return OpenAI(model=model_name("gpt-4o"))
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.llms.mock import MockFunctionCallingLLM

    lines = iter([ChatMessage(role="assistant", content=each) if isinstance(each, str) else each for each in script])
    return MockFunctionCallingLLM(is_chat_model=True, response_generator=lambda _messages, **_: next(lines))
