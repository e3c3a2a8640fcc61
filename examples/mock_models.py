"""Models of the frameworks for the examples: real ones, or mocks that need no key with MNESIS_MOCK_LLM=1."""

import json
import os
import re
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


def agents_model(tool: str, argument: str) -> Any:
    """Return a model for the OpenAI Agents SDK. The mock calls `tool` with the number in the question, then answers."""
    if not MOCK:
        return model_name("gpt-4o")
    from agents import Model, ModelResponse, Usage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    class CallingModel(Model):
        async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **named: Any) -> ModelResponse:
            last = {"role": "user", "content": input} if isinstance(input, str) else input[-1]
            if last.get("role") == "user":
                number = re.findall(r"\d+", last["content"])[-1]
                arguments = json.dumps({argument: int(number)})
                call = ResponseFunctionToolCall(
                    type="function_call", call_id=f"call_{number}", name=tool, arguments=arguments
                )
                return ModelResponse(output=[call], usage=Usage(), response_id=None)
            text = str(last["output"]).partition(". ")[0] + "."
            content = ResponseOutputText(type="output_text", text=text, annotations=[])
            reply = ResponseOutputMessage(
                type="message", id="msg", role="assistant", status="completed", content=[content]
            )
            return ModelResponse(output=[reply], usage=Usage(), response_id=None)

        def stream_response(self, *rest: Any, **named: Any) -> Any:
            raise NotImplementedError

    return CallingModel()


def pydantic_ai_model() -> Any:
    """Return a Pydantic AI model. The mock calls the first tool with the number in the question, then answers."""
    if not MOCK:
        return model_name("openai:gpt-4o")
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        last = messages[-1].parts[-1]
        if isinstance(last, ToolReturnPart):
            return ModelResponse(parts=[TextPart(str(last.content).partition(". ")[0] + ".")])
        tool = info.function_tools[0]
        number = int(re.findall(r"\d+", str(getattr(last, "content", "")))[-1])
        (argument,) = tool.parameters_json_schema["properties"]
        return ModelResponse(parts=[ToolCallPart(tool.name, {argument: number})])

    return FunctionModel(answer)
